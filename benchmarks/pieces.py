"""Files in pieces of a limited size with a checksum each, for machines that hand back only a few small files."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from tgmm.errors import UserError
from tgmm.files import write_atomically, write_json

MIB = 1 << 20
PIECE_BYTES = 15 * MIB
FORMAT = 1
LIST_FILE = "pack.json"
SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


def write_pieces(folder: Path, files: dict[str, bytes], about: dict[str, Any], piece_bytes: int = PIECE_BYTES) -> None:
    """Write files as ``pack-0.bin``, ``pack-1.bin``, ... and, last, ``pack.json`` that lists them and says ``about``.

    Parameters
    ----------
    folder : pieces of an earlier pack in it are removed.
    files : content by relative path.
    about : anything that JSON can hold.
    piece_bytes : size of a piece at most.
    """
    (folder / LIST_FILE).unlink(missing_ok=True)
    for old in folder.glob("pack-*.bin"):
        old.unlink()
    content = b"".join(files.values())
    pieces = []
    for number, start in enumerate(range(0, len(content), piece_bytes)):
        piece = content[start : start + piece_bytes]
        pieces.append({"name": f"pack-{number}.bin", "size": len(piece), "sha256": _digest(piece)})
        write_atomically(folder / pieces[-1]["name"], piece)
    listed = [{"path": path, "size": len(file), "sha256": _digest(file)} for path, file in files.items()]
    write_json(folder / LIST_FILE, {"format": FORMAT, "pieces": pieces, "files": listed, "about": about})


def read_pieces(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """What :func:`write_pieces` was given: files and ``about``.

    Raises
    ------
    UserError : one line that names the piece that is missing or damaged.
    """
    listing = _listing(folder / LIST_FILE)
    content = b"".join(_piece(folder, **piece) for piece in listing["pieces"])
    files, start = {}, 0
    for file in listing["files"]:
        part = content[start : start + file["size"]]
        start += file["size"]
        if not SAFE.fullmatch(file["path"]) or _digest(part) != file["sha256"]:
            raise UserError(f"{folder / LIST_FILE}: damaged: '{file['path']}' is not what its pieces hold")
        files[file["path"]] = part
    return files, listing["about"]


def _listing(path: Path) -> dict[str, Any]:
    try:
        listing = json.loads(path.read_text(encoding="utf-8"))
        version, *_ = listing["format"], listing["pieces"], listing["files"], listing["about"]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it lists what came back from a call") from error
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path}: damaged: not a list of pieces ({error!r})") from error
    if version != FORMAT:
        raise UserError(f"{path}: format {version}; this version reads format {FORMAT}")
    return listing


def _piece(folder: Path, name: str, size: int, sha256: str) -> bytes:
    try:
        content = (folder / Path(name).name).read_bytes()
    except OSError as error:
        raise UserError(f"{folder / name}: this piece cannot be read ({error.strerror})") from error
    if _digest(content) != sha256:
        raise UserError(f"{folder / name}: this piece is damaged ({len(content):,} of {size:,} bytes, wrong SHA-256)")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
