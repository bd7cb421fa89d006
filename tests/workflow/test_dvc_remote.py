"""The released files are checked byte by byte when they are pulled, and the cache is never linked to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workflow_project import ROOT

from tgmm.files import atomic_path

CONTENT = "scores that were released\n"


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run DVC as a user whose own settings ask for links into the cache."""
    own = folder / "own-settings"
    own.mkdir(exist_ok=True)
    (own / "config").write_text("[cache]\n    type = symlink,hardlink\n")
    environment = os.environ | {"DVC_GLOBAL_CONFIG_DIR": str(own)}
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """A project with this one's settings of DVC: a file in the released remote, its cache gone as in a fresh clone."""
    folder = tmp_path_factory.mktemp("released")
    (folder / ".dvc").mkdir()
    shutil.copy2(ROOT / ".dvc/config", folder / ".dvc/config")
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    (folder / "scores.txt").write_text(CONTENT)
    (folder / "other.txt").write_text("something else\n")
    for step in (["add", "scores.txt", "other.txt"], ["push"]):
        result = dvc(folder, *step)
        assert result.returncode == 0, result.stderr
    return folder


def fresh_clone(released: Path, folder: Path) -> tuple[Path, Path]:
    """The project without cache and outputs, and the remote's object of scores.txt."""
    shutil.copytree(released, folder, ignore=shutil.ignore_patterns("cache", "tmp", "scores.txt", "other.txt"))
    objects = [path for path in (folder / ".dvc-released").rglob("*") if path.is_file()]
    (scores,) = (path for path in objects if path.read_text() == CONTENT)
    return folder, scores


def test_the_released_files_are_pulled_as_copies(released, tmp_path):
    folder, _ = fresh_clone(released, tmp_path / "clone")
    result = dvc(folder, "pull")
    assert result.returncode == 0, result.stderr
    pulled = folder / "scores.txt"
    assert pulled.read_text() == CONTENT
    assert not pulled.is_symlink()
    assert os.stat(pulled).st_nlink == 1


@pytest.mark.parametrize("mode", [0o444, 0o644])
def test_a_damaged_object_is_refused(mode, released, tmp_path):
    """DVC takes what is write-protected, as its objects are, for whole unless the remote is set to be verified."""
    folder, scores = fresh_clone(released, tmp_path / "clone")
    scores.chmod(0o644)
    scores.write_text(CONTENT.replace("released", "releasEd"))
    scores.chmod(mode)
    result = dvc(folder, "pull")
    assert result.returncode != 0
    assert "scores.txt" in result.stdout + result.stderr
    assert not (folder / "scores.txt").exists()
    cached = (path for path in (folder / ".dvc/cache").rglob("*") if path.is_file())
    assert "releasEd" not in "".join(path.read_text() for path in cached)


def test_what_a_killed_command_was_writing_is_not_versioned(tmp_path):
    """SIGKILL leaves the temporary file; DVC must not take it for a result."""
    (tmp_path / ".dvc").mkdir()
    shutil.copy2(ROOT / ".dvc/config", tmp_path / ".dvc/config")
    (tmp_path / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    shutil.copy2(ROOT / ".dvcignore", tmp_path / ".dvcignore")
    results = tmp_path / "figures"
    with atomic_path(results / "fig.pdf") as temporary, atomic_path(results / "record") as other:
        ignored = dvc(tmp_path, "check-ignore", str(temporary), str(other), str(results / "fig.pdf"))
    assert ignored.stdout.split() == [str(temporary), str(other)]
