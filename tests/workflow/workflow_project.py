"""A copy of the workflow in a folder of its own, with a stand-in for `tgmm` that only writes small files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PARTS = [
    "Snakefile",
    "config.yaml",
    "dvc.yaml",
    ".dvcignore",
    ".gitignore",
    "workflow",
    "profiles",
    "src",
    "paper",
    "examples",
]
IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dvc.lock")  # nothing was released there
STAND_IN = """#!/usr/bin/env bash
set -e
command=$1 name=$2 out= headline= settings= picture= names= ; shift
while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do names="$names $1"; shift; done
while [ $# -gt 0 ]; do
  case $1 in --out) out=$2;; --headline) headline=$2;; --settings) settings=$2;; --picture) picture=$2;; esac; shift
done
echo "$command $name started with $OMP_NUM_THREADS threads"
echo "$command $name" >> commands.txt
if [ "$command" = "$STAND_IN_FAILS" ]; then echo "tgmm: it failed" >&2; exit 2; fi
if [ "$command" = "$STAND_IN_HANGS" ]; then sleep 60; fi
write() { mkdir -p "$(dirname "$1")"; echo "$command $name $settings" > "$1"; }
case $command in
  train) write "$out/model.safetensors"; write "$out/config.json"; write "$out/history.csv";;
  aggregate) write "$out"; echo '{"meta": {"scale": "stand-in"}}' > "$headline";;
  figure) write "$out.pdf"; write "$out.png";;
  table) write "$out.csv"; write "$out.md"; write "$out.tex";;
  score) for method in $names; do write "$out/$method.parquet"; done;;
  probe) write "$out"; [ -z "$picture" ] || write "$picture";;
  *) write "$out";;
esac
"""


class Project:
    """A folder that holds the workflow, and ways to run and edit it."""

    def __init__(self, folder: Path):
        self.folder = folder
        tools = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent)])
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join([tools, os.environ["PATH"]]),
            "PYTHONPATH": str(folder / "src"),
            "DVC_NO_ANALYTICS": "1",
        }

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        """Run a command in the project; its output comes back as text."""
        return subprocess.run(
            arguments,
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def snakemake(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return self.command("snakemake", "--cores", "2", *arguments, **environment)

    def planned(self, *arguments: str) -> Counter:
        """How many jobs of each rule a dry run names."""
        result = self.snakemake("-n", *arguments)
        assert result.returncode == 0, result.stderr + result.stdout
        return read_job_table(result.stdout + result.stderr)

    def replace(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new), encoding="utf-8")


def read_job_table(output: str) -> Counter:
    """The table `Job stats` of Snakemake's output; empty if nothing is to be done."""
    jobs: Counter = Counter()
    if "Job stats:" not in output:
        return jobs
    for line in output.split("Job stats:")[1].splitlines()[3:]:
        words = line.split()
        if len(words) != 2 or words[0] == "total":
            break
        jobs[words[0]] = int(words[1])
    return jobs


def copy_project(folder: Path, source: Path = ROOT, parts: list[str] = PARTS) -> Project:
    """Copy the workflow into a folder, with the stand-in for `tgmm`."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        if (source / part).is_dir():
            shutil.copytree(source / part, folder / part, ignore=IGNORED)
        elif (source / part).is_file():
            shutil.copy2(source / part, folder / part)
    command = folder / "bin" / "tgmm"
    command.parent.mkdir(exist_ok=True)
    command.write_text(STAND_IN)
    command.chmod(0o755)
    return Project(folder)
