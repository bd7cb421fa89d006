"""The profile for Slurm: what is sent to a cluster and how, with stand-ins for Slurm's commands."""

from __future__ import annotations

import re
import shlex

import pytest
from workflow_project import ROOT, Project, read_job_table

pytest.importorskip("snakemake_executor_plugin_slurm", reason="pip install -e '.[slurm]'")

MOST_SUBMISSIONS = 40
# Runs what is submitted at once, and says that it has ended.
SBATCH = """#!/usr/bin/env bash
printf '%q ' "$@" >> submissions.txt; echo >> submissions.txt
for last; do :; done
SLURM_JOB_ID=7 bash -c "${last#--wrap=}" > job.log 2>&1
echo 7
"""
COMMANDS = {
    "sbatch": SBATCH,
    "srun": '#!/usr/bin/env bash\nwhile [[ "$1" == -* ]]; do shift; done\nexec "$@"\n',
    "squeue": "#!/bin/sh\necho '7|COMPLETED'\n",
    "sacct": "#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2; exit 1\n",
    "scontrol": "#!/bin/sh\necho 'MinJobAge               = 300 sec'\n",
    "sacctmgr": "#!/bin/sh\necho lab\n",
    "sinfo": "#!/bin/sh\ncat gres.txt\n",
}


@pytest.fixture
def cluster(project) -> Project:
    """A project on the login node of a cluster with GPUs."""
    for name, text in COMMANDS.items():
        (project.folder / "bin" / name).write_text(text)
        (project.folder / "bin" / name).chmod(0o755)
    (project.folder / "gres.txt").write_text("gpu:4\n")
    return project


def plan(project: Project, *arguments: str) -> str:
    result = project.command("snakemake", "-n", "--workflow-profile", "profiles/slurm", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def submissions(text: str) -> int:
    """Jobs that a dry run sends to the cluster: groups, and what is neither in a group nor local."""
    rules = [path.read_text(encoding="utf-8").split("\nrule ") for path in ROOT.glob("workflow/rules/*.smk")]
    local = {rule.split(":")[0] for file in rules for rule in file if "    localrule: True\n" in rule} | {"all"}
    here = sum(count for name, count in read_job_table(text).items() if name in local)
    return len(re.findall(r"Group job \w+ \(", text)) + len(re.findall(r"^Job \d+: ", text, re.MULTILINE)) - here


@pytest.mark.slow
def test_the_paper_takes_few_submissions(cluster):
    text = plan(cluster, "--config", "scale=paper")
    assert sum(read_job_table(text).values()) > 100
    assert 20 < submissions(text) <= MOST_SUBMISSIONS


@pytest.mark.slow
def test_a_run_says_which_command_knows_the_state_of_jobs(cluster):
    assert "no accounting answers, so job states come from squeue" in plan(cluster)


@pytest.mark.slow
def test_days_of_training_are_refused_on_a_cluster_without_gpus(cluster):
    (cluster.folder / "gres.txt").write_text("(null)\n")
    command = ["snakemake", "--workflow-profile", "profiles/slurm", "--config", "scale=paper"]
    for extra in ([], ["-n"]):
        result = cluster.command(*command, *extra)
        assert result.returncode == 2
        assert "years on 50 cores of a cluster that offers no GPU" in result.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("device", "gpus"), [("auto", True), ("cpu", False)])
def test_what_a_job_needs_reaches_slurm(cluster, device, gpus):
    cluster.replace("profiles/slurm/config.yaml", 'account: ""', 'account: "lab"')
    cluster.replace("profiles/slurm/config.yaml", 'gpu_partition: ""', 'gpu_partition: "a100"')
    target = "results/laptop/models/isotropic-d128-n128-components/model.safetensors"
    command = ["--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "1"]
    result = cluster.command("snakemake", *command, "--config", f"device={device}", "--", target)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (cluster.folder / target).is_file()
    sent = shlex.split((cluster.folder / "submissions.txt").read_text())
    assert sent[sent.index("-A") + 1] == "lab"
    assert sent[sent.index("-p") + 1] == "a100"
    assert "--cpus-per-task=1" in sent
    assert int(sent[sent.index("--mem") + 1]) > 1000
    assert 15 < int(sent[sent.index("-t") + 1]) <= 24 * 60
    assert ("--gpus=1" in sent) is gpus
    assert "started with 1 threads" in (cluster.folder / "job.log").read_text()
