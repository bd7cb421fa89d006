"""All kinds of figures. A new kind is one new file and one entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tgmm.figures import (
    backbone_scale,
    evaluator,
    metric_against_dimension,
    metric_against_points,
    metric_against_shift,
    metric_grid,
    probe_picture,
    probes,
    recipe_study,
    shift_panels,
    theorem_em,
    theorem_power,
    training_curves,
)
from tgmm.figures.kinds import SUMMARY


@dataclass(frozen=True)
class FigureKind:
    """A kind of figure.

    Attributes
    ----------
    draw : (summary, settings, histories) -> Figure.
    caption : settings -> one or two sentences.
    columns : columns of the summary that it needs.
    settings : keys that the artefact's settings must have.
    history_columns : columns of the training histories that it needs; none for kinds that read no history.
    """

    draw: Callable
    caption: Callable[[dict], str]
    columns: tuple[str, ...] = SUMMARY
    settings: tuple[str, ...] = ("taskset", "metric", "methods")
    history_columns: tuple[str, ...] = ()


FIGURES = {
    "metric-against-dimension": FigureKind(metric_against_dimension.draw, metric_against_dimension.caption),
    "metric-against-points": FigureKind(metric_against_points.draw, metric_against_points.caption),
    "metric-against-shift": FigureKind(metric_against_shift.draw, metric_against_shift.caption),
    "metric-grid": FigureKind(
        metric_grid.draw, metric_grid.caption, settings=("taskset", "axis", "metrics", "methods")
    ),
    "shift-panels": FigureKind(shift_panels.draw, shift_panels.caption),
    "evaluator": FigureKind(evaluator.draw, evaluator.caption, settings=("taskset", "methods")),
    "backbone-scale": FigureKind(
        backbone_scale.draw,
        backbone_scale.caption,
        columns=(),
        settings=("families", "scale"),
        history_columns=backbone_scale.HISTORY_COLUMNS,
    ),
    "training-curves": FigureKind(
        training_curves.draw,
        training_curves.caption,
        columns=("seed",),
        settings=("families", "scale"),
        history_columns=training_curves.HISTORY_COLUMNS,
    ),
    "theorem-em": FigureKind(theorem_em.draw, theorem_em.caption, columns=theorem_em.COLUMNS, settings=()),
    "theorem-power": FigureKind(theorem_power.draw, theorem_power.caption, columns=theorem_power.COLUMNS, settings=()),
    "recipe-study": FigureKind(
        recipe_study.draw, recipe_study.caption, columns=recipe_study.COLUMNS, settings=("scale",)
    ),
    "probes": FigureKind(
        probes.draw, probes.caption, columns=probes.COLUMNS, settings=("families",), history_columns=probes.COLUMNS
    ),
    "probe-picture": FigureKind(
        probe_picture.draw, probe_picture.caption, columns=probe_picture.COLUMNS, settings=("families",)
    ),
}
