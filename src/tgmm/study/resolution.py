"""A validated configuration, resolved: names expanded, applicability decided, the settings of every command."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from functools import cached_property

from tgmm.errors import unknown_name
from tgmm.study.recipe_study import EM_STARTS, EM_STEPS, change_labels, change_settings, study_family

# Kinds of artefacts that show a measurement of a theorem instead of scores.
MEASUREMENTS = {
    "theorem-em": "em",
    "theorem-power": "power",
    "theorem-sizes-table": "sizes",
    "sorted-floor-table": "sorted-floor",
}

# Kinds of artefacts that look inside a network -> how the name of their file ends.
PROBE_SUFFIXES = {"probes": ".csv", "probe-picture": "-picture.csv"}

# Kinds of artefacts that show the recipe study.
RECIPE_STUDY_KINDS = ("recipe-study", "recipe-table")


class Study:
    """What config.yaml and a scale say, ready for use.

    Parameters
    ----------
    config : the merged, validated configuration with defaults filled in.
    """

    def __init__(self, config: dict):
        self.config = config
        self.scale: str = config["scale"]
        self.results = f"results/{self.scale}"
        self.absent: tuple[str, ...] = ()
        self.left_out: tuple[str, ...] = ()

    def without(self, families: Iterable[str], *, recipe_study: bool = True) -> Study:
        """The study without families that are not trained, nor the recipe study unless it is kept.

        They become gaps: methods do not apply where their family is missing, artefacts that show families show the
        others and name the missing ones as ``untrained``. ``absent`` holds the families, ``left_out`` the artefacts
        that have nothing to show.
        """
        absent = set(families)
        kept = [
            {**entry, "covariance": part["covariance"], "d": part["dimension"], "N": part["longest"]}
            | {"recipe": part["recipe"]}
            for entry in self.config["families"]
            for name, part in zip(family_names(entry), parts(entry), strict=True)
            if name not in absent
        ]
        artefacts = {name: _with_gaps(entry, absent) for name, entry in self.config["artefacts"].items()}
        smaller = Study(self.config | {"families": kept, "artefacts": artefacts})
        shown = {name: entry for name, entry in artefacts.items() if smaller.has_content(name, recipe_study)}
        study = Study(smaller.config | {"artefacts": shown})
        study.absent = tuple(name for name in self.families if name in absent)
        study.left_out = tuple(name for name in artefacts if name not in shown)
        return study

    def has_content(self, artefact: str, recipe_study: bool = True) -> bool:
        """Whether an artefact has anything to show: a family, a score, or else what needs no training."""
        entry = self.config["artefacts"][artefact]
        if entry["kind"] in RECIPE_STUDY_KINDS:
            return recipe_study
        if "families" in entry:
            return bool(entry["families"])
        return "taskset" not in entry or bool(self.artefact_scores(artefact))

    @cached_property
    def families(self) -> dict[str, dict]:
        """Name of every family to train -> its covariance, dimension, longest, n_components and recipe."""
        return {
            name: part
            for entry in self.config["families"]
            for name, part in zip(family_names(entry), parts(entry), strict=True)
        }

    @cached_property
    def tasksets(self) -> dict[str, tuple[str, int]]:
        """Name of every file of test tasks, such as `effectiveness-d8` -> (task set, dimension)."""
        return {
            f"{name}-d{dimension}": (name, dimension)
            for name, entry in self.config["tasksets"].items()
            for dimension in as_list(entry["d"])
        }

    def family_of(self, method: str, taskset: str) -> str | None:
        """The family whose network a method runs on a file of tasks; None for a baseline or where none is trained."""
        entry = self.config["methods"][method]
        if entry["kind"] != "tgmm":
            return None
        name, dimension = self.tasksets[taskset]
        covariance = self.config["tasksets"][name]["covariance"]
        family = family_name(covariance, dimension, entry["N"], entry["recipe"])
        return family if family in self.families else None

    def applies(self, method: str, taskset: str) -> bool:
        """Whether a method can be scored on a file of tasks. Where it cannot, figures and tables mark a gap."""
        return self.config["methods"][method]["kind"] != "tgmm" or self.family_of(method, taskset) is not None

    def artefact_scores(self, artefact: str) -> list[tuple[str, str]]:
        """(file of tasks, method) of every score that an artefact asks for: none without a task set of its own."""
        entry = self.config["artefacts"][artefact]
        return [
            (taskset, method)
            for taskset, (name, dimension) in self.tasksets.items()
            for method in entry.get("methods", ())
            if name == entry.get("taskset")
            and dimension in (entry.get("d") or [dimension])
            and self.applies(method, taskset)
        ]

    @cached_property
    def scores(self) -> list[tuple[str, str]]:
        """(file of tasks, method) of every score that some artefact shows."""
        pairs = [pair for artefact in self.config["artefacts"] for pair in self.artefact_scores(artefact)]
        return list(dict.fromkeys(pairs))

    @property
    def figures(self) -> list[str]:
        """Names of the figures."""
        return [name for name in self.config["artefacts"] if name.startswith("fig-")]

    @property
    def tables(self) -> list[str]:
        """Names of the tables."""
        return [name for name in self.config["artefacts"] if name.startswith("tab-")]

    def artefact_source(self, artefact: str) -> str:
        """The file that an artefact is drawn from: the summary of the scores, or a measurement."""
        entry = self.config["artefacts"][artefact]
        if entry["kind"] in MEASUREMENTS:
            return f"{self.results}/theory/{MEASUREMENTS[entry['kind']]}.csv"
        if entry["kind"] in PROBE_SUFFIXES:
            return f"{self.results}/probes/{entry['families'][0]}{PROBE_SUFFIXES[entry['kind']]}"
        if entry["kind"] in RECIPE_STUDY_KINDS:
            return f"{self.results}/recipes/all.csv"
        return f"{self.results}/summary.parquet"

    def probed(self, kind: str) -> list[str]:
        """Families that artefacts of a kind ("probes" or "probe-picture") show."""
        entries = [entry for entry in self.config["artefacts"].values() if entry["kind"] == kind]
        return list(dict.fromkeys(family for entry in entries for family in entry["families"]))

    @cached_property
    def recipe_studies(self) -> list[tuple[int, int]]:
        """(dimension, seed) of every part of the recipe study; none if no artefact shows it."""
        if not any(entry["kind"] in RECIPE_STUDY_KINDS for entry in self.config["artefacts"].values()):
            return []
        study = self.config["recipe_study"]
        return list(itertools.product(study["d"], study["seeds"]))

    @cached_property
    def measurements(self) -> list[str]:
        """Measurements of the theorems that some artefact shows."""
        kinds = [entry["kind"] for entry in self.config["artefacts"].values()]
        return list(dict.fromkeys(MEASUREMENTS[kind] for kind in kinds if kind in MEASUREMENTS))

    def measurement_options(self, measurement: str) -> str:
        """Options of `tgmm theory measure`; what a measurement does not use is left out."""
        theory = self.config["theory"]
        options = {
            "em": ("tasks", "widths", "seed"),
            "power": ("tasks", "seed"),
            "sizes": (),
            "sorted-floor": ("tasks", "seed"),
        }[measurement]
        tasks = self.config["test_tasks"] if measurement == "sorted-floor" else theory["tasks"]
        values = {"tasks": tasks, "widths": ",".join(map(str, theory["widths"])), "seed": self.config["seed"]}
        return " ".join(f"--{name} {values[name]}" for name in options)

    def task_settings(self, taskset: str) -> dict:
        """Settings of `tgmm sample-tasks`."""
        known("task set", taskset, self.tasksets)
        name, dimension = self.tasksets[taskset]
        entry = self.config["tasksets"][name]
        return {
            "taskset": name,
            "covariance": entry["covariance"],
            "dimension": dimension,
            "n_components": as_list(entry["K"]),
            "n_points": as_list(entry["N"]),
            "tasks": self.config["test_tasks"],
            "heldout_points": self.config["heldout_points"],
            "seed": self.config["seed"],
            **({"shifts": entry["shifts"]} if entry["shifts"] else {}),
        }

    def train_settings(self, family: str) -> dict:
        """Settings of `tgmm train`."""
        known("family", family, self.families)
        return self.recipe_settings(family, self.families[family], self.config["seed"])

    def recipe_settings(self, family: str, part: dict, seed: int) -> dict:
        """Settings of training for a family that need not be one of the study's: its name, its tasks and recipe."""
        name = part["recipe"]
        recipe = self.config["recipes"][name]
        return {
            "family": family,
            **part,
            "network": self.network_settings(name),
            "loss": recipe["loss"],
            "training": self.config["training"][recipe["training"] or name],
            "validation_tasks": self.config["validation_tasks"],
            "seed": seed,
            "scale": self.scale,
        }

    def recipe_study_settings(self, dimension: int, seed: int) -> dict:
        """Settings of `tgmm recipe-study`: those of every change's training, the baseline first."""
        study = self.config["recipe_study"]
        known("dimension in 'recipe_study.d':", dimension, study["d"])
        known("seed in 'recipe_study.seeds':", seed, study["seeds"])
        part = next(part for part in parts(study) if part["dimension"] == dimension)
        base = self.recipe_settings(study_family(dimension, seed), part, seed)
        return {
            "d": dimension,
            "seed": seed,
            "scale": self.scale,
            "em_steps": EM_STEPS,
            "em_starts": EM_STARTS,
            "changes": change_settings(base, study),
        }

    def network_settings(self, recipe: str) -> dict:
        """Kind and size of a recipe's network: the scale's size of that kind, times the recipe's shares."""
        entry = self.config["recipes"][recipe]
        size = dict(self.config["networks"][entry["network"]])
        for key in ("width", "blocks"):
            size[key] = max(1, round(entry[f"{key}_share"] * size[key]))
        return {"kind": entry["network"], **size}

    def score_settings(self, method: str, taskset: str) -> dict:
        """Settings of `tgmm score`; `family` is there for networks only."""
        known("method", method, self.config["methods"])
        known("task set", taskset, self.tasksets)
        family = self.family_of(method, taskset)
        return {
            "method": method,
            **self.config["methods"][method],
            **({"family": family} if family else {}),
            "seed": self.config["seed"],
            "scale": self.scale,
        }

    def artefact_settings(self, artefact: str) -> dict:
        """Settings of `tgmm figure` and `tgmm table`."""
        known("artefact", artefact, self.config["artefacts"])
        entry = self.config["artefacts"][artefact]
        shown = {key: value for key, value in entry.items() if key not in ("d", "scales")}
        if not shown.get("shift"):
            shown.pop("shift", None)
        settings = {"id": artefact, "scale": self.scale, "bootstrap": self.config["bootstrap"], **shown}
        if "taskset" in entry:
            tasks = self.config["tasksets"][entry["taskset"]]
            settings |= {
                "covariance": tasks["covariance"],
                "dimensions": entry.get("d") or as_list(tasks["d"]),
                "n_components": as_list(tasks["K"]),
                "n_points": as_list(tasks["N"]),
                "shifts": tasks["shifts"],
                "test_tasks": self.config["test_tasks"],
            }
        if "families" in entry:
            settings |= {"validation_tasks": self.config["validation_tasks"], "seed": self.config["seed"]}
        if entry["kind"] in RECIPE_STUDY_KINDS:
            study = self.config["recipe_study"]
            shown = {key: study[key] for key in ("recipe", "covariance", "N")}
            settings |= {**shown, "changes": change_labels(study), "validation_tasks": self.config["validation_tasks"]}
        return settings

    def summary_settings(self) -> dict:
        """Settings of `tgmm aggregate`."""
        return {"scale": self.scale, "bootstrap": self.config["bootstrap"], "seed": self.config["seed"]}


def _with_gaps(entry: dict, absent: set[str]) -> dict:
    """An artefact's entry with the families that are there, those that are not under a key of their own."""
    missing = [family for family in entry.get("families", ()) if family in absent]
    if not missing:
        return entry
    return entry | {"families": [name for name in entry["families"] if name not in absent], "untrained": missing}


def known(what: str, name: object, choices: Iterable) -> None:
    """Raise a `UserError` with the nearest choice unless the name is among the choices."""
    if name not in choices:
        raise unknown_name(what, name, choices)


def family_name(covariance: str, dimension: int, longest: int, recipe: str) -> str:
    """The name of a family, such as `isotropic-d8-n128-components`."""
    return f"{covariance}-d{dimension}-n{longest}-{recipe}"


def parts(entry: dict) -> list[dict]:
    """The families of one entry of `families`, its lists multiplied."""
    lists = (as_list(entry[key]) for key in ("covariance", "d", "N", "recipe"))
    return [
        {
            "covariance": covariance,
            "dimension": dimension,
            "n_components": as_list(entry["K"]),
            "longest": longest,
            "recipe": recipe,
        }
        for covariance, dimension, longest, recipe in itertools.product(*lists)
    ]


def family_names(entry: dict) -> list[str]:
    """Names of the families of one entry, in the order of `parts`."""
    return [
        family_name(part["covariance"], part["dimension"], part["longest"], part["recipe"]) for part in parts(entry)
    ]


def as_list(value: object) -> list:
    """A list, of one item if it was none."""
    return list(value) if isinstance(value, list | tuple) else [value]
