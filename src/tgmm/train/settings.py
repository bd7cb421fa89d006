"""The settings of one family's training, as the workflow passes them and config.json records them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from tgmm.models.settings import (
    LOSSES,
    NETWORK_KINDS,
    AnyNetwork,
    AssignmentSettings,
    CriterionSettings,
    Positive,
    without_removed,
)
from tgmm.settings import OF_SCALE, FamilyName, Name, Settings
from tgmm.tasks.settings import Chance, PriorSettings
from tgmm.tasks.shifts import TRAINABLE, Shift, ShiftValues
from tgmm.versions import version

Tasks = Annotated[int, Field(ge=1, le=10**15)]
Factor = Annotated[float, Field(gt=0, le=1e6)]
SHIFTS_OF_TRAINING = (
    "How training tasks differ from the paper's: a step's tasks are under one of these kinds of shift, each equally "
    "often, and each of its values. The kind none, with the value 0, stands for the paper's tasks; an empty list too."
)


def _refuse_units(shifts: tuple[ShiftValues, ...]) -> tuple[ShiftValues, ...]:
    for shift in shifts:
        if shift.kind not in TRAINABLE:
            raise ValueError(f"networks are trained in the tasks' own units, so not under the shift '{shift.kind}'")
        _ = shift.shifts  # each value is checked
    return shifts


TrainingShifts = Annotated[tuple[ShiftValues, ...], AfterValidator(_refuse_units)]
MEAN_LENGTH = 0.75  # of N0: lengths are uniform between half of it and all of it
# Settings that have left, at the values at which they did nothing: records of earlier versions have them.
REMOVED = {"unrolled": 0}
REMOVED_FROM_BUDGET = {"optimiser": "adamw"}
# Settings of few recipes: records and fingerprints of all others are as they were before there were any.
OF_FEW = ("cross_entropy_weight", "shifts")


class Budget(Settings):
    """How long and how fast a family trains; counted in tasks seen, so that the result does not depend on speed."""

    tasks: Tasks = Field(description="Tasks to see, rounded up to whole batches.")
    batch: int = Field(32, ge=1, le=10**6, description="Tasks in a step.")
    learning_rate: float = Field(2e-3, gt=0, le=1e30, description="Peak of the schedule.")
    weight_decay: float = Field(1e-4, ge=0, le=1e30, description="Weight decay of AdamW.")
    warmup: float = Field(0.05, ge=0, le=1, description="Share of the steps that warm up linearly.")
    clip: float = Field(1.0, gt=0, le=1e30, description="The largest norm of a gradient; a larger one is scaled down.")
    validate_every: Tasks = Field(4000, description="Tasks between two validations.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the rate goes on: by a cosine or a line to zero, or constant."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of the products in the network while it trains; bfloat16 by autocast."
    )

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


class TrainingSettings(Settings):
    """Everything that shapes a trained family.

    The network's dimension, K and covariance are those of the tasks; what is read for it needs its kind and size alone.
    """

    family: FamilyName = Field(description="Its name.")
    covariance: Literal["isotropic", "anisotropic"] = Field(description="Of the tasks.")
    dimension: Positive = Field(description="d of the tasks.")
    n_components: tuple[int, ...] = Field(description="Every K of the tasks.")
    n_points: int = Field(
        alias="longest", ge=2, le=10**6, description="N0; training lengths are uniform on {N0/2, ..., N0}."
    )
    recipe: Name = Field(description="Name of the recipe.")
    network: AnyNetwork = Field(description="The architecture.")
    loss: Literal[LOSSES] = Field(description="What training minimises; see tgmm.losses.")
    cross_entropy_weight: Factor = Field(1.0, description="Factor of the weights' cross-entropy in the loss.")
    shifts: TrainingShifts = Field((), description=SHIFTS_OF_TRAINING)
    training: Budget = Field(description="How long and how fast it trains.")
    validation_tasks: int = Field(ge=1, le=10**6, description="Number for each K, from a seed of their own.")
    seed: int = Field(ge=0, le=2**62, description="Of the study; every stream derives from it and the family's name.")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Without what has left or counts for nothing, and with a network that serves the tasks."""
        if not isinstance(values, Mapping):
            return values
        values = {key: value for key, value in values.items() if key != "scale" and REMOVED.get(key, ...) != value}
        budget, network = values.get("training"), values.get("network")
        if isinstance(budget, Mapping):
            removed = REMOVED_FROM_BUDGET.items()
            values["training"] = {key: value for key, value in budget.items() if (key, value) not in removed}
        if isinstance(network, Mapping) and str(network.get("kind")) in NETWORK_KINDS:
            tasks = {key: values[key] for key in ("dimension", "n_components", "covariance") if key in values}
            if isinstance(tasks.get("n_components"), tuple):
                tasks["n_components"] = values["n_components"] = _sorted(tasks["n_components"])
            values["network"] = {**without_removed(network), **tasks}
        return values

    @model_validator(mode="after")
    def _check_positions(self) -> TrainingSettings:
        positions = getattr(self.network, "positions", self.n_points)
        if positions < self.n_points:
            raise ValueError(f"network positions {positions} are fewer than the N = {self.n_points} points of a task")
        return self

    @model_validator(mode="after")
    def _check_shifts(self) -> TrainingSettings:
        whole = tuple(range(min(self.n_components), max(self.n_components) + 1))
        if any(shift.kind == "wrong-k" for shift in self.shifts) and self.n_components != whole:
            raise ValueError("training with the shift 'wrong-k' needs numbers of components without a gap")
        return self

    @property
    def validated_on(self) -> Shift:
        """The shift of the validation tasks: none, unless training never sees the paper's tasks."""
        if not self.shifts or any(shift.kind == "none" for shift in self.shifts):
            return Shift()
        return self.shifts[0].shifts[0]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingSettings:
        """Settings from the workflow's JSON or a record; missing, unknown and impossible values are refused by name."""
        return cls.read(values)

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, as a record holds them."""
        values = {**self.model_dump(mode="json", by_alias=True), "network": self.network.to_dict()}
        few = {name: type(self).model_fields[name].default for name in OF_FEW}
        return {key: value for key, value in values.items() if key not in few or getattr(self, key) != few[key]}

    def fingerprint(self) -> str:
        """Hash of everything that shapes the result, so that an edited study never resumes another one's state."""
        code = version(f"training:{self.network.kind}")
        text = json.dumps({"settings": self.to_dict(), "version": code}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def flops(self) -> float:
        """Floating-point operations, about, of the whole training."""
        return self.training.tasks * self.network.flops(MEAN_LENGTH * self.n_points)


CRITERION_FILES = ("criterion.safetensors", "criterion.json")
ASSIGNMENT_FILES = ("assignment.safetensors", "assignment.json")


class AssignmentTraining(Settings):
    """Everything that shapes a trained assignment network; what the scale sets is marked so."""

    network: AssignmentSettings = Field(AssignmentSettings(), description="Its size.")
    prior: PriorSettings = Field(PriorSettings(), description="The tasks that it is trained on.")
    tasks: Tasks = Field(
        2_000_000,
        description="Tasks to see, rounded up to whole batches; a batch of many points holds fewer.",
        json_schema_extra=OF_SCALE,
    )
    batch: int = Field(32, ge=4, le=10**4, description="Tasks in a step.", json_schema_extra=OF_SCALE)
    learning_rate: float = Field(
        2e-3, gt=0, le=1, description="Of AdamW: constant, then falling to zero.", json_schema_extra=OF_SCALE
    )
    weight_decay: float = Field(1e-4, ge=0, le=1, description="Of AdamW.")
    clip: float = Field(1.0, gt=0, description="The largest norm of a gradient; a larger one is scaled down.")
    withheld: float = Field(0.3, ge=0, le=1, description="Share of the batches in which the network is not told K.")
    validation_batches: int = Field(
        60, ge=1, le=10**4, description="Batches to validate on.", json_schema_extra=OF_SCALE
    )
    seed: int = Field(0, ge=0, le=2**62, description="Of its weights and tasks, apart from the study's.")

    @property
    def steps(self) -> int:
        return math.ceil(self.tasks / self.batch)

    def fingerprint(self) -> str:
        """Hash of everything that shapes the result; a state belongs to one."""
        text = json.dumps({"settings": self.plain(), "version": version("training:assignment")}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class CriterionTraining(Settings):
    """Everything that shapes a trained criterion network; what the scale sets is marked so."""

    network: CriterionSettings = Field(CriterionSettings(), description="Its size.")
    prior: PriorSettings = Field(
        PriorSettings(
            kinds=(0.1, 0.1, 0.14, 0.32, 0.1, 0.24),  # more of those that the estimator's default shape is for
            sizes=(64, 96, 128, 192, 256, 384, 512),
            large_sizes=(1024,),
            farthest=15.0,
            concentrations=(0.8, 1.0, 2.0, 5.0, 20.0),
        ),
        description="The data sets that it is trained on.",
    )
    clean: Chance = Field(
        0.5, description="Share of the batches whose data sets have no outliers, heavy tails or noise columns."
    )
    tasks: Tasks = Field(
        16_000, description="Data sets to fit, rounded up to whole batches.", json_schema_extra=OF_SCALE
    )
    batch: int = Field(
        24, ge=4, le=10**4, description="Data sets that are fitted together.", json_schema_extra=OF_SCALE
    )
    passes: int = Field(20, ge=1, le=10**4, description="Times that every data set is seen.")
    learning_rate: float = Field(1.5e-3, gt=0, le=1, description="Of AdamW at its peak; rising, then falling to zero.")
    weight_decay: float = Field(1e-2, ge=0, le=1, description="Of AdamW.")
    seed: int = Field(0, ge=0, le=2**62, description="Of its weights and data sets, apart from the study's.")

    @property
    def batches(self) -> int:
        return math.ceil(self.tasks / self.batch)

    def fingerprint(self) -> str:
        """Hash of everything that shapes the data sets' fits; saved ones belong to one."""
        shaping = {name: getattr(self, name) for name in ("batch", "seed", "clean")} | {"prior": self.prior.plain()}
        text = json.dumps({"settings": shaping, "version": version("training:criterion")}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sorted(values: tuple) -> tuple:
    """In increasing order, where they can be ordered; what cannot be is left to the checks."""
    return tuple(sorted(values)) if all(isinstance(value, int) for value in values) else values
