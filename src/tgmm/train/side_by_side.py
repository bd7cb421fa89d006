"""Several families in one process, in turns: where one network cannot fill a GPU, a few together can."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from tgmm.errors import UserError
from tgmm.train.family import prepare, release
from tgmm.train.interrupt import InterruptRequest, deferred_signals
from tgmm.train.loop import StopReason, Trainer
from tgmm.train.progress import TrainingProgress
from tgmm.train.settings import TrainingSettings
from tgmm.train.state import TrainingRecord


@dataclass(frozen=True)
class Outcome:
    """How a family's training ended: its reason, or what was wrong; and how far it came.

    Attributes
    ----------
    kind : "finished", "interrupted", "budget" or "failed".
    message : of the failure.
    record : steps, history and times; None if it never began.
    signal : number of the signal that interrupted it.
    """

    kind: str
    message: str = ""
    record: TrainingRecord | None = None
    signal: int | None = None


def train_side_by_side(
    families: list[TrainingSettings], out: Callable[[str], Path], work: Path, device: torch.device,
    max_minutes: float = math.inf, together: int = 4,
) -> dict[str, Outcome]:  # fmt: skip
    """Train families in their order, so many at a time; each ends with the same weights as on its own.

    Parameters
    ----------
    families : settings of every family.
    out : the model's folder of a family; written when it is finished.
    work : parent of the resumable states.
    max_minutes : for all of them; what is not finished then leaves a state to go on from.
    together : number of families that take turns. On a GPU each has a stream of its own, so that their kernels overlap.

    Returns
    -------
    dict
        family -> Outcome. A family that fails (diverges, cannot write) does not stop the others.
    """
    end = time.monotonic() + 60.0 * max_minutes
    waiting, running, outcomes = list(families), {}, {}
    with deferred_signals() as request:
        while waiting or running:
            while waiting and len(running) < together and not request and time.monotonic() < end:
                settings = waiting.pop(0)
                running[settings.family] = _Sitting(settings, out, work, device, request, end)
            if not running:
                break
            for family, sitting in list(running.items()):
                outcome = sitting.advance()
                if outcome is not None:
                    outcomes[family] = outcome
                    del running[family]
    unbegun = Outcome("interrupted" if request else "budget", signal=request.number)
    return {settings.family: outcomes.get(settings.family, unbegun) for settings in families}


class _Sitting:
    """One family among the others: begins at its first turn, releases at its last."""

    def __init__(
        self, settings: TrainingSettings, out: Callable[[str], Path], work: Path, device: torch.device,
        request: InterruptRequest, end: float,
    ):  # fmt: skip
        self.settings, self.out = settings, out
        self.trainer: Trainer | None = None
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.turns = self._turns(work, device, request, end)

    def advance(self) -> Outcome | None:
        """Train up to the next look at the losses; the outcome once there is one."""
        try:
            with nullcontext() if self.stream is None else torch.cuda.stream(self.stream):
                reason = next(self.turns)
                if reason is not None and reason.kind == "finished":
                    release(self.trainer, self.out(self.settings.family))
            outcome = None if reason is None else Outcome(reason.kind, "", self._record(), reason.signal)
        except UserError as error:
            outcome = Outcome("failed", str(error), self._record())
        if outcome is not None:
            self.turns.close()  # gives the lock back, for which another trainer may wait
        return outcome

    def _record(self) -> TrainingRecord | None:
        """What remains of a trainer; its network and what a GPU holds for it go when the sitting does."""
        return None if self.trainer is None else self.trainer.record

    def _turns(
        self, work: Path, device: torch.device, request: InterruptRequest, end: float
    ) -> Generator[StopReason | None, None, None]:
        with ExitStack() as lock:
            self.trainer, validation = prepare(self.settings, work, device, lock, request)
            done = self.trainer.record.step * self.settings.training.batch
            progress = TrainingProgress(self.settings.family, self.settings.training.tasks, done, bar=False)
            yield from self.trainer.sitting(validation, progress, request, max(0.0, end - time.monotonic()))
