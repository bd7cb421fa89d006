"""DVC and Snakemake agree: what one has made, the other finds, also in a fresh clone."""

from __future__ import annotations

import re
import shlex
import shutil
import urllib.request

import pytest
from workflow_project import ROOT, Project, copy_project

pytestmark = pytest.mark.slow
OVERNIGHT = ("--config", "scale=overnight", "--", "tasks", "train", "score", "artefacts", "manuscript")


@pytest.fixture(scope="module")
def versioned(tmp_path_factory) -> Project:
    """A project under git and DVC, run at two scales, committed and released."""
    project = copy_project(tmp_path_factory.mktemp("versioned") / "project")
    (project.folder / ".dvc").mkdir()
    for name in (".dvc/config", ".dvc/.gitignore"):
        shutil.copy2(ROOT / name, project.folder / name)
    (project.folder / ".gitignore").open("a").write("/commands.txt\n")
    expect(project, "git", "init", "-q")
    expect(project, "snakemake", "--cores", "all", "--resources", "gpu=1")
    assert "Nothing to be done" in expect(project, "dvc", "repro")
    expect(project, "dvc", "repro", "workflow/overnight/dvc.yaml")
    expect(project, "dvc", "push")
    expect(project, "git", "add", "-A")
    expect(project, "git", *["-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "all"])
    return project


def expect(project: Project, *command: str) -> str:
    """Run a command that must succeed; its output."""
    result = project.command(*command)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def clone(project: Project, folder) -> Project:
    expect(project, "git", "clone", "-q", str(project.folder), str(folder))
    return Project(folder)


def test_a_second_repro_is_up_to_date(versioned):
    assert "up to date" in expect(versioned, "dvc", "repro")
    assert "stand-in" in expect(versioned, "dvc", "metrics", "show")
    assert expect(versioned, "git", "status", "--short") == ""


def test_a_clone_with_pulled_results_has_nothing_to_do(versioned, tmp_path):
    copy = clone(versioned, tmp_path / "clone")
    expect(copy, "dvc", "pull")
    assert "Nothing to be done" in expect(copy, "snakemake", "-n")
    assert "Nothing to be done" in expect(copy, "snakemake", "-n", *OVERNIGHT)
    for pipeline in ("dvc.yaml", "workflow/overnight/dvc.yaml"):
        assert "up to date" in expect(copy, "dvc", "repro", pipeline)
    assert not (copy.folder / "commands.txt").exists()


def test_repro_leaves_the_other_scale_alone(versioned, tmp_path):
    """What changes scale overnight alone is out of date there, and `dvc repro` has nothing to do."""
    copy = clone(versioned, tmp_path / "clone")
    expect(copy, "dvc", "pull")
    copy.replace("workflow/scales/overnight.yaml", "bootstrap: 1000", "bootstrap: 999")
    assert "up to date" in expect(copy, "dvc", "repro")
    assert not (copy.folder / "commands.txt").exists()
    assert "overnight" in expect(copy, "dvc", "status", "workflow/overnight/dvc.yaml")


def test_results_are_pulled_beside_those_of_another_scale(versioned, tmp_path):
    """What has been run here first stays as it is, and both scales have nothing to do."""
    copy = clone(versioned, tmp_path / "clone")
    smoke = ("snakemake", "--cores", "2", "--config", "scale=smoke")
    expect(copy, *smoke)
    ran = (copy.folder / "commands.txt").read_text()
    expect(copy, "dvc", "pull")
    assert "Nothing to be done" in expect(copy, "snakemake", "-n")
    assert "Nothing to be done" in expect(copy, *smoke, "-n")
    assert (copy.folder / "commands.txt").read_text() == ran


def test_a_checkout_takes_back_what_was_run_since(versioned, tmp_path):
    copy = clone(versioned, tmp_path / "clone")
    expect(copy, "dvc", "pull")
    copy.replace("config.yaml", "metric: accuracy", "metric: mean_error")
    expect(copy, "snakemake", "--cores", "2")
    assert "Nothing to be done" in expect(copy, "snakemake", "-n")
    expect(copy, "git", "checkout", "-q", "config.yaml")
    expect(copy, "dvc", "checkout", "--force")
    assert "Nothing to be done" in expect(copy, "snakemake", "-n")


def test_one_edit_reruns_its_dependents_in_both(versioned, tmp_path):
    copy = clone(versioned, tmp_path / "clone")
    expect(copy, "dvc", "pull")
    copy.replace("config.yaml", "metric: accuracy", "metric: mean_error")
    expect(copy, "dvc", "repro")
    ran = [line.split()[0] for line in (copy.folder / "commands.txt").read_text().splitlines()]
    assert sorted(ran) == ["figure", "page", "paper"]
    assert "Nothing to be done" in expect(copy, "snakemake", "-n")


def test_a_pull_that_failed_is_named_and_nothing_is_trained(versioned, tmp_path):
    """An object is missing in the released remote, as after a damaged copy of the repository."""
    copy = clone(versioned, tmp_path / "clone")
    assert copy.planned()["train_family"] > 0, "a clone that never pulled may train everything"
    lost = "results/laptop/figures/fig-effectiveness.pdf"
    content = (versioned.folder / lost).read_bytes()
    for path in (copy.folder / ".dvc-released").rglob("*"):
        if path.is_file() and path.read_bytes() == content:
            path.unlink()
    assert copy.command("dvc", "pull").returncode != 0
    for command in (["snakemake", "--cores", "2"], ["snakemake", "-n"], ["dvc", "repro"]):
        result = copy.command(*command)
        assert result.returncode != 0
        assert f"`dvc pull` has not brought {lost}" in result.stderr
    (copy.folder / "dvc.lock").unlink()
    assert copy.planned()["train_family"] > 0
    assert not (copy.folder / "commands.txt").exists()


def test_a_model_that_was_removed_is_trained_again(versioned, tmp_path):
    copy = clone(versioned, tmp_path / "clone")
    expect(copy, "dvc", "pull")
    model = copy.folder / "results/laptop/models/isotropic-d8-n128-components/model.safetensors"
    model.unlink()
    expect(copy, "dvc", "repro")
    assert model.is_file()
    assert "train isotropic-d8-n128-components" in (copy.folder / "commands.txt").read_text()


@pytest.fixture(scope="module")
def server():
    """Address of an S3-compatible server with an empty bucket."""
    pytest.importorskip("moto", reason="moto is missing: pip install -e '.[test]'")
    pytest.importorskip("dvc_s3", reason="dvc-s3 is missing: pip install -e '.[s3]'")
    import flask  # noqa: F401  what moto's server needs; its extra of that name brings much more
    import flask_cors  # noqa: F401
    from moto.server import ThreadedMotoServer

    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/my-bucket", method="PUT")).close()
    yield f"http://{host}:{port}"
    started.stop()


def storage_commands(kind: str, address: str) -> list[list[str]]:
    """The commands of docs/cluster.md for a kind of storage, with an address of the test's own."""
    page = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```bash\n# {kind}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    places = {"https://s3.example.org": address, "/shared/tgmm": address}
    for shown, own in places.items():
        block = block.replace(shown, own)
    return [shlex.split(line, comments=True) for line in block.splitlines()]


@pytest.mark.parametrize("kind", ["A folder", "S3"])
def test_results_travel_by_another_remote(kind, versioned, tmp_path, request):
    """Pushed from a fresh clone as docs/cluster.md says, then pulled into one that has this remote alone."""
    address = str(tmp_path / "storage") if kind == "A folder" else request.getfixturevalue("server")
    mine, theirs = clone(versioned, tmp_path / "mine"), clone(versioned, tmp_path / "theirs")
    shutil.rmtree(theirs.folder / ".dvc-released")
    setup = [command for command in storage_commands(kind, address) if command[1] == "remote"]
    rest = [command for command in storage_commands(kind, address) if command not in setup]
    assert [command[1] for command in rest] == ["pull", "push"]
    for project, commands in ((mine, [rest[0], *setup, rest[1]]), (theirs, setup)):
        project.environment |= {"NO_PROXY": "127.0.0.1", "AWS_DEFAULT_REGION": "us-east-1"}
        for command in commands:
            expect(project, *command)
    assert expect(mine, "git", "status", "--short") == ""
    expect(mine, "dvc", "pull")  # the released remote is the default as before
    expect(theirs, "dvc", "pull", "--remote", "mine")
    assert "Nothing to be done" in expect(theirs, "snakemake", "-n")
    assert not (theirs.folder / "commands.txt").exists()
