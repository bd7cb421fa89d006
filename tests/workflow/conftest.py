"""The workflow in a folder of its own: before and after a whole run with the stand-in for `tgmm`."""

from __future__ import annotations

import shutil

import pytest
from workflow_project import Project, copy_project


@pytest.fixture
def project(tmp_path) -> Project:
    """The workflow before its first run."""
    return copy_project(tmp_path / "project")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """The workflow after a whole run. Tests must not change it: they take `rerun`."""
    project = copy_project(tmp_path_factory.mktemp("finished") / "project")
    result = project.snakemake("--resources", "gpu=1")
    assert result.returncode == 0, result.stderr
    project.output = result.stdout + result.stderr
    return project


@pytest.fixture
def rerun(finished, tmp_path) -> Project:
    """A copy of the finished workflow, to be changed."""
    shutil.copytree(finished.folder, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project")
