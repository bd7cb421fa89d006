"""From the files of a study to one figure's files."""

from __future__ import annotations

from pathlib import Path

from tgmm.aggregate import read_table
from tgmm.figures import style
from tgmm.figures.kinds import caption_of, find_kind
from tgmm.figures.registry import FIGURES
from tgmm.figures.save import save_figure


def draw_figure(
    settings: dict, summary_path: str | Path, stem: str | Path, histories: dict[str, Path] | None = None
) -> list[Path]:
    """Draw the figure that the settings describe and write ``stem.pdf`` and ``stem.png``.

    Parameters
    ----------
    settings : the artefact's entry in the configuration with its ``id`` and ``scale``.
    summary_path : the summary of the scores (parquet).
    stem : the figure's path without suffix.
    histories : the training history (CSV) of every family that the figure shows.
    """
    kind = find_kind(FIGURES, settings)
    summary = read_table(summary_path, kind.columns)
    tables = {name: read_table(path, kind.history_columns) for name, path in (histories or {}).items()}
    with style.applied():
        figure = kind.draw(summary, settings, tables)
        return save_figure(figure, stem, title=settings.get("id", settings["kind"]), caption=caption_of(kind, settings))
