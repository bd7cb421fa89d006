"""The kinds of figures and tables: what each one's settings are, which files it is drawn from, and what draws it.

A new kind is a class here and a function that draws it; the configuration then names artefacts of that kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args

from pydantic import ConfigDict, Field

from tgmm.columns import BASELINES, DEFICIT, ORACLE, ROLES, TASKSET_ROLES
from tgmm.errors import UserError, refuse_unknown
from tgmm.files import check_outputs, read_json, write_atomically
from tgmm.settings import Count, Line, Name, Seed, Settings, Text, one_or_several, several
from tgmm.tasks.shifts import ShiftValues

if TYPE_CHECKING:
    from tgmm.study import Study

FIGURE, TABLE = "fig-", "tab-"
ArtefactName = Annotated[str, Field(pattern=r"^(fig|tab)-[a-z0-9][a-z0-9-]*$", max_length=80)]
Metric = Literal[
    "l2_error", "l2_error_reference", "mean_error", "weight_error", "scale_error", "weight_cross_entropy", "accuracy",
    "log_likelihood", "log_likelihood_deficit", "log_likelihood_heldout", "log_likelihood_heldout_deficit",
    "log_likelihood_reference", "dropped_reference", "seconds", "iterations",
]  # fmt: skip
NetworkRole, TasksetRole = Literal[tuple(ROLES)], Literal[tuple(TASKSET_ROLES)]
Metrics, Names, Dimensions = several(Metric), several(Name), several(Count, least=0)


@dataclass(frozen=True)
class Sources:
    """The files that an artefact is drawn from.

    Attributes
    ----------
    scores : the scores that it shows; they are summarised for it.
    measurement : the measurement that takes their place.
    tables : further tables by name, a family's name most often.
    records : the records of the trainings whose histories are among the tables; each lies beside its history.
    """

    scores: tuple[str, ...] = ()
    measurement: str = ""
    tables: dict[str, str] = field(default_factory=dict)
    records: tuple[str, ...] = ()

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(filter(None, [*self.scores, self.measurement, *self.tables.values(), *self.records])))


class ArtefactSettings(Settings):
    """What every artefact has.

    ``prefix`` is how its name begins, ``module`` where its
    functions are: of a figure of kind x-y ``draw_x_y`` and ``caption_x_y``, of a table ``x_y_rows``, ``x_y_table`` and
    ``caption_x_y``.
    """

    prefix: ClassVar[str] = FIGURE
    module: ClassVar[str]

    target: Literal["all", "reviewers"] = Field(
        "all", description="The target of the workflow that makes it: all, the default, or a study of its own."
    )

    caption: Text = Field("", max_length=2000, description="Caption; empty takes the one of the artefact's kind.")
    scales: several(Name, least=0) = Field((), description="The scales that have it; none named stands for all.")

    def sources(self, study: Study) -> Sources:
        """The files that it is drawn from."""
        return Sources(tuple(study.score_file(*score) for score in self.scores(study)))

    def scores(self, study: Study) -> list[tuple[str, str]]:
        """(file of tasks, method) of every score that it shows."""
        return []

    def probed(self) -> dict[str, bool]:
        """Families that it looks into -> whether the picture of a task is wanted too."""
        return {}

    def measurement(self) -> str | None:
        """The measurement of a theorem that it shows."""
        return None


class OfScores(ArtefactSettings):
    """Scores of methods on a task set."""

    taskset: Name = Field(description="The task set whose scores are shown.")
    methods: Names = Field(description="The methods, in the order of the legend.")
    d: Dimensions = Field((), description="The dimensions that are shown; none named stands for all of the task set's.")

    def scores(self, study: Study) -> list[tuple[str, str]]:
        """Those of its methods where they apply; a deficit is one against the oracle, whose score is needed too."""
        methods = list(self.methods)
        if any(metric.endswith(DEFICIT) for metric in self.shown_metrics) and ORACLE in study.config.methods:
            methods = list(dict.fromkeys([*methods, ORACLE]))
        return [
            (file, method)
            for file, (name, d) in study.tasksets.items()
            for method in methods
            if name == self.taskset and d in (self.d or (d,)) and study.applies(method, file)
        ]

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        return ()


class OfOneMetric(OfScores):
    module: ClassVar[str] = "tgmm.figures.metrics"
    metric: Metric = Field("l2_error", description="The metric that is shown.")

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        return (self.metric,)


class OfSeveralMetrics(OfScores):
    metrics: Metrics = Field(description="The metrics that are shown, one below the other.")

    @property
    def shown_metrics(self) -> tuple[str, ...]:
        return self.metrics


class OfOneShift(Settings):
    shift: str = Field(
        "", max_length=80, description="The kind of shift that is shown, where the task set has several; empty is all."
    )


class OfFamilies(ArtefactSettings):
    """Networks themselves."""

    families: Names = Field(description="The families that are shown.")


class MetricAgainstDimension(OfOneMetric):
    """A metric against d, a panel for each K."""

    kind: Literal["metric-against-dimension"]


class MetricAgainstPoints(OfOneMetric):
    """A metric against N, a panel for each K."""

    kind: Literal["metric-against-points"]


class MetricAgainstShift(OfOneMetric, OfOneShift):
    """A metric against the value of a shift, a panel for each K."""

    kind: Literal["metric-against-shift"]


class MetricGrid(OfSeveralMetrics, OfOneShift):
    """Several metrics, one below the other, a column of panels for each K."""

    module: ClassVar[str] = "tgmm.figures.metrics"
    kind: Literal["metric-grid"]
    axis: Literal["d", "N", "shift_value"] = Field("d", description="What runs along the horizontal axis.")


class ShiftPanels(OfOneMetric):
    """A metric against every shift of a task set, a panel for each."""

    kind: Literal["shift-panels"]


class Evaluator(OfScores):
    """What the reference evaluator makes of the same estimates."""

    module: ClassVar[str] = "tgmm.figures.evaluator"
    kind: Literal["evaluator"]


class TrainingCurves(OfFamilies):
    """Validation error against training tasks seen."""

    module: ClassVar[str] = "tgmm.figures.training"
    kind: Literal["training-curves"]

    def sources(self, study: Study) -> Sources:
        histories = study.histories(self.families)
        records = tuple(str(Path(history).with_name("config.json")) for history in histories.values())
        return Sources(tables=histories, records=records)


class BackboneScale(TrainingCurves):
    """Validation error against the size of the network."""

    kind: Literal["backbone-scale"]


class Probes(OfFamilies):
    """What goes on inside networks, beside EM."""

    module: ClassVar[str] = "tgmm.figures.probes"
    kind: Literal["probes"]

    def sources(self, study: Study) -> Sources:
        files = {family: study.probe_table(family) for family in self.families if family in study.families}
        return Sources(measurement=next(iter(files.values()), ""), tables=files)

    def probed(self) -> dict[str, bool]:
        return dict.fromkeys(self.families, False)


class ProbePicture(OfFamilies):
    """Attention and estimates by block for one task in the plane."""

    module: ClassVar[str] = "tgmm.figures.probes"
    kind: Literal["probe-picture"]
    families: Annotated[Names, Field(max_length=1)] = Field(description="The family that is shown.")

    def sources(self, study: Study) -> Sources:
        return Sources(measurement=study.probe_table(self.families[0], picture=True))

    def probed(self) -> dict[str, bool]:
        return dict.fromkeys(self.families, True)


class OfTheorem(ArtefactSettings):
    """A measurement of the theorems."""

    shows: ClassVar[str]

    def sources(self, study: Study) -> Sources:
        return Sources(measurement=study.theory_table(self.shows))

    def measurement(self) -> str:
        return self.shows


class TheoremEM(OfTheorem):
    """Theorem 1: constructed transformers beside EM."""

    module: ClassVar[str] = "tgmm.figures.theorems"
    kind: Literal["theorem-em"]
    shows: ClassVar[str] = "em"


class TheoremPower(OfTheorem):
    """Theorem 2: constructed transformers beside the tensor power iteration."""

    module: ClassVar[str] = "tgmm.figures.theorems"
    kind: Literal["theorem-power"]
    shows: ClassVar[str] = "power"


class TheoremSizes(OfTheorem):
    """Sizes of the constructed transformers."""

    module: ClassVar[str] = "tgmm.tables.measurements"
    kind: Literal["theorem-sizes-table"]
    prefix: ClassVar[str] = TABLE
    shows: ClassVar[str] = "sizes"


class SortedFloor(OfTheorem):
    """The least error that the loss with sorted weights can reach."""

    module: ClassVar[str] = "tgmm.tables.measurements"
    kind: Literal["sorted-floor-table"]
    prefix: ClassVar[str] = TABLE
    shows: ClassVar[str] = "sorted-floor"


class ScoreTable(OfOneMetric, OfOneShift):
    """A metric of every method in every cell."""

    module: ClassVar[str] = "tgmm.tables.scores"
    kind: Literal["score-table"]
    prefix: ClassVar[str] = TABLE


class FullTable(OfSeveralMetrics, OfOneShift):
    """Several metrics of every method in every cell."""

    module: ClassVar[str] = "tgmm.tables.scores"
    kind: Literal["full-table"]
    prefix: ClassVar[str] = TABLE


class ClaimsTable(ArtefactSettings):
    """The paper's claims and their verdicts."""

    module: ClassVar[str] = "tgmm.tables.claims"
    kind: Literal["claims-table"]
    prefix: ClassVar[str] = TABLE
    recipes: dict[NetworkRole, dict[Name, Names]] = Field(
        description="Role of a network -> recipe -> the methods that stand for it, one a training seed, main one first."
    )
    marks: dict[Name, Annotated[Line, Field(max_length=200)]] = Field(
        {}, description="Recipe -> what is built into its network, as a remark beside its name."
    )
    tasksets: dict[TasksetRole, Name] = Field({}, description="Which task set stands for which role in the claims.")
    required_d: dict[TasksetRole, several(Count)] = Field(
        {}, description="Dimensions that a claim is required at, by role of the task set."
    )

    @property
    def methods(self) -> tuple[str, ...]:
        """All methods that stand for a recipe."""
        named = [names for recipes in self.recipes.values() for names in recipes.values()]
        return tuple(dict.fromkeys(name for names in named for name in names))

    def files(self, study: Study) -> list[str]:
        """The files of tasks that claims speak of."""
        asked = {*(TASKSET_ROLES | self.tasksets).values()}
        return [file for file, (name, _) in study.tasksets.items() if name in asked]

    def scores(self, study: Study) -> list[tuple[str, str]]:
        """Those of its networks and of the methods that they are compared with, where another artefact shows them."""
        files, methods = self.files(study), {*self.methods, *BASELINES}
        return [(file, method) for file, method in study.scores if file in files and method in methods]

    def sources(self, study: Study) -> Sources:
        """Scores, and the history of every family whose network may be asked."""
        families = {study.family_of(method, file): None for method in self.methods for file in self.files(study)}
        return Sources(super().sources(study).scores, tables=study.histories(filter(None, families)))


class ErrorAgainstSeconds(OfOneMetric):
    """A metric against the time of a task, a panel for each d and K."""

    module: ClassVar[str] = "tgmm.figures.frontier"
    kind: Literal["error-against-seconds"]


class ErrorAgainstError(OfSeveralMetrics):
    """One metric against another, a panel for each d and K."""

    module: ClassVar[str] = "tgmm.figures.frontier"
    kind: Literal["error-against-error"]
    metrics: Annotated[Metrics, Field(min_length=2, max_length=2)] = Field(
        ("weight_error", "mean_error"), description="The metrics that run along the horizontal and the vertical axis."
    )


class SlopeTable(OfOneMetric):
    """How fast a metric falls with the number of points."""

    module: ClassVar[str] = "tgmm.tables.slopes"
    kind: Literal["slope-table"]
    prefix: ClassVar[str] = TABLE


class FloorTable(OfOneMetric):
    """The error of the means beside the Cramér-Rao bound."""

    module: ClassVar[str] = "tgmm.tables.floor"
    kind: Literal["floor-table"]
    prefix: ClassVar[str] = TABLE
    metric: Literal["mean_error"] = Field("mean_error", description="The metric that is shown.")

    def sources(self, study: Study) -> Sources:
        return Sources(super().sources(study).scores, tables={"cramer-rao": study.theory_table("fisher")})

    def measurement(self) -> str:
        return "fisher"


class PayoffTable(OfOneMetric):
    """What training took, and after how many tasks it has paid for itself."""

    module: ClassVar[str] = "tgmm.tables.payoff"
    kind: Literal["payoff-table"]
    prefix: ClassVar[str] = TABLE

    def sources(self, study: Study) -> Sources:
        families = dict.fromkeys(study.family_of(method, file) for file, method in self.scores(study))
        return Sources(super().sources(study).scores, tables=study.histories(filter(None, families)))


class DepthTable(Probes):
    """The error after each block of a network beside EM steps and beside networks of other depths."""

    module: ClassVar[str] = "tgmm.tables.depth"
    kind: Literal["depth-table"]
    prefix: ClassVar[str] = TABLE
    families: Annotated[Names, Field(max_length=1)] = Field(description="The family whose blocks are looked at.")
    of_other_depth: Names = Field((), description="Families that differ in their number of blocks alone.")

    def sources(self, study: Study) -> Sources:
        return Sources(measurement=study.probe_table(self.families[0]), tables=study.histories(self.of_other_depth))


class OfRealData(ArtefactSettings):
    """Fits of well-known data sets."""

    def sources(self, study: Study) -> Sources:
        return Sources(measurement=study.real_data_table)


class RealDataTable(OfRealData):
    """Well-known data sets, fitted by the pretrained network and by scikit-learn's mixtures."""

    module: ClassVar[str] = "tgmm.tables.real_data"
    kind: Literal["real-data-table"]
    prefix: ClassVar[str] = TABLE


class RealDataFits(OfRealData):
    """Pictures of well-known data sets with their fits."""

    module: ClassVar[str] = "tgmm.figures.real_data"
    kind: Literal["real-data-fits"]

    def sources(self, study: Study) -> Sources:
        return Sources(measurement=study.real_data_table, tables={"picture": study.real_data_picture})


class Ablation(ArtefactSettings):
    """What one change of a recipe does, as a figure."""

    module: ClassVar[str] = "tgmm.figures.ablation"
    kind: Literal["ablation"]
    target: Literal["ablation"] = Field("ablation", description="The target of the workflow that makes it.")

    def sources(self, study: Study) -> Sources:
        return Sources(measurement=study.ablation_table)


class AblationTable(Ablation):
    """What one change of a recipe does, as a table."""

    module: ClassVar[str] = "tgmm.tables.measurements"
    kind: Literal["ablation-table"]
    prefix: ClassVar[str] = TABLE


KINDS = (
    MetricAgainstDimension, MetricAgainstPoints, MetricAgainstShift, MetricGrid, ShiftPanels, Evaluator, BackboneScale,
    TrainingCurves, Probes, ProbePicture, TheoremEM, TheoremPower, TheoremSizes, SortedFloor, ScoreTable, FullTable,
    ClaimsTable, Ablation, AblationTable, ErrorAgainstSeconds, ErrorAgainstError, SlopeTable,
    FloorTable, PayoffTable, DepthTable, RealDataTable, RealDataFits,
)  # fmt: skip
AnyArtefact = Annotated[Union[KINDS], Field(discriminator="kind")]  # noqa: UP007


class ShownSettings(Settings):
    """What the study adds to an artefact's own settings, for its axes, gaps and footnotes; all of it may be missing."""

    model_config = ConfigDict(extra="ignore")

    id: Line = Field("", max_length=80, description="The artefact's name.")
    scale: Name | Literal[""] = Field("", description="The scale of the study.")
    bootstrap: Count = Field(1000, description="Bootstrap resamples behind an interval.")
    covariance: Literal["isotropic", "anisotropic"] = Field("isotropic", description="Of the tasks.")
    dimensions: Dimensions = Field((), description="Dimensions of the task set.")
    n_components: Dimensions = Field((), description="Numbers of components of the task set.")
    n_points: Dimensions = Field((), description="Numbers of points of the task set.")
    shifts: tuple[ShiftValues, ...] = Field((), description="Shifts of the task set.")
    test_tasks: Count = Field(1, description="Test tasks in a cell.")
    validation_tasks: Count = Field(1, description="Validation tasks for each K of a training.")
    seed: Seed = Field(0, description="Of the study.")
    untrained: several(Name, least=0) = Field((), description="Families that this scale does not train.")
    recipe: Name = Field("components", description="The recipe that the ablation changes.")
    changes: dict[Name, Line] = Field({}, description="What the changes of the ablation are called.")
    d: one_or_several(Count) = Field((1,), description="The dimensions that are shown.")
    K: one_or_several(Count) = Field((1,), description="The numbers of components that are shown.")
    N: one_or_several(Count) = Field((1,), description="The numbers of points that are shown.")
    shift: one_or_several(Name) = Field(("none",), description="The kinds of shift that are shown.")
    shift_value: one_or_several(int | Annotated[float, Field(allow_inf_nan=True)]) = Field(
        (0.0,), description="The values of a shift that are shown."
    )


NAMES = {get_args(kind.model_fields["kind"].annotation)[0]: kind for kind in KINDS}


def drawn_by(settings: Mapping[str, Any], prefix: str) -> tuple[str, ModuleType, dict[str, Any]]:
    """What the functions of an artefact's kind are called, the module that has them, and the settings with defaults.

    Raises
    ------
    UserError : for a kind that does not exist or is no figure (or table), or settings that the kind does not take.
    """
    kinds = {name: kind for name, kind in NAMES.items() if kind.prefix == prefix}
    refuse_unknown("artefact kind", str(settings.get("kind")), kinds)
    kind = kinds[settings["kind"]]
    own = {key: value for key, value in settings.items() if key in kind.model_fields}
    ShownSettings.read({key: value for key, value in settings.items() if key not in own}, "settings of the artefact")
    defaults = kind.read(own, "settings of the artefact").plain()
    defaults = {key: value for key, value in defaults.items() if value}
    name = settings["kind"].removesuffix("-table").replace("-", "_")
    return name, import_module(kind.module), defaults | dict(settings)


def draw_figure(
    settings: Mapping[str, Any],
    shown: str | Path | Sequence[str | Path],
    stem: str | Path,
    tables: Mapping[str, str | Path] | None = None,
) -> list[Path]:
    """Draw the figure that the settings describe and write ``stem.pdf`` and ``stem.png``; return their paths.

    Parameters
    ----------
    settings : the artefact's entry in the configuration with its ``id`` and ``scale``; its ``caption`` wins over the
        kind's own.
    shown : the score files, which are summarised; or one file, their summary or the measurement in its place.
    stem : the figure's path without suffix.
    tables : further tables by name, a family's most often.
    """
    name, module, settings = drawn_by(settings, FIGURE)
    draw = getattr(module, f"draw_{name}")
    check_outputs(f"{stem}.pdf", f"{stem}.png")
    from tgmm.figures import style
    from tgmm.figures.layout import save_figure

    read = _read(draw, settings, shown, tables)
    settings = {**settings, "records": _training_records(tables or {})}
    with style.applied():
        figure = draw(read[0], settings, read[1])
        caption = settings.get("caption") or getattr(module, f"caption_{name}")(settings)
        return save_figure(figure, stem, title=settings.get("id", settings["kind"]), caption=caption)


def write_table(
    settings: Mapping[str, Any],
    shown: str | Path | Sequence[str | Path],
    stem: str | Path,
    tables: Mapping[str, str | Path] | None = None,
) -> list[Path]:
    """Write ``stem.csv`` (long, eight digits), ``stem.md`` and ``stem.tex`` (wide, to read); return their paths.

    The parameters are those of :func:`draw_figure`.
    """
    name, module, settings = drawn_by(settings, TABLE)
    rows_of = getattr(module, f"{name}_rows")
    check_outputs(f"{stem}.csv", f"{stem}.md", f"{stem}.tex")
    from tgmm.tables.render import to_latex, to_markdown

    read = _read(rows_of, settings, shown, tables)
    rows = rows_of(read[0], settings, read[1]) if rows_of.tables else rows_of(read[0], settings)
    wide = getattr(module, f"{name}_table")(rows, settings)
    texts = {
        "csv": rows[rows_of.written].to_csv(index=False, float_format="%.8g", lineterminator="\n"),
        "md": to_markdown(wide),
        "tex": to_latex(wide),
    }
    paths = {suffix: Path(f"{stem}.{suffix}") for suffix in texts}
    for suffix, text in texts.items():
        write_atomically(paths[suffix], text)
    return list(paths.values())


def _training_records(tables: Mapping[str, str | Path]) -> dict[str, dict[str, float]]:
    """What the record beside each training's history says of its length."""
    records = {}
    for family, path in tables.items():
        file = Path(path).with_name("config.json")
        if file.is_file():
            try:
                record = read_json(file)["record"]
                records[family] = {key: record[key] for key in ("tasks_seen", "steps", "processor_seconds")}
            except (KeyError, TypeError) as error:
                raise UserError(f"{file}: not the record of a training ({type(error).__name__}: {error})") from error
    return records


def _read(
    function: Any,
    settings: Mapping[str, Any],
    shown: str | Path | Sequence[str | Path],
    tables: Mapping[str, str | Path] | None,
) -> tuple[Any, dict[str, Any]]:
    """The tables that a function draws from, their columns checked; no summary where it reads none of its columns."""
    from tgmm.aggregate import SummarySettings, read_scores, read_table, summarise

    files = {name: read_table(path, function.tables) for name, path in (tables or {}).items()}
    if not function.summary:
        return None, files
    if isinstance(shown, str | Path):
        return read_table(shown, function.summary), files
    own = {key: value for key, value in settings.items() if key in SummarySettings.model_fields}
    chosen = SummarySettings.read(own, "settings of the artefact")
    scores = read_scores(shown, chosen.scale)
    summary = summarise(scores, resamples=chosen.bootstrap, seed=chosen.seed, recipes=chosen.recipes)
    return summary[function.summary], files
