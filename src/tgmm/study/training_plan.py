"""Which families a run may train: never days of training on a machine without a GPU unless the study allows it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tgmm.errors import UserError
from tgmm.study.resolution import Study
from tgmm.train.settings import TrainingSettings, training_hours

LONGEST_HOURS = 6.0
RECIPE_FILE = "recipes/all.csv"
MODEL_FILES = ("model.safetensors", "config.json", "history.csv")


@dataclass(frozen=True)
class TrainingPlan:
    """What a run may train.

    Attributes
    ----------
    study : the study without what stays a gap.
    trainable : families that may be trained; the models of the others are taken as they are.
    recipe_study : whether the recipe study may be trained.
    notice : one line for the user, or nothing.
    """

    study: Study
    trainable: tuple[str, ...]
    recipe_study: bool
    notice: str = ""


def plan_training(study: Study, root: str | Path, cores: int) -> TrainingPlan:
    """What may be trained where only the processor of this machine can do it.

    A study that takes up to ``LONGEST_HOURS`` is trained as it is. In a larger one the models that are there are never
    trained again, and those that are not become gaps unless they can be trained within that time.

    Parameters
    ----------
    study : the whole study; its key ``allow_cpu_training`` lets everything be trained.
    root : the folder that holds ``results/``.
    cores : of this machine.

    Raises
    ------
    UserError
        Where no family is trained and training takes longer; the line says how long and what to do instead.
    """
    families = tuple(study.families)
    if study.config["allow_cpu_training"] or _hours(study, families, True, cores) <= LONGEST_HOURS:
        return TrainingPlan(study, families, True)
    untrained = tuple(family for family in families if not is_trained(study, family, root))
    no_recipes = bool(study.recipe_studies) and not (Path(root) / study.results / RECIPE_FILE).is_file()
    hours = _hours(study, untrained, no_recipes, cores)
    if hours <= LONGEST_HOURS:
        return TrainingPlan(study, untrained, no_recipes)
    duration = f"about {in_words(hours)} on the {cores} core(s) of this machine, which has no GPU"
    if families and untrained == families:
        raise UserError(
            f"scale '{study.scale}' has no trained network here, and training takes {duration}: `dvc pull` brings "
            "networks that were released, `--config scale=laptop` suits such a machine, and "
            "`--config allow_cpu_training=true` trains all the same"
        )
    missing = [f"{len(untrained)} of {len(families)} families"] if untrained else []
    missing += ["the recipe study"] if no_recipes else []
    return TrainingPlan(
        study.without(untrained, recipe_study=not no_recipes),
        (),
        False,
        f"scale '{study.scale}': {' and '.join(missing)} stay gaps, for training them takes {duration}; a machine with "
        "a GPU or a cluster trains them, and so does `--config allow_cpu_training=true`",
    )


def is_trained(study: Study, family: str, root: str | Path) -> bool:
    """Whether a family's model is there, complete and trained with the study's settings."""
    folder = Path(root) / study.results / "models" / family
    if not all((folder / name).is_file() for name in MODEL_FILES):
        return False
    try:
        recorded = json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"]
        return TrainingSettings.from_dict(recorded) == TrainingSettings.from_dict(study.train_settings(family))
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return False


def _hours(study: Study, families: tuple[str, ...], recipe_study: bool, cores: int) -> float:
    """Hours for families and, if it is to be trained, the recipe study."""
    settings = [study.train_settings(family) for family in families]
    for dimension, seed in study.recipe_studies if recipe_study else ():
        settings += [change["settings"] for change in study.recipe_study_settings(dimension, seed)["changes"]]
    return training_hours(map(TrainingSettings.from_dict, settings), cores)


def in_words(hours: float) -> str:
    """A length of time with two digits at most: "9 hours", "12 days", "2.4 years"."""
    for unit, length in (("years", 365.25 * 24), ("days", 24.0)):
        if hours >= 2 * length:
            return f"{float(f'{hours / length:.2g}'):,g} {unit}"
    return f"{float(f'{hours:.2g}'):g} hours"
