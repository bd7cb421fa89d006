"""Trains one family in several processes, one for each GPU: torchrun starts them, and they report to who started it.

Each process takes its share of every batch and the gradients are averaged, so the result is that of one process but for
rounding. It helps where the share of a batch still fills a device and there are more devices than families; otherwise a
family on each device is faster.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tgmm.devices import TRAINING_CORES_BESIDE_GPU, count_cores
from tgmm.errors import UserError
from tgmm.files import write_json
from tgmm.train.family import train_family
from tgmm.train.interrupt import InterruptRequest, deferred_signals
from tgmm.train.loop import StopReason
from tgmm.train.settings import TrainingSettings
from tgmm.train.world import World

POLL_SECONDS = 0.1
SIGNAL_SECONDS = 1.0
GRACE_SECONDS = 30.0  # between a process that gives up and the end of those that wait for it
JOB_FILE = "job.json"


def train_together(
    settings: TrainingSettings, out: Path, work: Path, device: torch.device, processes: int,
    max_minutes: float = math.inf,
) -> StopReason:  # fmt: skip
    """As :func:`tgmm.train.family.train_family`, by so many processes together.

    SIGINT and SIGTERM are handed on to them, so that a state is saved first.

    Parameters
    ----------
    settings, out, work, max_minutes : as for ``train_family``.
    device : "cuda" gives each process a visible GPU of its own, "cpu" a core.
    processes : their number; the batch must be a multiple of it.

    Raises
    ------
    UserError : what was wrong in one of the processes.
    SystemExit : a process was killed or broke off, with torchrun's exit code.
    """
    World(0, processes).check(settings.training.batch)
    with tempfile.TemporaryDirectory(prefix="tgmm-") as folder, deferred_signals() as request:
        job = {"out": str(out), "work": str(work), "device": device.type, "max_minutes": max_minutes}
        Path(folder, JOB_FILE).write_text(json.dumps({**job, "settings": settings.to_dict()}))
        # In a session of its own, so that Ctrl-C on a terminal reaches the processes once: from here.
        torchrun = subprocess.Popen(
            torchrun_command(processes, folder), env=environment(device, processes), start_new_session=True,
            close_fds=False,
        )  # fmt: skip
        _attend(torchrun, Path(folder), processes, request)
        return _ending(settings.family, Path(folder), processes, request, torchrun.returncode)


def torchrun_command(processes: int, folder: str) -> list[str]:
    """The command that starts the processes of the job in a folder."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*torchrun, "-m", __name__, folder]


def environment(device: torch.device, processes: int) -> dict[str, str]:
    """This process's environment, with a number of threads: one, or a few that feed a GPU."""
    threads = min(TRAINING_CORES_BESIDE_GPU, max(1, count_cores() // processes)) if device.type == "cuda" else 1
    return {"OMP_NUM_THREADS": str(threads), **os.environ}


def _attend(torchrun: subprocess.Popen, folder: Path, processes: int, request: InterruptRequest) -> None:
    """Wait for the end; hand a signal on, and end what one process's failure has left hanging."""
    send, end = 0.0, math.inf
    while torchrun.poll() is None:
        now = time.monotonic()
        if request and now > send:
            _forward(signal.Signals(request.number), folder, processes)
            send = now + SIGNAL_SECONDS  # again and again, for one that comes while a process sets up is lost
        if end == math.inf and any("error" in report for report in _reports(folder, processes)):
            end = now + GRACE_SECONDS
        if now > end:
            torchrun.terminate()
        time.sleep(POLL_SECONDS)


def _forward(number: signal.Signals, folder: Path, processes: int) -> None:
    """Send a signal to every process that has begun and not ended."""
    for rank in range(processes):
        file = folder / f"{rank}.pid"
        if file.exists() and not (folder / f"{rank}.json").exists():
            with suppress(ProcessLookupError, ValueError):  # it has just ended, or is writing its number
                os.kill(int(file.read_text()), number)


def _reports(folder: Path, processes: int) -> list[dict[str, Any]]:
    """How the processes that have ended did."""
    files = [folder / f"{rank}.json" for rank in range(processes)]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def _ending(family: str, folder: Path, processes: int, request: InterruptRequest, code: int) -> StopReason:
    """The reason that all processes agree on."""
    reports = _reports(folder, processes)
    errors = [report["error"] for report in reports if "error" in report]
    if errors:
        raise UserError(errors[0])
    interrupted = [report for report in reports if report["kind"] == "interrupted"]
    if interrupted:
        return StopReason(**interrupted[0])
    if code == 0 and len(reports) == processes:
        return StopReason(**reports[0])
    if request:
        return StopReason("interrupted", request.number)
    print(f"{family}: torchrun ended with exit code {code}; what went wrong stands above", file=sys.stderr)
    sys.exit(code or 1)


def main() -> None:
    """One of the processes: train, and leave a report in the job's folder."""
    folder, rank = Path(sys.argv[1]), os.environ["RANK"]
    job = json.loads((folder / JOB_FILE).read_text())
    with deferred_signals() as early:
        # Inside, training answers signals by itself; one that came before ends it at once.
        (folder / f"{rank}.pid").write_text(str(os.getpid()))
        report = _train(job, early)
    write_json(folder / f"{rank}.json", report)


def _train(job: dict[str, Any], early: InterruptRequest) -> dict[str, Any]:
    settings = TrainingSettings.from_dict(job["settings"])
    if early:
        return asdict(StopReason("interrupted", early.number))
    try:
        return asdict(
            train_family(settings, Path(job["out"]), Path(job["work"]), torch.device(job["device"]), job["max_minutes"])
        )
    except UserError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    main()
