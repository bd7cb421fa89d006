"""The recipe study: what one change of a recipe makes of the settings that a family is trained with."""

from __future__ import annotations

import copy

BASELINE = "baseline"
VALIDATIONS = 4  # points of a curve of the error over the training
EM_STEPS, EM_STARTS = 20, 10
# What a change multiplies: its share -> where the value stands in the settings of training.
SHARES = {
    "width_share": ("network", "width"),
    "blocks_share": ("network", "blocks"),
    "heads_share": ("network", "heads"),
    "batch_share": ("training", "batch"),
    "rate_share": ("training", "learning_rate"),
}


def study_family(dimension: int, seed: int) -> str:
    """The family name that all changes of a dimension and a seed share: the same first weights and stream of tasks."""
    return f"recipe-study-d{dimension}-s{seed}"


def change_settings(base: dict, study: dict) -> list[dict]:
    """The settings of training of every change, the baseline first.

    Parameters
    ----------
    base : settings of `tgmm train` under the recipe as it is.
    study : the section `recipe_study` of the configuration.

    Returns
    -------
    `{"change": name, "settings": settings of training}` for each.
    """
    changes = study["changes"]
    start = changed(base, changes[BASELINE])
    ordered = [BASELINE, *(name for name in changes if name != BASELINE)]
    return [
        {
            "change": name,
            "settings": budgeted(
                start if name == BASELINE else changed(start, changes[name]),
                round(study["tasks"] * changes[name]["tasks_share"]),
            ),
        }
        for name in ordered
    ]


def changed(settings: dict, change: dict) -> dict:
    """Settings of training with a change: first what it multiplies, then what it sets."""
    result = copy.deepcopy(settings)
    for share, (section, key) in SHARES.items():
        value = result[section][key]
        product = change[share] * value
        result[section][key] = max(1, round(product)) if isinstance(value, int) else product
    for section in ("network", "training"):
        result[section] |= {key: value for key, value in change[section].items() if value is not None}
    if change["loss"]:
        result["loss"] = change["loss"]
    return result


def budgeted(settings: dict, tasks: int) -> dict:
    """Settings of training with so many tasks and a few validations on the way."""
    budget = {"tasks": max(1, tasks), "validate_every": max(1, tasks // VALIDATIONS)}
    return settings | {"training": settings["training"] | budget}


def change_labels(study: dict) -> dict[str, str]:
    """What every change is called in figures and tables."""
    return {name: change["label"] or name.replace("-", " ") for name, change in study["changes"].items()}
