"""What a Slurm cluster is asked, with stand-ins for its commands."""

from __future__ import annotations

import pytest

from tgmm import slurm


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Makes commands that print a text and end with a status."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def command(name: str, text: str = "", status: int = 0) -> None:
        (tmp_path / "answer").mkdir(exist_ok=True)
        (tmp_path / "answer" / name).write_text(text)
        (tmp_path / name).write_text(f"#!/bin/sh\n/bin/cat {tmp_path}/answer/{name}\nexit {status}\n")
        (tmp_path / name).chmod(0o755)

    return command


@pytest.mark.parametrize(("answer", "found"), [("(null)\n", False), ("(null)\ngpu:2(S:0-1)\n", True),
                                               ("shard:4,gpu:h100:8\n", True), ("mps:100\n", False)])  # fmt: skip
def test_a_cluster_with_gpus_is_recognised(cluster, answer, found):
    cluster("sinfo", answer)
    assert slurm.has_gpus() is found


def test_without_slurm_there_are_no_gpus_and_squeue_is_asked(cluster, capsys):
    assert not slurm.has_gpus()
    assert slurm.status_command() == "squeue"
    assert capsys.readouterr().err == "Slurm: no accounting answers, so job states come from squeue\n"


def test_accounting_that_answers_is_asked(cluster, capsys):
    cluster("sacct")
    assert slurm.status_command() == "sacct"
    assert "the accounting answers" in capsys.readouterr().err


@pytest.mark.parametrize(("age", "warned"), [(300, False), (30, True)])
def test_sacct_without_accounting_is_not_waited_for(cluster, capsys, age, warned):
    cluster("sacct", "Slurm accounting storage is disabled\n", status=1)
    cluster("scontrol", f"MessageTimeout          = 10 sec\nMinJobAge               = {age} sec\n")
    assert slurm.status_command() == "squeue"
    assert (f"for {age} s only (MinJobAge)" in capsys.readouterr().err) is warned
