"""Files are written whole or not at all, nothing but files is written to, and headers are checked before they count."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import stat
import time

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from tgmm.errors import UserError
from tgmm.files import (
    ITEM_SIZES,
    LARGEST_HEADER,
    MOST_TENSORS,
    FileLock,
    atomic_path,
    is_locked,
    read_safetensors_header,
    write_atomically,
    write_json,
    write_parquet,
)

TENSORS = {"a.b": torch.arange(6).reshape(2, 3), "c": torch.ones(4), "empty": torch.zeros(0, 5)}


def only_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def make_device(path):
    """A device like /dev/null; where the user may not make one, the real one behind a symlink."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except PermissionError:
        path.symlink_to("/dev/null")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(path.parent)  # the path of a socket may have about 100 characters only
        listener.bind(path.name)


SPECIAL = {
    "device": (make_device, "a device"),
    "pipe": (os.mkfifo, "a named pipe"),
    "folder": (os.mkdir, "a folder"),
    "socket": (make_socket, "a socket"),
}


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_refused_by_name_and_stays(kind, linked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, name = SPECIAL[kind]
    path = tmp_path / "special"
    make(path)
    before = os.stat(path)
    given_path = path
    if linked:
        given_path = tmp_path / "link"
        given_path.symlink_to(path)
    with pytest.raises(UserError, match=f"is {name}; an output must be the path of a file") as error:
        write_atomically(given_path, "content")
    assert str(given_path) in only_line(error)
    after = os.stat(path)
    assert (before.st_mode, before.st_ino, before.st_rdev) == (after.st_mode, after.st_ino, after.st_rdev)
    assert not list(tmp_path.glob(".*"))


def test_the_null_device_of_the_machine_survives():
    before = os.stat("/dev/null")
    with pytest.raises(UserError, match="/dev/null: is a device"):
        write_json("/dev/null", {})
    after = os.stat("/dev/null")
    assert (before.st_mode, before.st_ino, before.st_rdev) == (after.st_mode, after.st_ino, after.st_rdev)


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("relative", [True, False])
def test_a_symlink_is_followed_and_stays(exists, relative, tmp_path):
    target = tmp_path / "elsewhere" / "target.txt"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    link, second = tmp_path / "link.txt", tmp_path / "second.txt"
    link.symlink_to(os.path.relpath(target, tmp_path) if relative else target)
    second.symlink_to(link)
    write_atomically(second, "new")
    assert link.is_symlink()
    assert second.is_symlink()
    assert target.read_text() == second.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "link.txt", "second.txt", "target.txt"]


@pytest.mark.parametrize("case", ["loop", "below a file", "long name", "nul"])
def test_a_path_that_cannot_be_is_one_line(case, tmp_path):
    path = tmp_path / "loop"
    if case == "loop":
        path.symlink_to(path)
    elif case == "below a file":
        path.write_text("")
        path = path / "inside"
    elif case == "long name":
        path = tmp_path / ("x" * 300)
    else:
        path = tmp_path / "a\0b"
    with pytest.raises(UserError, match="cannot be written") as error:
        write_atomically(path, "content")
    only_line(error)


@given(length=st.integers(1, 255))
@settings(deadline=None)
def test_any_name_that_a_file_may_have_works(length, tmp_path_factory):
    path = tmp_path_factory.mktemp("names") / ("x" * length)
    write_atomically(path, "content")
    assert path.read_text() == "content"


@contextlib.contextmanager
def disk_of(size: int):
    """No file may become larger, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def figure() -> matplotlib.figure.Figure:
    drawn = matplotlib.figure.Figure()
    drawn.subplots().plot(np.random.default_rng(0).random(2000))
    return drawn


def frame() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).random((4000, 2)), columns=["a", "b"])


WRITERS = {
    "txt": lambda path: path.write_bytes(bytes(50_000)),
    "pdf": lambda path: figure().savefig(path),
    "png": lambda path: figure().savefig(path),
    "csv": lambda path: frame().to_csv(path),
    "parquet": lambda path: frame().to_parquet(path),
}  # fmt: skip


@pytest.mark.parametrize("size", [0, 100, 5000, 8000])
@pytest.mark.parametrize("suffix", WRITERS)
def test_a_full_disk_is_one_line_and_keeps_what_was_there(suffix, size, tmp_path):
    """Whatever the libraries raise themselves while they close the file that they could not write."""
    path = tmp_path / f"out.{suffix}"
    path.write_text("old")
    with (
        pytest.raises(UserError, match=r"out.* cannot be written \(.*File too large") as error,
        disk_of(size),
        atomic_path(path) as temporary,
    ):
        WRITERS[suffix](temporary)
    only_line(error)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_parquet_table_comes_back_and_is_smaller(tmp_path):
    random = np.random.default_rng(1)
    table = pd.DataFrame({
        "name": ["a", "b"] * 2000, "count": range(4000), "failed": [False, True] * 2000,
        "single": random.exponential(size=4000).astype("float32"), "double": random.normal(size=4000),
    })  # fmt: skip
    table.loc[3, "double"] = np.nan
    write_parquet(tmp_path / "new" / "table.parquet", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "new" / "table.parquet"), table)
    table.to_parquet(tmp_path / "plain.parquet", compression="zstd")
    sizes = [(tmp_path / name).stat().st_size for name in ("new/table.parquet", "plain.parquet")]
    assert sizes[0] < 0.9 * sizes[1]


def test_an_error_of_the_block_is_that_error_and_keeps_what_was_there(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(TypeError), atomic_path(path) as temporary:
        temporary.write_text(b"half")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_permissions_are_those_of_any_new_file(tmp_path):
    umask = os.umask(0o027)
    try:
        write_atomically(tmp_path / "out.txt", "content")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(os.stat(tmp_path / "out.txt").st_mode) == 0o640


# --- safetensors headers ---------------------------------------------------------------------------------------------


def written(path, header: dict | bytes, data: bytes = b"", length: int | None = None):
    """A safetensors file with any header."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(content) if length is None else length).to_bytes(8, "little") + content + data)
    return path


def test_a_header_says_what_the_library_reads(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(TENSORS, {"record": json.dumps({"a": 1})}))
    header = read_safetensors_header(path)
    with safe_open(path, "pt") as file:
        assert header.metadata == file.metadata()
        assert set(header.shapes) == set(file.keys())
        assert all(list(header.shapes[name]) == file.get_slice(name).get_shape() for name in header.shapes)
        assert all(header.dtypes[name] == file.get_slice(name).get_dtype() for name in header.shapes)


def entry(shape, first, last, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


LIES = {
    "no tensor of that size": ({"a": entry([10**9, 10**9], 0, 16)}, b"x" * 16),
    "a negative size": ({"a": entry([-4, -1], 0, 16)}, b"x" * 16),
    "a size that is no number": ({"a": entry(["4"], 0, 16)}, b"x" * 16),
    "a true size": ({"a": entry([True, 4], 0, 16)}, b"x" * 16),
    "an unknown type": ({"a": entry([4], 0, 16, "F31")}, b"x" * 16),
    "beyond the file": ({"a": entry([4], 0, 16)}, b"x" * 8),
    "bytes left over": ({"a": entry([4], 0, 16)}, b"x" * 24),
    "overlapping": ({"a": entry([4], 0, 16), "b": entry([4], 8, 24)}, b"x" * 24),
    "a gap": ({"a": entry([2], 0, 8), "b": entry([2], 16, 24)}, b"x" * 24),
    "backwards": ({"a": entry([4], 16, 0)}, b"x" * 16),
    "a list": (b"[1, 2]", b""),
    "no JSON": (b"{,}", b""),
    "no text": (b"\xff\xfe{}", b""),
    "nested a thousand times": (b'{"a":' + b"[" * 100_000, b""),
    "a number of many digits": (b'{"a": ' + b"9" * 10_000 + b"}", b""),
    "an entry without a shape": ({"a": {"dtype": "F32", "data_offsets": [0, 0]}}, b""),
    "metadata that are no texts": ({"__metadata__": {"a": 1}}, b""),
    "metadata that are a list": ({"__metadata__": ["a"]}, b""),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_header_that_lies_is_refused(lie, tmp_path):
    with pytest.raises(UserError, match=r"x\.safetensors: not a safetensors file") as error:
        read_safetensors_header(written(tmp_path / "x.safetensors", *LIES[lie]))
    assert len(only_line(error)) < 400


def test_what_is_no_file_or_too_short_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "short").write_bytes(b"1234567")
    written(tmp_path / "long", b"{}", length=1 << 62)
    for name, message in {
        "pipe": "is a named pipe", "missing": "cannot be read", "short": "cut short", "long": "cut short",
        ".": "is a folder",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=message) as error:
            read_safetensors_header(tmp_path / name)
        only_line(error)


def test_absurd_sizes_are_refused_at_once(tmp_path):
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.write((40 << 30).to_bytes(8, "little"))
        file.truncate(50 << 30)
    many = {f"{number}": entry([0], 0, 0) for number in range(MOST_TENSORS + 1)}
    written(tmp_path / "many", many)
    started = time.perf_counter()
    with pytest.raises(UserError, match=f"at most {LARGEST_HEADER:,} are read"):
        read_safetensors_header(sparse)
    with pytest.raises(UserError, match=f"lists {MOST_TENSORS + 1:,} tensors; at most {MOST_TENSORS:,}"):
        read_safetensors_header(tmp_path / "many")
    assert time.perf_counter() - started < 5


@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_damage_anywhere_is_refused_or_harmless(data, tmp_path_factory):
    """A header that is accepted describes the bytes that are there, whatever was done to the file."""
    content = bytearray(save(TENSORS, {"record": "{}"}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    path = tmp_path_factory.mktemp("damaged") / "x.safetensors"
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        header = read_safetensors_header(path)
        sizes = [torch.Size(shape).numel() * ITEM_SIZES[header.dtypes[name]] for name, shape in header.shapes.items()]
        assert 8 + int.from_bytes(content[:8], "little") + sum(sizes) == len(content)


# --- locks -------------------------------------------------------------------------------------------------------


def test_an_exclusive_lock_has_one_holder(tmp_path):
    with FileLock(tmp_path / "lock") as first, FileLock(tmp_path / "lock") as second:
        assert first.acquire()
        assert not second.acquire()
        assert not second.acquire(shared=True)
    with FileLock(tmp_path / "lock") as third:
        assert third.acquire()


def test_shared_locks_stand_beside_each_other_and_keep_out_the_exclusive_one(tmp_path):
    with FileLock(tmp_path / "lock") as first, FileLock(tmp_path / "lock") as second:
        assert first.acquire(shared=True)
        assert second.acquire(shared=True)
        assert not second.acquire()
    with FileLock(tmp_path / "lock") as alone, FileLock(tmp_path / "lock") as other:
        assert alone.acquire()
        assert alone.acquire(shared=True)  # turned into a shared one
        assert other.acquire(shared=True)


def test_probing_sees_the_exclusive_lock_and_makes_no_file(tmp_path):
    path = tmp_path / "lock"
    assert not is_locked(path)
    assert not path.exists()
    with FileLock(path) as lock:
        assert not is_locked(path)
        assert lock.acquire()
        assert [is_locked(path) for _ in range(3)] == [True] * 3
    assert not is_locked(path)


def test_the_holder_may_write_who_it_is(tmp_path):
    with FileLock(tmp_path / "lock") as lock:
        lock.write("a long name")
        lock.write("42")
        assert lock.read() == "42"
    assert (tmp_path / "lock").read_text() == "42"


def test_a_file_that_cannot_be_made_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        FileLock(tmp_path / "missing" / "lock")
