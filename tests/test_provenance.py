"""Snakemake's records travel in one file: its own persistence writes and reads what is kept and restored here."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from snakemake.persistence.file import FilePersistence

from tgmm.errors import UserError
from tgmm.provenance import RECORDS, _made_file, _record_name, keep_records, read_records, restore_records

FILE = Path("results/laptop/provenance.json.gz")
LONG = "results/laptop/" + "a" * 400 + ".csv"


def of_laptop(path: str) -> bool:
    return path.startswith("results/laptop/")


def remember(root: Path, **records: dict) -> None:
    """Records of made files, as Snakemake names them."""
    for made, record in records.items():
        path = root / RECORDS / _record_name(made)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))


@pytest.fixture
def run(tmp_path) -> Path:
    """A folder with made files of two scales and their records; one of them is gone."""
    made = ("results/laptop/a.csv", LONG[:200], "results/smoke/a.csv")
    for name in made:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remember(tmp_path, **{name: {"rule": name} for name in (*made, "results/laptop/gone.csv")})
    return tmp_path


@given(st.sampled_from(["results/laptop/a.csv", LONG, "results/é/x y.csv"]) | st.text("abc/é -.", min_size=1))
def test_records_are_named_as_snakemake_names_them(made):
    class Named(FilePersistence):
        def __init__(self):
            self._max_len = 255

    theirs = Path(Named()._record_path("metadata", made))
    assert theirs == "metadata" / _record_name(made)
    assert _made_file(theirs.relative_to("metadata")) == made


def test_the_records_of_a_scale_are_kept_and_restored(run, tmp_path_factory):
    keep_records(FILE, of_laptop, run)
    assert read_records(run / FILE) == {name: {"rule": name} for name in ("results/laptop/a.csv", LONG[:200])}
    other = tmp_path_factory.mktemp("other")
    remember(other, **{"results/smoke/a.csv": {"rule": "own"}})
    (other / FILE).parent.mkdir(parents=True)
    (other / FILE).write_bytes((run / FILE).read_bytes())
    assert restore_records(FILE, of_laptop, other) == 2
    assert restore_records(FILE, of_laptop, other) == 0
    keep_records(Path("all.json.gz"), lambda path: True, other)
    assert read_records(other / "all.json.gz") == {}, "records of files that are not there are not kept"
    assert json.loads((other / RECORDS / _record_name("results/smoke/a.csv")).read_text()) == {"rule": "own"}


def test_a_file_that_says_the_same_is_left_alone(run):
    keep_records(FILE, of_laptop, run)
    os.utime(run / FILE, (1, 1))
    keep_records(FILE, of_laptop, run)
    assert (run / FILE).stat().st_mtime == 1


@pytest.mark.parametrize(("age", "wins"), [(-10, "pulled"), (10, "own")])
def test_the_newer_of_two_records_wins(run, age, wins):
    """A run that was killed has records that are newer than the file; a pull brings a file that is newer than they."""
    remember(run, **{"results/laptop/a.csv": {"rule": "pulled"}})
    keep_records(FILE, of_laptop, run)
    remember(run, **{"results/laptop/a.csv": {"rule": "own"}})
    own = run / RECORDS / _record_name("results/laptop/a.csv")
    pulled = (run / FILE).stat().st_mtime
    os.utime(own, (pulled + age, pulled + age))
    assert restore_records(FILE, of_laptop, run) == (wins == "pulled")
    assert json.loads(own.read_text()) == {"rule": wins}


def test_records_of_other_files_are_not_taken_up(run):
    (run / FILE).write_bytes(gzip.compress(json.dumps({"results/smoke/b.csv": {}, "../../evil": {}}).encode()))
    assert restore_records(FILE, of_laptop, run) == 0
    assert not (run / RECORDS / _record_name("results/smoke/b.csv")).exists()


WITHOUT_RECORDS = {
    "empty": (b"", "not valid JSON"),
    "cut": (gzip.compress(b"{}")[:-4], "damaged"),
    "overwritten": (gzip.compress(b"{}" * 99)[:12] + b"\x07" * 9, "damaged"),
    "no gzip": (b"no gzip", "damaged"),
    "no text": (gzip.compress(b"\xff"), "damaged"),
    "a list": (gzip.compress(b"[1]"), "must hold a record for every path"),
    "a number": (gzip.compress(b'{"a": 1}'), "must hold a record for every path"),
    "a bomb": (gzip.compress(b" " * 2**20), "unpacks to more than 0.5 MB"),
}


@pytest.mark.parametrize("name", WITHOUT_RECORDS)
def test_what_holds_no_records_is_refused_in_one_line(tmp_path, name, monkeypatch):
    content, complaint = WITHOUT_RECORDS[name]
    monkeypatch.setattr("tgmm.provenance.MOST_BYTES", 2**19)
    (tmp_path / FILE).parent.mkdir(parents=True)
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UserError, match=complaint) as error:
        restore_records(FILE, of_laptop, tmp_path)
    assert "provenance.json.gz" in str(error.value)
    assert "\n" not in str(error.value)
