"""The settings of one family's training, as the workflow passes them and config.json records them."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from tgmm.errors import UserError, unknown_name
from tgmm.loss_kinds import LOSSES
from tgmm.models.settings import NetworkSettings

SCHEDULES = ("cosine", "linear", "constant")
OPTIMISERS = ("adamw", "muon")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Budget:
    """How long and how fast a family trains; counted in tasks seen, so that the result does not depend on speed.

    Attributes
    ----------
    tasks : tasks to see, rounded up to whole batches.
    batch : tasks in a step.
    learning_rate : peak of the schedule.
    weight_decay, clip : of the optimiser, and the largest gradient norm.
    warmup : share of the steps that warm up linearly.
    validate_every : tasks between two validations.
    schedule : how the rate goes on: "cosine" or "linear" decay to zero, or "constant".
    optimiser : "adamw", or "muon" for the matrices of the blocks with AdamW for the rest.
    precision : of the products in the network while it trains: "float32", or "bfloat16" by autocast.
    """

    tasks: int
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup: float = 0.05
    clip: float = 1.0
    validate_every: int = 4000
    schedule: str = "cosine"
    optimiser: str = "adamw"
    precision: str = "float32"

    @property
    def steps(self) -> int:
        return math.ceil(self.tasks / self.batch)

    def rate(self, step: int) -> float:
        """Learning rate of the ``step``-th step, counted from zero."""
        warm_steps = max(1, round(self.warmup * self.steps))
        if step < warm_steps:
            return self.learning_rate * (step + 1) / warm_steps
        progress = (step - warm_steps) / max(1, self.steps - warm_steps)
        share = {"cosine": 0.5 * (1.0 + math.cos(math.pi * progress)), "linear": 1.0 - progress, "constant": 1.0}
        return self.learning_rate * share[self.schedule]


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that shapes a trained family.

    Attributes
    ----------
    family : its name.
    covariance, dimension, n_components, longest : the task family: d, every K, and N0 (training lengths are uniform
        on {N0/2, ..., N0}).
    recipe, network, loss : the recipe's name, its architecture and its loss (one of ``tgmm.loss_kinds.LOSSES``).
    unrolled : EM steps inside the loss; see :func:`tgmm.losses.training_loss`.
    training : the budget.
    validation_tasks : number for each K, from a seed of their own.
    seed : of the study; every stream derives from it and the family's name.
    """

    family: str
    covariance: str
    dimension: int
    n_components: tuple[int, ...]
    longest: int
    recipe: str
    network: NetworkSettings
    loss: str
    training: Budget
    validation_tasks: int
    seed: int
    unrolled: int = 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingSettings:
        """Settings from the workflow's JSON; missing, unknown and impossible values are refused by name."""
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known and key != "scale":
                raise unknown_name("training setting", key, known)
        for key in known:
            if key not in values and key != "unrolled":
                raise UserError(f"training settings lack '{key}'")
        if values["loss"] not in LOSSES:
            raise unknown_name("loss", values["loss"], LOSSES)
        network = NetworkSettings.from_dict(
            {
                **values["network"],
                "dimension": values["dimension"],
                "n_components": sorted(values["n_components"]),
                "covariance": values["covariance"],
            }
        )
        budget = _budget(values["training"])
        unrolled = values.get("unrolled", 0)
        if unrolled and (unrolled < 0 or values["covariance"] != "isotropic"):
            raise UserError(f"training setting 'unrolled' must be 0, or more for isotropic tasks (got {unrolled})")
        rest = {
            key: values[key] for key in known if key in values and key not in ("network", "training", "n_components")
        }
        return cls(**rest, n_components=network.n_components, network=network, training=budget)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "n_components": list(self.n_components), "network": self.network.to_dict()}

    def fingerprint(self, code: str) -> str:
        """Hash of everything that shapes the result, so that an edited study never resumes another one's state."""
        text = json.dumps({"settings": self.to_dict(), "code": code}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _budget(values: dict[str, Any]) -> Budget:
    known = [field.name for field in fields(Budget)]
    for key in values:
        if key not in known:
            raise unknown_name("training setting", f"training.{key}", [f"training.{name}" for name in known])
    if "tasks" not in values:
        raise UserError("training settings lack 'training.tasks'")
    budget = Budget(**values)
    for name, choices in (("schedule", SCHEDULES), ("optimiser", OPTIMISERS), ("precision", PRECISIONS)):
        if getattr(budget, name) not in choices:
            raise unknown_name(f"training.{name}", getattr(budget, name), choices)
    for name in ("tasks", "batch", "validate_every", "learning_rate", "clip"):
        if not getattr(budget, name) > 0:  # NaN is not positive either
            raise UserError(f"training.{name} must be positive (got {getattr(budget, name)})")
    return budget
