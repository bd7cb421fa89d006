"""What a Slurm cluster answers when asked: whether it has GPUs, and which command knows the state of jobs."""

from __future__ import annotations

import re
import subprocess
import sys

POLL_SECONDS = 40  # at least, between two looks at the jobs of a run
ENDED_JOB_SECONDS = 3 * POLL_SECONDS  # that squeue must remember jobs, to be asked instead of the accounting


def ask(*command: str) -> str | None:
    """What a command prints; None where it is missing, fails or does not answer in time."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout


def has_gpus() -> bool:
    """Whether some node of the cluster has GPUs that jobs can ask for."""
    return bool(re.search(r"^gpu\b|,gpu\b", ask("sinfo", "--noheader", "--format=%G") or "", re.MULTILINE))


def status_command() -> str:
    """`sacct` where the accounting answers, else `squeue`; says which, and why, on standard error.

    That `sacct` is installed says nothing: without accounting it fails, and whoever waits for it waits for ever.
    """
    if ask("sacct", "--noheader", "--parsable2", "--format=JobIdRaw", "--starttime=now") is not None:
        print("Slurm: the accounting answers, so job states come from sacct", file=sys.stderr)
        return "sacct"
    print(f"Slurm: no accounting answers, so job states come from squeue{_warning()}", file=sys.stderr)
    return "squeue"


def _warning() -> str:
    """What to say where squeue forgets a job before its end has been seen."""
    found = re.search(r"^MinJobAge\s*=\s*(\d+)", ask("scontrol", "show", "config") or "", re.MULTILINE)
    if found is None or int(found[1]) >= ENDED_JOB_SECONDS:
        return ""
    return (
        f". It remembers ended jobs for {found[1]} s only (MinJobAge) and may miss one: ask "
        f"for {ENDED_JOB_SECONDS} s, or for accounting"
    )
