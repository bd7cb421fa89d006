"""The configuration: every key of config.yaml and of the scale files, once: name, type, limits, default, description.

The JSON schema that editors use is generated from these classes (`python -m tgmm.config`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import Field, create_model

from tgmm.artefacts import AnyArtefact, ArtefactName
from tgmm.errors import UserError, refuse_unknown
from tgmm.files import DEEPEST, read_text, write_atomically
from tgmm.methods.settings import AnyMethod
from tgmm.models.settings import LOSSES, NETWORK_KINDS
from tgmm.settings import (
    MOST_RESAMPLES,
    OF_SCALE,
    Count,
    Line,
    Name,
    Seed,
    Settings,
    Share,
    one_or_several,
    several,
)
from tgmm.tasks.shifts import ShiftValues
from tgmm.train.settings import (
    SHIFTS_OF_TRAINING,
    AssignmentTraining,
    Budget,
    CriterionTraining,
    Factor,
    TrainingShifts,
)

SCALES = Path("workflow/scales")
SCHEMA = Path("workflow/schemas/config.schema.json")
BASELINE = "baseline"
LONGEST_NUMBER = 40  # digits
MOST_VALUES = 100_000  # in a file, those that an alias repeats among them
FORBIDDEN_KEYS = {"__use_yte__": "it would run Python code inside the file"}

Covariance = Literal["isotropic", "anisotropic"]


class Recipe(Settings):
    """How a family can be trained: its network and its loss."""

    network: Literal[tuple(NETWORK_KINDS)] = Field("components", description="The kind of network.")
    loss: Literal[LOSSES] = Field(
        "matched",
        description="The loss: squared error with components matched to the truth or sorted by weight, the likelihood "
        "of the points or of held-out ones, or both (matched, and of the points).",
    )
    training: Name | Literal[""] = Field(
        "",
        description="The entry of `training` with the recipe's budget; empty is the recipe's own name.",
    )
    width_share: Share = Field(1.0, description="Width of the network as a multiple of the scale's.")
    blocks_share: Share = Field(1.0, description="Number of blocks as a multiple of the scale's, rounded.")
    axes: int | None = Field(
        None, ge=0, le=4096, description="Principal axes that a component network sees; empty takes the scale's."
    )
    cross_entropy_weight: Factor = Field(1.0, description="Factor of the weights' cross-entropy in the loss.")
    shifts: TrainingShifts = Field((), description=SHIFTS_OF_TRAINING)
    anisotropic: dict[Name, int | bool] = Field(
        {}, description="Settings of the network on anisotropic tasks, in place of the scale's."
    )


class TaskFamily(Settings):
    """The tasks that networks are trained on; lists multiply."""

    covariance: one_or_several(Covariance) = Field(("isotropic",), description="Covariance of the tasks.")
    d: one_or_several(Count) = Field(description="Dimension of the points, such as [2, 8].")
    N: one_or_several(Annotated[int, Field(ge=2, le=10**6)]) = Field(
        (128,), description="Largest number of points in a training task; the smallest is half of it."
    )
    K: several(Count) = Field((2, 3, 4, 5), description="Numbers of components in training.")


class FamilyEntry(TaskFamily):
    """Families to train, one for each combination."""

    recipe: one_or_several(Name) = Field(("components",), description="How the family is trained.")
    target: Literal["all", "reviewers"] = Field(
        "all", description="The target of the workflow that trains it: all, the default, or reviewers."
    )


class Change(Settings):
    """One change of a recipe. Shares multiply what the recipe has at the scale, to mean the same everywhere."""

    label: Line = Field("", max_length=80, description="What figures and tables call it; empty takes its name.")
    loss: Literal[LOSSES] | None = Field(None, description="The loss; empty keeps the recipe's.")
    tasks_share: Share = Field(
        1.0,
        description="Training tasks as a multiple of the baseline's: below 1 where a step takes longer, so that all "
        "changes get the same processor time (`tgmm ablation calibrate` measures it).",
    )
    width_share: Share = Field(1.0, description="Width of the network as a multiple of the recipe's, rounded.")
    blocks_share: Share = Field(1.0, description="Number of blocks as a multiple of the recipe's, rounded.")
    network: dict[Name, int | bool] = Field({}, description="Settings of the network that the change sets.")


class AblationEntry(TaskFamily):
    """The ablation: one change of a recipe at a time, at equal processor time. Its tasks and seeds are the scale's."""

    recipe: Name = Field("components", description="The recipe that is changed.")
    covariance: Covariance = Field("isotropic", description="Covariance of the tasks.")
    d: several(Count) = Field((2, 8), description="Dimensions of the points, a comparison for each.")
    N: Annotated[int, Field(ge=2, le=10**6)] = Field(128, description="Largest number of points in a training task.")
    changes: dict[Name, Change] = Field(
        {}, description="The changes by name, among them one called baseline, from which all others start."
    )
    tasks: Count = Field(4000, description="Training tasks of the baseline, for each seed.", json_schema_extra=OF_SCALE)
    seeds: several(Seed) = Field(
        (1, 2, 3), description="Seeds: every change is trained once with each.", json_schema_extra=OF_SCALE
    )


class TaskSetEntry(Settings):
    """Test tasks: a file for each d, a cell for each K, N and value of a shift."""

    covariance: Covariance = Field("isotropic", description="Covariance of the tasks.")
    d: one_or_several(Count) = Field(description="Dimension of the points, such as [2, 8].")
    K: one_or_several(Count) = Field(description="Numbers of components, such as [2, 3, 4, 5].")
    N: one_or_several(Annotated[int, Field(ge=1, le=10**7)]) = Field((128,), description="Numbers of points.")
    shifts: tuple[ShiftValues, ...] = Field(
        (), description="How the tasks differ from those that networks are trained on: a cell for each value of each."
    )


class NetworkSizes(Settings):
    """The size of each kind of network."""

    def size_of(self, kind: str) -> dict[str, Any]:
        """The size of a kind of network, as plain values."""
        return getattr(self, kind.replace("-", "_")).plain()


Networks = create_model(
    "Networks",
    __base__=NetworkSizes,
    __doc__=NetworkSizes.__doc__,
    **{
        kind.replace("-", "_"): (network.SIZE, Field(network.SIZE(), alias=kind, description=network.__doc__))
        for kind, network in NETWORK_KINDS.items()
    },
)


class Theory(Settings):
    """Grids of the measurements behind the theorems."""

    tasks: Count = Field(8, description="Random tasks a cell.")
    widths: several(Annotated[int, Field(ge=1, le=10**6)]) = Field(
        (512, 1024, 2048, 4096), description="Hidden widths W of the transformers of Theorem 1."
    )


class RealData(Settings):
    """Fits of well-known data sets."""

    repeats: Count = Field(8, description="Fits and cross-validations of every method, each with a seed of its own.")


class Question(Settings):
    """A question of the study, under which the page and the report show artefacts."""

    title: Annotated[str, Field(min_length=1, max_length=120)] = Field(description="The question, as a heading.")
    artefacts: several(Annotated[str, Field(pattern=r"^[a-z0-9*?-]+$", max_length=80)]) = Field(
        description="Names of artefacts or patterns with * and ?; the first question that has a match shows it."
    )


class Config(Settings):
    """The study of config.yaml, merged with workflow/scales/<scale>.yaml, whose keys are marked x-scale."""

    scale: Name = Field("laptop", description="Which file of workflow/scales gives the sizes and budgets.")
    seed: Seed = Field(
        2505, description="Root of every random number; tasks, training and methods each derive streams of their own."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where networks run: auto takes a GPU if there is one. Not a change of the study."
    )
    allow_cpu_training: bool = Field(
        False, description="Whether networks may be trained for days without a GPU. Not a change of the study."
    )
    recipes: dict[Name, Recipe] = Field({}, description="How a family can be trained.")
    families: tuple[FamilyEntry, ...] = Field((), description="The networks of the study; lists in an entry multiply.")
    ablation: AblationEntry = Field(AblationEntry(), description="One change of a recipe at a time.")
    assignment: AssignmentTraining = Field(AssignmentTraining(), description="The network of the estimator.")
    criterion: CriterionTraining = Field(
        CriterionTraining(), description="The network by which the estimator chooses the number of components."
    )
    tasksets: dict[Name, TaskSetEntry] = Field({}, description="The test tasks: a file for each d.")
    methods: dict[Name, AnyMethod] = Field({}, description="The estimators that are compared.")
    artefacts: dict[ArtefactName, AnyArtefact] = Field({}, description="Figures (fig-...) and tables (tab-...).")
    questions: dict[Name, Question] = Field({}, description="The questions that the artefacts answer, in order.")

    trained: several(Annotated[str, Field(pattern=r"^[a-z0-9*?+-]+$", max_length=80)], least=0) = Field(
        (),
        description="The families that this scale has, as names or patterns with * and ?; none stands for all. The "
        "others are labelled gaps.",
        json_schema_extra=OF_SCALE,
    )
    test_tasks: Count = Field(256, description="Test tasks in a cell.", json_schema_extra=OF_SCALE)
    heldout_points: Count = Field(
        256, description="Fresh points of each test task, for the held-out likelihood.", json_schema_extra=OF_SCALE
    )
    validation_tasks: Count = Field(
        256, description="Validation tasks for each K during training.", json_schema_extra=OF_SCALE
    )
    bootstrap: int = Field(
        1000, ge=1, le=MOST_RESAMPLES, description="Bootstrap resamples behind an interval.", json_schema_extra=OF_SCALE
    )
    networks: Networks = Field(Networks(), description="The size of each kind of network.", json_schema_extra=OF_SCALE)
    training: dict[Name, Budget] = Field({}, description="The budget of each recipe.", json_schema_extra=OF_SCALE)
    real_data: RealData = Field(
        RealData(), description="Fits of well-known data sets, for the reviewers.", json_schema_extra=OF_SCALE
    )
    theory: Theory = Field(Theory(), description="Grids of the theorems' measurements.", json_schema_extra=OF_SCALE)


def read_config(path: str | Path) -> dict:
    """The mapping in a YAML file; an unreadable one, or one that repeats a key, is a `UserError`."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold keys and values at the top level")
    return values


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML as it is meant: a key stands once, its name is text, numbers are decimal, and a date is text."""

    yaml_implicit_resolvers: ClassVar[dict] = {
        first: [rule for rule in rules if rule[0] != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name is None or key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise _mistake(f"the key {name or 'here'} must be text: put it in quotes", key.start_mark)
            if name in FORBIDDEN_KEYS:
                raise _mistake(f"the key {name} is refused: {FORBIDDEN_KEYS[name]}", key.start_mark)
            if name in seen and name != "<<":
                raise _mistake(f"the key {name} stands here twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = node.value.lstrip("+-")
        if not text.isdecimal() or (len(text) > 1 and text.startswith("0")) or len(text) > LONGEST_NUMBER:
            number = node.value[:LONGEST_NUMBER]
            raise _mistake(f"the number {number} is not decimal, is too long or has a leading zero", node.start_mark)
        return int(node.value)

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        if ":" in node.value or "_" in node.value:
            raise _mistake(f"the number {node.value[:LONGEST_NUMBER]} is not decimal", node.start_mark)
        return super().construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def _mistake(text: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, text, mark)


def read_yaml(path: str | Path) -> object:
    """The content of a YAML file; a mistake in it is a `UserError` with line and column."""
    text = read_text(path)
    try:
        _refuse_traps(text)
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or str(error) or "unreadable characters"
        raise UserError(f"{path}: {place}not valid YAML ({' '.join(reason.split())})") from None


def _refuse_traps(text: str) -> None:
    """Refuse what YAML can do and no configuration needs: tags, deep nesting, and anchors that contain themselves or
    multiply. Nothing is built for it: what is nested 100,000 levels deep would end the process."""
    anchors: dict[str, tuple[int, int]] = {}  # anchor -> values inside, levels
    pending: list[list] = []  # of the lists and mappings that are open: anchor, values inside so far, levels so far
    for event in yaml.parse(text, Loader=_Loader):
        anchor, size, levels = getattr(event, "anchor", None), 1, 0
        if getattr(event, "tag", None) is not None:
            raise _mistake(f"the tag {event.tag} is refused: a value says by itself what it is", event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            pending.append([anchor, 1, 1])
        elif isinstance(event, yaml.AliasEvent):
            if anchor not in anchors:
                raise _mistake(f"the anchor {anchor} is not defined, or contains itself", event.start_mark)
            (size, levels), anchor = anchors[anchor], None
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size, levels = pending.pop()
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        if len(pending) + levels > DEEPEST:
            raise _mistake(f"nested more than {DEEPEST} levels deep", event.start_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            continue
        if anchor:
            anchors[anchor] = size, levels
        if pending:
            pending[-1][1:] = pending[-1][1] + size, max(pending[-1][2], levels + 1)
            if pending[-1][1] > MOST_VALUES:
                raise _mistake(
                    f"more than {MOST_VALUES:,} values, those that aliases repeat included", event.start_mark
                )


def merge_config(values: Mapping, root: str | Path = ".") -> Config:
    """config.yaml with any overrides, merged with the sizes of its scale in ``root/workflow``; types and limits
    checked.

    A mistake is a `UserError`, one line with the key, what is wrong and what would be right.
    """
    root, values = Path(root), _plain(values)
    for key in values:
        refuse_unknown("key", key, Config.model_fields)
    return Config.read(_merged(read_scale(values.get("scale", Config.model_fields["scale"].default), root), values))


def scale_names(root: Path) -> list[str]:
    """Names of the scales, one for each file of sizes."""
    return sorted(path.stem for path in (root / SCALES).glob("*.yaml"))


def read_scale(scale: object, root: Path, above: tuple[str, ...] = ()) -> dict:
    """Sizes and budgets of a scale; only keys that the classes mark as such are let in.

    `like` names a scale that gives what the file leaves out; ``above`` are the scales that have asked for this one.
    """
    refuse_unknown("scale", scale, scale_names(root))
    path = SCALES / f"{scale}.yaml"
    sizes = read_config(root / path)
    like = sizes.pop("like", None)
    allowed = _scale_keys(Config)
    for key, value in sizes.items():
        refuse_unknown(f"key in {path}", key, [*allowed, "like"])
        for inner in value if allowed[key] and isinstance(value, dict) else ():
            refuse_unknown(f"key in '{key}' of {path}", inner, allowed[key])
    if like is None:
        return sizes
    refuse_unknown(f"scale in 'like' of {path}", like, scale_names(root))
    if like in (*above, scale):
        raise UserError(f"{path}: 'like' leads back to '{like}'")
    return _merged(read_scale(like, root, (*above, str(scale))), sizes)


def _scale_keys(model: type[Settings]) -> dict[str, list[str]]:
    """The keys that belong to the scale; for a section of which only some keys do, those (else none)."""
    keys: dict[str, list[str]] = {}
    for name, field in model.model_fields.items():
        section = isinstance(field.annotation, type) and issubclass(field.annotation, Settings)
        inner = list(_scale_keys(field.annotation)) if section else []
        if field.json_schema_extra == OF_SCALE or inner:
            keys[name] = [] if field.json_schema_extra == OF_SCALE else inner
    return keys


def _merged(base: dict, override: dict) -> dict:
    """`base` with the values of `override`, mapping by mapping."""
    merged = dict(base)
    for key, value in override.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _plain(value: object) -> Any:
    """The same value in plain dicts and lists, for Snakemake's are neither."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def schema_text() -> str:
    """The JSON schema of the configuration, as the file in workflow/schemas holds it."""
    schema = Config.model_json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    write_atomically(SCHEMA, schema_text())
    print(f"{SCHEMA} written")
