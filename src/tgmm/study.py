"""The study: what each command needs, resolved from a configuration: families, settings, files, what applies where."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from tgmm.artefacts import (
    ArtefactSettings,
    ClaimsTable,
    MetricAgainstPoints,
    OfFamilies,
    OfScores,
    Sources,
)
from tgmm.columns import ORACLE
from tgmm.config import (
    BASELINE,
    Change,
    Config,
    FamilyEntry,
    TaskFamily,
    TaskSetEntry,
    merge_config,
    read_config,
    scale_names,
)
from tgmm.errors import UserError, refuse_unknown
from tgmm.methods.settings import Network
from tgmm.tasks.settings import TaskSetSettings
from tgmm.tasks.shifts import ShiftValues, check_room, refuse_value
from tgmm.train.settings import TrainingSettings

MODEL_FILES = ("model.safetensors", "config.json", "history.csv")
PROBED, PICTURED = "components", 2  # the kind of networks that probes look into, and the dimension of a picture
PROBE_TASKS, PROBE_EM_STEPS = 256, 20  # for each K; what goes on inside needs fewer tasks than a comparison of errors
PLANE_TASKS, PLANE_EM_STEPS = 4, 20  # for each K, on the page of the results
REVIEWERS = "reviewers"  # the target of what answers the reviewers' questions
OTHER_QUESTION = "Further results"
ABLATION_VALIDATIONS = 4  # points of a curve of the error over the training
ABLATION_EM = {"em_steps": 20, "em_starts": 10}


@dataclass(frozen=True)
class Family:
    """A network of the study: the tasks that it is trained on, and its recipe.

    Attributes
    ----------
    covariance, d, N, K, recipe : as in the configuration; training lengths are uniform on {N/2, ..., N}.
    """

    covariance: str
    d: int
    N: int
    K: tuple[int, ...]
    recipe: str

    @property
    def name(self) -> str:
        return f"{self.covariance}-d{self.d}-n{self.N}-{self.recipe}"

    @property
    def tasks(self) -> dict[str, Any]:
        """The keys of its tasks in the settings of commands."""
        named = {"covariance": self.covariance, "dimension": self.d, "n_components": list(self.K)}
        return named | {"longest": self.N}

    @property
    def trained_on(self) -> dict[str, Any]:
        """What figures say of it."""
        return {"covariance": self.covariance, "d": self.d, "N": self.N, "recipe": self.recipe}


def families_of(entry: FamilyEntry) -> list[Family]:
    """The families of one entry of the configuration, its lists multiplied."""
    product = itertools.product(entry.covariance, entry.d, entry.N, entry.recipe)
    return [Family(covariance, d, N, entry.K, recipe) for covariance, d, N, recipe in product]


def load_study(config: str | Path = "config.yaml", scale: str | None = None) -> Study:
    """Read, validate and resolve a configuration file.

    Parameters
    ----------
    config : path of config.yaml; the scales are looked up beside it, in `workflow/`.
    scale : takes the place of the file's `scale`.

    Raises
    ------
    UserError : one line naming the file, the key and what would be right.
    """
    values = read_config(config)
    if scale is not None:
        values["scale"] = scale
    try:
        return study_from_config(values, Path(config).resolve().parent)
    except UserError as error:
        raise UserError(f"{config}: {error}") from None


def study_from_config(values: Mapping, root: str | Path = ".") -> Study:
    """The study of a configuration's values, merged with their scale and validated."""
    study = Study(merge_config(values, root))
    check_references(study, scale_names(Path(root)))
    return study


class Study:
    """What config.yaml and a scale say, ready for use.

    Parameters
    ----------
    config : the merged, validated configuration.
    """

    def __init__(self, config: Config):
        self.config = config
        self.scale: str = config.scale
        self.results = f"results/{self.scale}"

    @cached_property
    def planned(self) -> dict[str, Family]:
        """Every family that the configuration names, whether this scale has it or not."""
        return {family.name: family for entry in self.config.families for family in families_of(entry)}

    @cached_property
    def families(self) -> dict[str, Family]:
        """The families that this scale has."""
        patterns = self.config.trained
        return {
            name: family
            for name, family in self.planned.items()
            if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
        }

    @cached_property
    def default_families(self) -> list[str]:
        """The families of the default run: all but those that only the answers to the reviewers use."""
        wanted = [entry for entry in self.config.families if entry.target != REVIEWERS]
        return [family.name for entry in wanted for family in families_of(entry) if family.name in self.families]

    @property
    def untrained(self) -> list[str]:
        """The families that this scale does not have: labelled gaps in figures and tables."""
        return [name for name in self.planned if name not in self.families]

    @cached_property
    def tasksets(self) -> dict[str, tuple[str, int]]:
        """Name of every file of test tasks, such as `effectiveness-d8` -> (task set, d)."""
        return {f"{name}-d{d}": (name, d) for name, entry in self.config.tasksets.items() for d in entry.d}

    @cached_property
    def artefacts(self) -> dict[str, ArtefactSettings]:
        """The artefacts of this scale that have something to show."""
        wanted = {
            name: artefact
            for name, artefact in self.config.artefacts.items()
            if not artefact.scales or self.scale in artefact.scales
        }
        return {name: artefact for name, artefact in wanted.items() if self._has_content(artefact)}

    @property
    def left_out(self) -> list[str]:
        """Artefacts of the default run that would be empty: no family is trained, no method of theirs applies."""
        return self._left_out(lambda target: target != REVIEWERS)

    @property
    def reviewers_left_out(self) -> list[str]:
        """Those of the answers to the reviewers."""
        return self._left_out(lambda target: target == REVIEWERS)

    def _left_out(self, wanted: Callable[[str], bool]) -> list[str]:
        return [
            name
            for name, artefact in self.config.artefacts.items()
            if name not in self.artefacts
            and wanted(artefact.target)
            and (not artefact.scales or self.scale in artefact.scales)
        ]

    def _has_content(self, artefact: ArtefactSettings) -> bool:
        if isinstance(artefact, OfFamilies):
            return any(family in self.families for family in artefact.families)
        return not isinstance(artefact, OfScores) or bool(artefact.scores(self))

    def names(self, prefix: str, target: str = "all") -> list[str]:
        """Names of the artefacts of a target that begin with `fig-` or `tab-`."""
        return [name for name, entry in self.artefacts.items() if name.startswith(prefix) and entry.target == target]

    def family_of(self, method: str, taskset: str) -> str | None:
        """The family whose network a method runs on a file of tasks; None for a baseline or where none is trained."""
        entry = self.config.methods[method]
        if not isinstance(entry, Network):
            return None
        name, d = self.tasksets[taskset]
        family = Family(self.config.tasksets[name].covariance, d, entry.N, (), entry.recipe).name
        return family if family in self.families else None

    def applies(self, method: str, taskset: str) -> bool:
        """Whether a method is scored on a file of tasks. Where it is not, figures and tables mark a gap."""
        entry = self.config.methods[method]
        name, d = self.tasksets[taskset]
        if isinstance(entry, Network):
            return self.family_of(method, taskset) is not None
        return entry.applies(self.config.tasksets[name].covariance, d)

    @cached_property
    def scores(self) -> list[tuple[str, str]]:
        """(file of tasks, method) of every score that some artefact of the default run shows."""
        return self._shown(lambda target: target != REVIEWERS)

    @cached_property
    def reviewers_scores(self) -> list[tuple[str, str]]:
        """(file of tasks, method) of every score that the answers to the reviewers show."""
        return self._shown(lambda target: target == REVIEWERS)

    def _shown(self, wanted: Callable[[str], bool]) -> list[tuple[str, str]]:
        artefacts = [entry for entry in self.artefacts.values() if isinstance(entry, OfScores) and wanted(entry.target)]
        return list(dict.fromkeys(score for artefact in artefacts for score in artefact.scores(self)))

    @cached_property
    def default_tasksets(self) -> list[str]:
        """The files of test tasks of the default run: all but those that only the answers to the reviewers use."""
        others = {taskset for taskset, _ in self.reviewers_scores} - {taskset for taskset, _ in self.scores}
        return [taskset for taskset in self.tasksets if taskset not in others]

    def score_groups(self, taskset: str, scores: Iterable[tuple[str, str]] | None = None) -> dict[str, list[str]]:
        """The methods that are scored on a file of tasks, by the job that they share; of all scores, or of some.

        "baselines" need no training, those that run the same network wait for that family alone, and what takes minutes
        has a job of its own.
        """
        groups: dict[str, list[str]] = {}
        for name, method in self.scores if scores is None else scores:
            if name == taskset:
                shared = method if self.config.methods[method].SLOW else "baselines"
                groups.setdefault(self.family_of(method, taskset) or shared, []).append(method)
        return groups

    @property
    def summary(self) -> str:
        return f"{self.results}/summary.parquet"

    def score_file(self, taskset: str, method: str) -> str:
        """Where a method's scores on a file of tasks lie."""
        return f"{self.results}/scores/{taskset}/{method}.parquet"

    @property
    def provenance(self) -> Path:
        """How the files of this scale were made."""
        return Path(self.results) / "provenance.json.gz"

    @property
    def paper(self) -> str:
        """The manuscript."""
        return f"{self.results}/paper.pdf"

    @property
    def ablation_table(self) -> str:
        return f"{self.results}/ablation/all.csv"

    @property
    def real_data_table(self) -> str:
        return f"{self.results}/tables/real-data.csv"

    @property
    def real_data_picture(self) -> str:
        return f"{self.results}/figures/real-data.csv"

    def theory_table(self, measurement: str) -> str:
        return f"{self.results}/theory/{measurement}.csv"

    def probe_table(self, family: str, picture: bool = False) -> str:
        return f"{self.results}/probes/{family}{'-picture' if picture else ''}.csv"

    def histories(self, families: Iterable[str]) -> dict[str, str]:
        """Family -> the history of its training, for those that this scale has."""
        return {name: f"{self.results}/models/{name}/history.csv" for name in families if name in self.families}

    def sources(self, artefact: str) -> Sources:
        """The files that an artefact is drawn from."""
        return self.artefacts[artefact].sources(self)

    @cached_property
    def probed(self) -> dict[str, bool]:
        """Families that artefacts look into -> whether the picture of a task is wanted too."""
        found: dict[str, bool] = {}
        for artefact in self.artefacts.values():
            for family, picture in artefact.probed().items():
                if family in self.families:
                    found[family] = found.get(family, False) or picture
        return found

    @cached_property
    def measurements(self) -> list[str]:
        """Measurements of the theorems that some artefact of the default run shows."""
        return self._measured(lambda target: target != REVIEWERS)

    @cached_property
    def reviewers_measurements(self) -> list[str]:
        """Measurements that the answers to the reviewers show."""
        return self._measured(lambda target: target == REVIEWERS)

    def _measured(self, wanted: Callable[[str], bool]) -> list[str]:
        shown = [artefact.measurement() for artefact in self.artefacts.values() if wanted(artefact.target)]
        return list(dict.fromkeys(name for name in shown if name))

    @cached_property
    def ablations(self) -> list[tuple[int, int, str]]:
        """(d, seed, change) of every part of the ablation; none if no artefact shows it."""
        if not self.config.ablation.changes or not any(entry.target == "ablation" for entry in self.artefacts.values()):
            return []
        return list(itertools.product(*(getattr(self.config.ablation, key) for key in ("d", "seeds", "changes"))))

    def measurement_options(self, measurement: str) -> str:
        """Options of `tgmm theory measure`; what a measurement does not use is left out."""
        theory = self.config.theory
        tasks = self.config.test_tasks if measurement in ("sorted-floor", "fisher") else theory.tasks
        values = {"tasks": tasks, "widths": ",".join(map(str, theory.widths)), "seed": self.config.seed}
        options = {"em": ("tasks", "widths", "seed"), "sizes": ()}.get(measurement, ("tasks", "seed"))
        return " ".join(f"--{name} {values[name]}" for name in options)

    def task_settings(self, taskset: str) -> dict[str, Any]:
        """Settings of `tgmm sample-tasks`."""
        refuse_unknown("task set", taskset, self.tasksets)
        name, d = self.tasksets[taskset]
        entry = self.config.tasksets[name]
        shifts = [shift.plain() for shift in entry.shifts]
        return {
            "taskset": name,
            "covariance": entry.covariance,
            "dimension": d,
            "n_components": list(entry.K),
            "n_points": list(entry.N),
            "tasks": self.config.test_tasks,
            "heldout_points": self.config.heldout_points,
            "seed": self.config.seed,
            **({"shifts": shifts} if shifts else {}),
        }

    def train_settings(self, family: str) -> dict[str, Any]:
        """Settings of `tgmm train`."""
        refuse_unknown("family", family, self.planned)
        return family_settings(self.config, self.planned[family], self.config.seed)

    def assignment_settings(self) -> dict[str, Any]:
        """Settings of `tgmm train-assignment`."""
        return self.config.assignment.plain()

    def criterion_settings(self) -> dict[str, Any]:
        """Settings of `tgmm train-criterion`."""
        return self.config.criterion.plain()

    def ablation_settings(self, d: int, seed: int, change: str | None = None) -> dict[str, Any]:
        """Settings of `tgmm ablation run`: those of one change's training, or of every change's, the baseline first.

        All changes of a d and a seed share a family name, so the first weights and the stream of tasks.
        """
        entry = self.config.ablation
        refuse_unknown("dimension in 'ablation.d':", d, entry.d)
        refuse_unknown("seed in 'ablation.seeds':", seed, entry.seeds)
        family = Family(entry.covariance, d, entry.N, entry.K, entry.recipe)
        base = family_settings(self.config, family, seed) | {"family": f"ablation-d{d}-s{seed}"}
        if change is not None:
            refuse_unknown("change in 'ablation.changes':", change, entry.changes)
        names = [BASELINE, *(name for name in entry.changes if name != BASELINE)] if change is None else [change]
        changes = [{"change": name, "settings": self._changed(base, name)} for name in names]
        return {"d": d, "seed": seed, "scale": self.scale, **ABLATION_EM, "changes": changes}

    def _changed(self, base: dict[str, Any], name: str) -> dict[str, Any]:
        """Settings of training with a change; all start from the baseline, which may change the recipe too."""
        changes = self.config.ablation.changes
        tasks = max(1, round(self.config.ablation.tasks * changes[name].tasks_share))
        budget = {"tasks": tasks, "validate_every": max(1, tasks // ABLATION_VALIDATIONS)}
        start = base if name == BASELINE else changed(base, changes[BASELINE])
        return changed(start, changes[name]) | {"training": base["training"] | budget}

    def score_settings(self, method: str, taskset: str) -> dict[str, Any]:
        """Settings of `tgmm score` for one method; `family` is there for networks only."""
        refuse_unknown("method", method, self.config.methods)
        refuse_unknown("task set", taskset, self.tasksets)
        family = self.family_of(method, taskset)
        return {
            "method": method,
            **self.config.methods[method].plain(),
            **({"family": family} if family else {}),
            "seed": self.config.seed,
            "scale": self.scale,
        }

    def probe_settings(self, family: str) -> dict[str, Any]:
        """Settings of `tgmm probe`."""
        refuse_unknown("family", family, self.families)
        return {
            "family": family,
            **self.families[family].tasks,
            "tasks": min(PROBE_TASKS, self.config.test_tasks),
            "em_steps": PROBE_EM_STEPS,
            "bootstrap": self.config.bootstrap,
            "seed": self.config.seed,
            "scale": self.scale,
        }

    @cached_property
    def plane_tasksets(self) -> dict[str, list[str]]:
        """Files of unshifted tasks in the plane -> the methods that are quick enough to be shown on the page."""
        found: dict[str, list[str]] = {}
        for taskset, method in self.scores:
            name, d = self.tasksets[taskset]
            if d == 2 and not self.config.tasksets[name].shifts and not self.config.methods[method].SLOW:
                found.setdefault(taskset, []).append(method)
        return found

    def question(self, artefact: str) -> str:
        """Title of the first question that names the artefact."""
        for question in self.config.questions.values():
            if any(fnmatchcase(artefact, pattern) for pattern in question.artefacts):
                return question.title
        return OTHER_QUESTION

    def page_settings(self) -> dict[str, Any]:
        """Settings of `tgmm page`."""
        order = [question.title for question in self.config.questions.values()] + [OTHER_QUESTION]
        shown = [name for name, artefact in self.config.artefacts.items() if artefact.target != REVIEWERS]
        named = [{"id": name, "question": self.question(name)} for name in shown]
        named.sort(key=lambda entry: order.index(entry["question"]))
        return {
            "scale": self.scale,
            "seed": self.config.seed,
            "artefacts": [
                entry | {"sources": self.sources(entry["id"]).files} for entry in named if entry["id"] in self.artefacts
            ],
            "absent": [entry for entry in named if entry["id"] not in self.artefacts],
            "untrained": self.untrained,
        }

    def plane_settings(self) -> dict[str, Any]:
        """Settings of `tgmm plane`."""
        methods = {
            taskset: [self.score_settings(method, taskset) for method in methods]
            for taskset, methods in self.plane_tasksets.items()
        }
        return {"tasks": PLANE_TASKS, "em_steps": PLANE_EM_STEPS, "tasksets": methods}

    def artefact_settings(self, artefact: str) -> dict[str, Any]:
        """Settings of `tgmm figure` and `tgmm table`."""
        refuse_unknown("artefact", artefact, self.config.artefacts)
        entry = self.config.artefacts[artefact]
        shown = {key: value for key, value in entry.plain().items() if key not in ("d", "scales", "target")}
        if not shown.get("shift"):
            shown.pop("shift", None)
        settings = {"id": artefact, "scale": self.scale, "bootstrap": self.config.bootstrap, "seed": self.config.seed}
        settings |= shown
        if isinstance(entry, OfScores):
            tasks = self.config.tasksets[entry.taskset]
            settings |= {
                "covariance": tasks.covariance,
                "dimensions": list(entry.d or tasks.d),
                "n_components": list(tasks.K),
                "n_points": list(tasks.N),
                "shifts": [shift.plain() for shift in tasks.shifts],
                "test_tasks": self.config.test_tasks,
            }
        if isinstance(entry, MetricAgainstPoints):
            networks = {name: self.config.methods[name] for name in entry.methods}
            settings["trained_N"] = {name: method.N for name, method in networks.items() if isinstance(method, Network)}
        if isinstance(entry, OfFamilies):
            settings["families"] = [name for name in entry.families if name in self.families]
            settings["trained_on"] = {name: self.families[name].trained_on for name in settings["families"]}
            settings["validation_tasks"] = self.config.validation_tasks
            missing = [name for name in entry.families if name not in self.families]
            settings |= {"untrained": missing} if missing else {}
        if entry.target == "ablation":
            ablation = self.config.ablation
            labels = {name: change.label or name.replace("-", " ") for name, change in ablation.changes.items()}
            settings |= {"recipe": ablation.recipe, "covariance": ablation.covariance, "N": ablation.N}
            settings |= {"changes": labels, "validation_tasks": self.config.validation_tasks}
        return settings

    def summary_settings(self) -> dict[str, Any]:
        """Settings of `tgmm aggregate`."""
        claims = [entry for entry in self.artefacts.values() if isinstance(entry, ClaimsTable)]
        recipes = {"recipes": claims[0].plain()["recipes"]} if claims else {}
        return {"scale": self.scale, "bootstrap": self.config.bootstrap, "seed": self.config.seed, **recipes}

    def missing_models(self, root: str | Path) -> list[str]:
        """The families of this scale whose model is not there."""
        folder = Path(root) / self.results / "models"
        return [name for name in self.families if not all((folder / name / file).is_file() for file in MODEL_FILES)]


def family_settings(config: Config, family: Family, seed: int) -> dict[str, Any]:
    """Settings of training for a family: its name, its tasks, its recipe's network, loss and budget."""
    recipe = config.recipes[family.recipe]
    special = recipe.anisotropic if family.covariance == "anisotropic" else {}
    return {
        "family": family.name,
        **family.tasks,
        "recipe": family.recipe,
        "network": network_settings(config, family.recipe) | special,
        "loss": recipe.loss,
        **({"cross_entropy_weight": recipe.cross_entropy_weight} if recipe.cross_entropy_weight != 1 else {}),
        **({"shifts": [shift.plain() for shift in recipe.shifts]} if recipe.shifts else {}),
        "training": config.training[recipe.training or family.recipe].plain(),
        "validation_tasks": config.validation_tasks,
        "seed": seed,
        "scale": config.scale,
    }


def changed(settings: dict[str, Any], change: Change) -> dict[str, Any]:
    """Settings of training with a change of the ablation: first what it multiplies, then what it sets."""
    network = dict(settings["network"])
    for key, share in (("width", change.width_share), ("blocks", change.blocks_share)):
        network[key] = max(1, round(share * network[key]))
    return settings | {"network": network | change.network, "loss": change.loss or settings["loss"]}


def network_settings(config: Config, recipe: str) -> dict[str, Any]:
    """Kind and size of a recipe's network: the scale's size of that kind, times the recipe's shares."""
    entry = config.recipes[recipe]
    size = config.networks.size_of(entry.network)
    for key, share in (("width", entry.width_share), ("blocks", entry.blocks_share)):
        size[key] = max(1, round(share * size[key]))
    if entry.axes is not None:
        size["axes"] = entry.axes
    return {"kind": entry.network, **size}


def check_references(study: Study, scales: Iterable[str]) -> None:
    """Raise a `UserError` for a name that nothing defines and for what does not fit together."""
    config = study.config
    for name, recipe in config.recipes.items():
        budget = recipe.training or name
        if budget not in config.training:
            present = ", ".join(config.training)
            raise UserError(f"missing key 'training.{budget}': 'recipes.{name}' needs it (present: {present})")
    budgets = [recipe.training or name for name, recipe in config.recipes.items()]
    for budget in config.training:
        refuse_unknown("recipe in 'training':", budget, budgets)
    _check_tasks(study)
    _check_families(config)
    for pattern in config.trained:
        if not any(fnmatchcase(name, pattern) for name in study.planned):
            raise UserError(f"'trained': no family of 'families' matches '{pattern}'")
    for name, method in config.methods.items():
        if isinstance(method, Network):
            refuse_unknown(f"recipe in 'methods.{name}.recipe':", method.recipe, config.recipes)
        if name == ORACLE and not method.knows_truth:
            raise UserError(f"'methods.{name}': is the floor of all others, and must be of kind em with start truth")
    for name, artefact in config.artefacts.items():
        for scale in artefact.scales:
            refuse_unknown(f"scale in 'artefacts.{name}.scales':", scale, scales)
        _check_artefact(study, name, artefact)
    _check_ablation(study)


def _check_tasks(study: Study) -> None:
    """Means must find room within the cosine limit, shifts must make sense, and no set may be too large."""
    config = study.config
    entries = {f"families[{place}]": entry for place, entry in enumerate(config.families)}
    entries |= {f"tasksets.{name}": entry for name, entry in config.tasksets.items()}
    if config.ablation.changes:
        entries["ablation"] = config.ablation
    for key, entry in entries.items():
        for d, K, shifts in itertools.product(entry.d, entry.K, _shifts_of(config, entry)):
            _blamed(f"'{key}.K'", check_room, d, K, shifts)
    for name, entry in config.tasksets.items():
        kinds = [shift.kind for shift in entry.shifts]
        for place, shift in enumerate(entry.shifts):
            key = f"'tasksets.{name}.shifts[{place}]"
            if shift.kind in kinds[:place]:
                raise UserError(f"{key}': the shift '{shift.kind}' is listed twice; give it all its values at once")
            for value in shift.values:
                _blamed(f"{key}.values'", refuse_value, shift.kind, value)
            if shift.kind == "separation" and max(entry.K) > min(entry.d) + 1:
                raise UserError(f"{key}': a regular simplex of K={max(entry.K)} means needs d of at least K - 1")
            if shift.kind == "wrong-k" and min(entry.K) + min(shift.values) < 1:
                raise UserError(f"{key}.values': K + {min(shift.values):g} leaves no component to fit")
    for file, (name, _) in study.tasksets.items():
        _blamed(f"'tasksets.{name}'", TaskSetSettings.read, study.task_settings(file))


def _shifts_of(config: Config, entry: TaskFamily | TaskSetEntry) -> list[tuple[ShiftValues, ...]]:
    """The shifts of a task set, or those of each recipe of families."""
    if isinstance(entry, TaskSetEntry):
        return [entry.shifts]
    recipes = entry.recipe if isinstance(entry, FamilyEntry) else [entry.recipe]
    return [config.recipes[name].shifts for name in recipes if name in config.recipes]


def _check_families(config: Config) -> None:
    """Families need a recipe that exists, a network that can be built, and a name of their own."""
    seen: dict[str, int] = {}
    for place, entry in enumerate(config.families):
        for recipe in entry.recipe:
            refuse_unknown(f"recipe in 'families[{place}].recipe':", recipe, config.recipes)
        for family in families_of(entry):
            if family.name in seen:
                first = seen[family.name]
                raise UserError(f"'families[{place}]' defines {family.name} again; it stands in 'families[{first}]'")
            seen[family.name] = place
            network = config.recipes[family.recipe].network
            _blamed(
                f"'networks.{network}', for recipe '{family.recipe}'",
                TrainingSettings.from_dict, family_settings(config, family, config.seed),
            )  # fmt: skip


def _check_artefact(study: Study, name: str, artefact: Any) -> None:
    """An artefact may name only what the study holds."""
    key, config = f"artefacts.{name}", study.config
    if not name.startswith(artefact.prefix):
        raise UserError(f"'{key}': the name of a {artefact.kind} must begin with '{artefact.prefix}'")
    for field in ("families", "of_other_depth"):
        for family in getattr(artefact, field, ()):
            refuse_unknown(f"family in '{key}.{field}':", family, study.planned)
    for family, picture in artefact.probed().items():
        kind = config.recipes[study.planned[family].recipe].network
        if kind != PROBED or (picture and study.planned[family].d != PICTURED):
            also = f" in d = {PICTURED}" if picture else ""
            raise UserError(f"'{key}.families': needs networks of kind '{PROBED}'{also}, and {family} is none")
    for method in getattr(artefact, "methods", ()):
        refuse_unknown(f"method in '{key}.methods':", method, config.methods)
    for role, taskset in getattr(artefact, "tasksets", {}).items():
        refuse_unknown(f"task set in '{key}.tasksets.{role}':", taskset, config.tasksets)
    if isinstance(artefact, OfScores):
        refuse_unknown(f"task set in '{key}.taskset':", artefact.taskset, config.tasksets)
        tasks = config.tasksets[artefact.taskset]
        for d in artefact.d:
            if d not in tasks.d:
                raise UserError(f"'{key}.d': task set '{artefact.taskset}' has no d = {d}")
        if getattr(artefact, "shift", ""):
            refuse_unknown(f"shift in '{key}.shift':", artefact.shift, [shift.kind for shift in tasks.shifts])


def _check_ablation(study: Study) -> None:
    """The ablation needs a baseline, and every change must leave settings that can be trained."""
    config = study.config
    if not config.ablation.changes and not any(entry.target == "ablation" for entry in study.artefacts.values()):
        return
    refuse_unknown("recipe in 'ablation.recipe':", config.ablation.recipe, config.recipes)
    if BASELINE not in config.ablation.changes:
        raise UserError(f"missing key 'ablation.changes.{BASELINE}': all other changes start from it")
    for d in config.ablation.d:
        for entry in study.ablation_settings(d, config.ablation.seeds[0])["changes"]:
            _blamed(f"'ablation.changes.{entry['change']}'", TrainingSettings.from_dict, entry["settings"])


def _blamed(key: str, check: Any, *arguments: Any) -> None:
    """Run a check; its complaint names the key."""
    try:
        check(*arguments)
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
