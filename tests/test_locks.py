"""Locks between processes: one holder, many readers, and nothing left behind."""

from __future__ import annotations

import pytest

from tgmm.files import FileLock, is_locked


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
