"""A wide table as Markdown and as LaTeX (booktabs), and how numbers are written for reading."""

from __future__ import annotations

import math
from dataclasses import dataclass

LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}",
    "<": r"\textless{}", ">": r"\textgreater{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "–": "--", "−": "$-$", "∞": r"$\infty$", "ℓ": r"$\ell$", "·": r"$\cdot$", "≤": r"$\leq$", "≥": r"$\geq$",
    "×": r"$\times$", "σ": r"$\sigma$", "ν": r"$\nu$",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """An entry: mean (or a word in its place), median, interval, failures, and whether it is the best of its row."""

    mean: str
    median: str = ""
    interval: str = ""
    failures: str = ""
    best: bool = False


@dataclass(frozen=True)
class WideTable:
    """A table for reading.

    Attributes
    ----------
    row_heads, heads : heads of the columns of labels and of those of entries.
    body : rows of (labels, entries).
    caption, notes : the notes stand below.
    columns : LaTeX's letter for each column ("r", "c", "l" or "p{width}"); none for "r" and "c" by default.
    long : whether LaTeX may break the table over pages (longtable, which wants a page of one column).
    """

    row_heads: list[str]
    heads: list[str]
    body: list[tuple[list[str], list[Cell]]]
    caption: str
    notes: list[str]
    columns: tuple[str, ...] = ()
    long: bool = False

    @property
    def letters(self) -> tuple[str, ...]:
        """The columns' letters, the default filled in."""
        return self.columns or ("r",) * len(self.row_heads) + ("c",) * len(self.heads)


# --- numbers ---------------------------------------------------------------------------------------------------------


def write_number(value: float) -> str:
    """Three significant digits for errors below ten, one decimal or none above; nothing for NaN.

    >>> [write_number(value) for value in (0.01904, 0.4449, 1.0561, 16.31, 312.4, -12.43, 0.00031)]
    ['.0190', '.445', '1.06', '16.3', '312', '-12.4', '3.1e-4']
    """
    size = abs(value)
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if size >= 99.95:
        return f"{value:.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    if size >= 0.9995:
        return f"{value:.2f}"
    if size == 0:
        return "0"
    return _write_small(value, size)


def _write_small(value: float, size: float) -> str:
    if size < 9.995e-4:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    decimals = 3 if size >= 0.09995 else 4 if size >= 0.009995 else 5
    return f"{value:.{decimals}f}".replace("0.", ".", 1)


def write_percent(share: float) -> str:
    """A share as a percentage; a share above zero is never written as zero."""
    percent = 100 * share
    return (
        f"{percent:.0f} %" if percent == 0 or percent >= 9.95 else f"{percent:.1f} %" if percent >= 0.05 else "<0.1 %"
    )


# --- Markdown ------------------------------------------------------------------------------------------------------


def to_markdown(table: WideTable) -> str:
    """The table in GitHub's Markdown, caption above and notes below."""
    rules = {"r": "--:", "c": ":-:"}
    lines = [f"**{table.caption}**", ""]
    lines.append(_markdown_row([*table.row_heads, *table.heads]))
    lines.append(_markdown_row([rules.get(letter, ":--") for letter in table.letters]))
    lines += [_markdown_row([*labels, *map(_markdown_cell, cells)]) for labels, cells in table.body]
    return "\n".join([*lines, "", "  \n".join(table.notes)]) + "\n"


def _markdown_row(entries: list[str]) -> str:
    return f"| {' | '.join(entry.replace('|', chr(92) + '|') for entry in entries)} |"


def _markdown_cell(cell: Cell) -> str:
    mean = f"**{cell.mean}**" if cell.best else cell.mean
    head = f"{mean} / {cell.median}" if cell.median else mean
    return "<br>".join(part for part in (head, cell.interval, cell.failures) if part)


# --- LaTeX ---------------------------------------------------------------------------------------------------------


def to_latex(table: WideTable) -> str:
    """A ``table*`` as wide as the text, or a ``longtable``; the first line says which packages it needs."""
    heads = " & ".join(escape_latex(head) for head in [*table.row_heads, *table.heads]) + r" \\"
    caption = rf"\caption{{{escape_latex(table.caption)}}}"
    notes = escape_latex(" ".join(table.notes))
    frame = _long_frame if table.long else _float_frame
    before, after = frame("".join(table.letters), heads, caption, notes)
    return "\n".join([*before, *_latex_body(table), *after]) + "\n"


def _float_frame(letters: str, heads: str, caption: str, notes: str) -> tuple[list[str], list[str]]:
    before = ["% needs \\usepackage{booktabs,graphicx}", r"\begin{table*}", r"\centering", caption]
    before += [r"\resizebox{\textwidth}{!}{%", rf"\begin{{tabular}}{{{letters}}}", r"\toprule", heads]
    after = [r"\bottomrule", r"\end{tabular}}", r"\par\smallskip\footnotesize", notes, r"\end{table*}"]
    return before, after


def _long_frame(letters: str, heads: str, caption: str, notes: str) -> tuple[list[str], list[str]]:
    before = ["% needs \\usepackage{array,booktabs,longtable}, and a page of one column", r"\begingroup\scriptsize"]
    before += [r"\setlength{\tabcolsep}{3pt}", rf"\begin{{longtable}}{{{letters}}}", caption + r" \\", r"\toprule"]
    before += [heads, r"\endfirsthead", r"\toprule", heads, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
    return before, [r"\end{longtable}", r"\noindent " + notes, r"\par\endgroup"]


def _latex_body(table: WideTable) -> list[str]:
    """The rows, with a rule wherever the first label changes; a repeated first label is left out."""
    lines, previous = [], None
    for labels, cells in table.body:
        if labels[0] != previous:
            lines.append(r"\midrule")
        first = "" if labels[0] == previous else labels[0]
        lines += _latex_rows([escape_latex(label) for label in (first, *labels[1:])], cells, table.long)
        previous = labels[0]
    return lines


def _latex_rows(labels: list[str], cells: list[Cell], long: bool) -> list[str]:
    """Two lines: means and medians, and below them in small type the intervals and failures. In a long table only the
    first if the second would be empty."""
    first = [*labels, *map(_latex_head, cells)]
    second = [""] * len(labels)
    for cell in cells:
        small = " ".join(part for part in (cell.interval, cell.failures) if part)
        second.append(rf"{{\scriptsize {escape_latex(small)}}}" if small else "")
    rows = [first, second] if any(second) or not long else [first]
    return [" & ".join(row) + r" \\" for row in rows]


def _latex_head(cell: Cell) -> str:
    mean = escape_latex(cell.mean)
    mean = rf"\textbf{{{mean}}}" if cell.best else mean
    return f"{mean} / {escape_latex(cell.median)}" if cell.median else mean


def escape_latex(text: str) -> str:
    """The text with LaTeX's special characters and the symbols used here made safe."""
    return "".join(LATEX_SPECIAL.get(character, character) for character in text)
