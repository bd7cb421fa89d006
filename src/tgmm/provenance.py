"""Snakemake's memory of how files were made, in one file beside those of a scale, so that both travel together.

Snakemake holds a record of every file that it made, those of all scales in one folder of its own, and makes again what
has none. DVC brings files only, so the records of a scale's files stand in `results/<scale>/provenance.json.gz`:
written at the end of every run, and taken up at the beginning of one that finds the file newer than its own records.
"""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tgmm.errors import UserError
from tgmm.files import parse_json, write_atomically

RECORDS = Path(".snakemake/metadata")
NAME_LENGTH = 254  # Snakemake cuts longer names into folders that begin with @
MOST_BYTES = 256 * 2**20  # unpacked: a thousand times what the study of scale laptop has


def keep_records(file: Path, belongs: Callable[[str], bool], root: Path = Path()) -> None:
    """Write Snakemake's records of the files that are there and belong to a scale; nothing where they stand already.

    Parameters
    ----------
    file : the gzipped JSON file to write, path of a made file -> its record; relative to ``root`` like all paths.
    belongs : whether a path is one of the scale's.
    root : the folder that Snakemake runs in.
    """
    kept = {}
    for record in _records(root):
        made = _made_file(record.relative_to(root / RECORDS))
        if belongs(made) and (root / made).exists():
            kept[made] = parse_json(record.read_text(encoding="utf-8"), record)
    kept = dict(sorted(kept.items()))
    if kept and kept != read_records(root / file):
        write_atomically(root / file, gzip.compress(json.dumps(kept).encode(), mtime=0))


def restore_records(file: Path, belongs: Callable[[str], bool], root: Path = Path()) -> int:
    """Give Snakemake the records of a file that is newer than its own; the number of those that differed.

    Raises
    ------
    UserError : for a file that holds no records.
    """
    source, restored = root / file, 0
    for made, record in read_records(source).items():
        own = root / RECORDS / _record_name(made)
        if not belongs(made) or (own.is_file() and own.stat().st_mtime >= source.stat().st_mtime):
            continue
        text = json.dumps(record)
        if not (own.is_file() and own.read_text(encoding="utf-8") == text):
            write_atomically(own, text)
            restored += 1
    return restored


def read_records(path: Path) -> dict[str, dict[str, Any]]:
    """Path of a made file -> its record; none if the file is not there.

    Raises
    ------
    UserError : for a file that is damaged or unpacks to an absurd size.
    """
    if not path.is_file():
        return {}
    try:
        with gzip.open(path) as unpacked:
            content = unpacked.read(MOST_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path}: damaged ({error}); remove it, and `dvc checkout` brings a released one") from error
    if len(content) > MOST_BYTES:
        raise UserError(f"{path}: unpacks to more than {MOST_BYTES / 2**20:g} MB, which no run remembers")
    records = parse_json(text, path)
    if not (isinstance(records, dict) and all(isinstance(record, dict) for record in records.values())):
        raise UserError(f"{path}: must hold a record for every path")
    return records


def _records(root: Path) -> Iterator[Path]:
    return (path for path in (root / RECORDS).rglob("*") if path.is_file())


def _made_file(record: Path) -> str:
    """The path that a record, relative to the folder of records, is of."""
    try:
        return urlsafe_b64decode("".join(part.removeprefix("@") for part in record.parts)).decode()
    except ValueError:  # a file that Snakemake did not write
        return ""


def _record_name(made: str) -> Path:
    name = urlsafe_b64encode(made.encode()).decode()
    parts = [name[start : start + NAME_LENGTH] for start in range(0, len(name), NAME_LENGTH)]
    return Path(*(f"@{part}" for part in parts[:-1]), parts[-1])
