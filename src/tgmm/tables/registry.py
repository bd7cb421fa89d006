"""All kinds of tables, and how one is written. A new kind is one new file and one entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tgmm.aggregate import read_table
from tgmm.figures.data import SUMMARY, find_kind
from tgmm.files import write_atomically
from tgmm.tables import claims_table, full_table, recipe_table, score_table, sorted_floor, theorem_sizes
from tgmm.tables.render import to_latex, to_markdown


@dataclass(frozen=True)
class TableKind:
    """A kind of table.

    Attributes
    ----------
    rows : (summary, settings) -> DataFrame with everything, in long form.
    wide : (rows, settings) -> WideTable for reading.
    csv_columns : the columns of the long form that go to the CSV file.
    caption, columns, settings : as for figures.
    """

    rows: Callable
    wide: Callable
    csv_columns: list[str]
    caption: Callable[[dict], str]
    columns: tuple[str, ...] = SUMMARY
    settings: tuple[str, ...] = ("taskset", "metric", "methods")


TABLES = {
    "score-table": TableKind(
        score_table.long_table, score_table.wide_table, score_table.CSV_COLUMNS, score_table.caption
    ),
    "full-table": TableKind(
        full_table.long_table,
        full_table.wide_table,
        full_table.CSV_COLUMNS,
        full_table.caption,
        settings=("taskset", "metrics", "methods"),
    ),
    "claims-table": TableKind(
        claims_table.long_table, claims_table.wide_table, claims_table.CSV_COLUMNS, claims_table.caption, settings=()
    ),
    "sorted-floor-table": TableKind(
        sorted_floor.long_table,
        sorted_floor.wide_table,
        list(sorted_floor.COLUMNS),
        sorted_floor.caption,
        columns=sorted_floor.COLUMNS,
        settings=(),
    ),
    "recipe-table": TableKind(
        recipe_table.long_table,
        recipe_table.wide_table,
        list(recipe_table.COMPARED),
        recipe_table.caption,
        columns=recipe_table.COLUMNS,
        settings=("scale",),
    ),
    "theorem-sizes-table": TableKind(
        theorem_sizes.long_table,
        theorem_sizes.wide_table,
        list(theorem_sizes.COLUMNS),
        theorem_sizes.caption,
        columns=theorem_sizes.COLUMNS,
        settings=(),
    ),
}


def write_table(settings: dict, summary_path: str | Path, stem: str | Path) -> list[Path]:
    """Write ``stem.csv`` (long, full precision), ``stem.md`` and ``stem.tex`` (wide, to read); return their paths."""
    kind = find_kind(TABLES, settings)
    rows = kind.rows(read_table(summary_path, kind.columns), settings)
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
