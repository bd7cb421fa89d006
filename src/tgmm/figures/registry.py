"""All kinds of figures, and how one is drawn from files. A new kind is two functions and one entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tgmm.aggregate import read_table
from tgmm.figures import ablation, evaluator, metrics, probes, style, theorems, training
from tgmm.figures.data import SUMMARY, find_kind
from tgmm.figures.layout import save_figure
from tgmm.recipe_study.comparison import COLUMNS as COMPARISON_COLUMNS


@dataclass(frozen=True)
class FigureKind:
    """A kind of figure.

    Attributes
    ----------
    draw : (summary, settings, tables) -> Figure.
    caption : settings -> one or two sentences.
    columns : columns of the summary that it needs.
    settings : keys that the artefact's settings must have.
    table_columns : columns of each family's table that it needs; none for kinds that read no table of a family.
    """

    draw: Callable
    caption: Callable[[dict], str]
    columns: tuple[str, ...] = SUMMARY
    settings: tuple[str, ...] = ("taskset", "metric", "methods")
    table_columns: tuple[str, ...] = ()


FIGURES = {
    "metric-against-dimension": FigureKind(
        metrics.draw_metric_against_dimension, metrics.caption_metric_against_dimension
    ),
    "metric-against-points": FigureKind(metrics.draw_metric_against_points, metrics.caption_metric_against_points),
    "metric-against-shift": FigureKind(metrics.draw_metric_against_shift, metrics.caption_metric_against_shift),
    "metric-grid": FigureKind(
        metrics.draw_metric_grid, metrics.caption_metric_grid, settings=("taskset", "axis", "metrics", "methods")
    ),
    "shift-panels": FigureKind(metrics.draw_shift_panels, metrics.caption_shift_panels),
    "evaluator": FigureKind(evaluator.draw_evaluator, evaluator.caption_evaluator, settings=("taskset", "methods")),
    "training-curves": FigureKind(
        training.draw_training_curves,
        training.caption_training_curves,
        columns=("seed",),
        settings=("families", "scale"),
        table_columns=training.HISTORY_COLUMNS,
    ),
    "backbone-scale": FigureKind(
        training.draw_backbone_scale,
        training.caption_backbone_scale,
        columns=(),
        settings=("families", "scale"),
        table_columns=training.SCALE_COLUMNS,
    ),
    "theorem-em": FigureKind(
        theorems.draw_theorem_em, theorems.caption_theorem_em, columns=theorems.EM_COLUMNS, settings=()
    ),
    "theorem-power": FigureKind(
        theorems.draw_theorem_power, theorems.caption_theorem_power, columns=theorems.POWER_COLUMNS, settings=()
    ),
    "recipe-study": FigureKind(
        ablation.draw_recipe_study, ablation.caption_recipe_study, columns=COMPARISON_COLUMNS, settings=("scale",)
    ),
    "probes": FigureKind(
        probes.draw_probes,
        probes.caption_probes,
        columns=probes.COLUMNS,
        settings=("families",),
        table_columns=probes.COLUMNS,
    ),
    "probe-picture": FigureKind(
        probes.draw_probe_picture,
        probes.caption_probe_picture,
        columns=probes.PICTURE_COLUMNS,
        settings=("families",),
    ),
}


def draw_figure(
    settings: dict, summary_path: str | Path, stem: str | Path, histories: dict[str, Path] | None = None
) -> list[Path]:
    """Draw the figure that the settings describe and write ``stem.pdf`` and ``stem.png``.

    Parameters
    ----------
    settings : the artefact's entry in the configuration with its ``id`` and ``scale``; its ``caption`` wins over the
        kind's own.
    summary_path : the summary of the scores (parquet), or what else the kind is drawn from.
    stem : the figure's path without suffix.
    histories : the table (CSV) of every family that the figure shows: its training history or its probes.
    """
    kind = find_kind(FIGURES, settings)
    summary = read_table(summary_path, kind.columns)
    tables = {name: read_table(path, kind.table_columns) for name, path in (histories or {}).items()}
    with style.applied():
        figure = kind.draw(summary, settings, tables)
        caption = settings.get("caption") or kind.caption(settings)
        return save_figure(figure, stem, title=settings.get("id", settings["kind"]), caption=caption)
