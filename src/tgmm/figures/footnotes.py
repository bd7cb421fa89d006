"""The lines at the foot of a figure: what the marks mean, what all panels share, where the numbers are from."""

from __future__ import annotations

import textwrap

import pandas as pd

from tgmm.figures.cells import FAILED, GAP, OK, UNDEFINED, failure_reasons
from tgmm.figures.horizontal_axis import HorizontalAxis, shift_axis
from tgmm.figures.panel_group import PanelGroup
from tgmm.figures.shift_text import shift_text

NOTE_LENGTH = 118


def mark_notes(groups: list[PanelGroup]) -> list[str]:
    """What the marks of the panels mean, as far as they occur."""
    cells = pd.concat([group.cells for group in groups], ignore_index=True)
    notes = []
    if (cells["status"] == FAILED).any():
        notes.append(f"n/a ×: failed on every task ({failure_reasons(cells)})")
    if (cells["status"] == GAP).any():
        notes.append("n/a, open marker: not trained or not run at this scale")
    if (cells["status"] == UNDEFINED).any():
        notes.append("n/a –: no finite mean")
    if ((cells["n_failed"] > 0) & (cells["status"] == OK)).any():
        notes.append("open marker on a line: some tasks failed, mean over the others")
    if any(_has_zero(group) for group in groups):
        notes.append("marker on the lower edge: zero")
    if any(content.axis.unshifted in content.levels for group in groups for content in group.contents):
        notes.append("shaded: unshifted")
    medians = any(group.medians for group in groups)
    return [*notes, "mean and 95 % bootstrap interval" + (", short line: median" if medians else "")]


def _has_zero(group: PanelGroup) -> bool:
    shown = group.cells[group.cells["status"] == OK]
    return group.text.scale == "log" and bool((shown["mean"] <= 0).any())


def untrained_note(settings: dict) -> list[str]:
    """The families that an artefact would show if they were trained; nothing where none is missing."""
    missing = settings.get("untrained", ())
    return [f"n/a, not trained at this scale: {', '.join(missing)}"] if missing else []


def common_note(cells: pd.DataFrame, axis: HorizontalAxis) -> list[str]:
    """The dimension and the shift, where they are neither on the axis nor told apart by panels."""
    notes = []
    if axis.column != "d" and cells["d"].nunique() == 1:
        notes.append(f"d = {cells['d'].iloc[0]}")
    kind, value = cells["shift"].iloc[0], cells["shift_value"].iloc[0]
    if axis.column != "shift_value" and kind != "none":
        notes.append(f"{shift_text(kind).name}: {shift_axis(kind).write(value)}")
    return notes


def fill(notes: list[str]) -> list[str]:
    """The notes in as few lines as hold them; one that is longer than a line is broken."""
    lines: list[str] = []
    for note in notes:
        joined = f"{lines[-1]} · {note}" if lines else note
        if lines and len(joined) <= NOTE_LENGTH:
            lines[-1] = joined
        else:
            lines += textwrap.wrap(note, NOTE_LENGTH, break_long_words=False, break_on_hyphens=False)
    return lines
