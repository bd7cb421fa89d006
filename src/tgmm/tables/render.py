"""A wide table as Markdown and as LaTeX (booktabs)."""

from __future__ import annotations

from dataclasses import dataclass

LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}",
    "<": r"\textless{}", ">": r"\textgreater{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "–": "--", "−": "$-$", "∞": r"$\infty$", "ℓ": r"$\ell$", "·": r"$\cdot$",
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
    """Column heads, rows of (row labels, entries), the caption, and notes that stand below."""

    row_heads: list[str]
    heads: list[str]
    body: list[tuple[list[str], list[Cell]]]
    caption: str
    notes: list[str]


def to_markdown(table: WideTable) -> str:
    """The table in GitHub's Markdown, caption above and notes below."""
    lines = [f"**{table.caption}**", ""]
    lines.append(_markdown_row([*table.row_heads, *table.heads]))
    lines.append(_markdown_row(["--:"] * len(table.row_heads) + [":-:"] * len(table.heads)))
    lines += [_markdown_row([*labels, *map(_markdown_cell, cells)]) for labels, cells in table.body]
    return "\n".join([*lines, "", "  \n".join(table.notes)]) + "\n"


def _markdown_row(entries: list[str]) -> str:
    return f"| {' | '.join(entry.replace('|', chr(92) + '|') for entry in entries)} |"


def _markdown_cell(cell: Cell) -> str:
    mean = f"**{cell.mean}**" if cell.best else cell.mean
    head = f"{mean} / {cell.median}" if cell.median else mean
    return "<br>".join(part for part in (head, cell.interval, cell.failures) if part)


def to_latex(table: WideTable) -> str:
    """A ``table*`` environment; it needs the packages booktabs and graphicx (for ``resizebox``)."""
    columns = "r" * len(table.row_heads) + "c" * len(table.heads)
    heads = [*table.row_heads, *table.heads]
    lines = [
        "% needs \\usepackage{booktabs,graphicx}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape_latex(table.caption)}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(escape_latex(head) for head in heads) + r" \\",
    ]
    previous = None
    for labels, cells in table.body:
        if labels[0] != previous:
            lines.append(r"\midrule")
        lines += _latex_rows(["" if labels[0] == previous else labels[0], *labels[1:]], cells)
        previous = labels[0]
    lines += [r"\bottomrule", r"\end{tabular}}", r"\par\smallskip\footnotesize"]
    lines += [escape_latex(" ".join(table.notes)), r"\end{table*}"]
    return "\n".join(lines) + "\n"


def _latex_rows(labels: list[str], cells: list[Cell]) -> list[str]:
    """Two lines: means and medians, and below them in small type the intervals and failures."""
    first = [*labels, *map(_latex_head, cells)]
    second = [""] * len(labels)
    for cell in cells:
        small = " ".join(part for part in (cell.interval, cell.failures) if part)
        second.append(rf"{{\scriptsize {escape_latex(small)}}}" if small else "")
    return [" & ".join(first) + r" \\", " & ".join(second) + r" \\"]


def _latex_head(cell: Cell) -> str:
    mean = escape_latex(cell.mean)
    mean = rf"\textbf{{{mean}}}" if cell.best else mean
    return f"{mean} / {escape_latex(cell.median)}" if cell.median else mean


def escape_latex(text: str) -> str:
    """The text with LaTeX's special characters and the symbols used here made safe."""
    return "".join(LATEX_SPECIAL.get(character, character) for character in text)
