"""All kinds of tables, and how one is written. A new kind is three functions and one entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tgmm.aggregate import read_table
from tgmm.figures.data import SUMMARY, find_kind
from tgmm.files import write_atomically
from tgmm.recipe_study import comparison
from tgmm.tables import claims, measurements, scores
from tgmm.tables.render import to_latex, to_markdown
from tgmm.train.history import HISTORY_COLUMNS


@dataclass(frozen=True)
class TableKind:
    """A kind of table.

    Attributes
    ----------
    rows : (summary, settings) -> DataFrame with everything, in long form.
    wide : (rows, settings) -> WideTable for reading.
    csv_columns : the columns of the long form that go to the CSV file.
    caption, columns, settings : as for figures.
    history_columns : columns of the training histories that ``rows`` takes as a third argument; none for most kinds.
    """

    rows: Callable
    wide: Callable
    csv_columns: list[str]
    caption: Callable[[dict], str]
    columns: tuple[str, ...] = SUMMARY
    settings: tuple[str, ...] = ("taskset", "metric", "methods")
    history_columns: tuple[str, ...] = ()


TABLES = {
    "score-table": TableKind(scores.score_rows, scores.score_table, scores.TABLE_COLUMNS, scores.caption_score),
    "full-table": TableKind(
        scores.full_rows,
        scores.full_table,
        scores.FULL_COLUMNS,
        scores.caption_full,
        settings=("taskset", "metrics", "methods"),
    ),
    "claims-table": TableKind(
        claims.claims_rows,
        claims.claims_table,
        claims.CLAIM_COLUMNS,
        claims.caption_claims,
        settings=("recipes",),
        history_columns=HISTORY_COLUMNS,
    ),
    "sorted-floor-table": TableKind(
        measurements.sorted_floor_rows,
        measurements.sorted_floor_table,
        list(measurements.SORTED_FLOOR_COLUMNS),
        measurements.caption_sorted_floor,
        columns=measurements.SORTED_FLOOR_COLUMNS,
        settings=(),
    ),
    "recipe-table": TableKind(
        measurements.recipe_rows,
        measurements.recipe_table,
        list(comparison.COMPARED),
        measurements.caption_recipe,
        columns=comparison.COLUMNS,
        settings=("scale",),
    ),
    "theorem-sizes-table": TableKind(
        measurements.theorem_sizes_rows,
        measurements.theorem_sizes_table,
        list(measurements.SIZE_COLUMNS),
        measurements.caption_theorem_sizes,
        columns=measurements.SIZE_COLUMNS,
        settings=(),
    ),
}


def write_table(
    settings: dict, summary_path: str | Path, stem: str | Path, histories: Mapping[str, Path] | None = None
) -> list[Path]:
    """Write ``stem.csv`` (long, full precision), ``stem.md`` and ``stem.tex`` (wide, to read); return their paths."""
    kind = find_kind(TABLES, settings)
    records = {name: read_table(path, kind.history_columns) for name, path in (histories or {}).items()}
    arguments = (records,) if kind.history_columns else ()
    rows = kind.rows(read_table(summary_path, kind.columns), settings, *arguments)
    wide = kind.wide(rows, settings)
    texts = {
        "csv": rows[kind.csv_columns].to_csv(index=False, float_format="%.10g", lineterminator="\n"),
        "md": to_markdown(wide),
        "tex": to_latex(wide),
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(Path(f"{stem}.{suffix}"))
        write_atomically(paths[-1], text)
    return paths
