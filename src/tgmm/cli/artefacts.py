"""The commands that show: aggregate, figure, table, paper, page, headline."""

from __future__ import annotations

import os
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tgmm.cli.common import (
    ConfigOption,
    ScaleOption,
    SettingsOption,
    load_settings,
    resolve_settings,
    write_between_markers,
)
from tgmm.errors import UserError, refuse_unknown
from tgmm.figures.style import in_legend_order, method_style
from tgmm.files import read_made_json
from tgmm.tables.render import write_number, write_percent

StemOption = Annotated[Path, typer.Option(help="Path of the files to write, without suffix.")]
ScoresArgument = Annotated[list[Path] | None, typer.Argument(help="The scores that are shown, .parquet.")]
SummaryOption = Annotated[
    Path | None, typer.Option(help="In place of scores: what `tgmm aggregate`, `theory measure` or `probe` wrote.")
]


def aggregate(
    files: Annotated[list[Path], typer.Argument(help="Score files, .parquet.")],
    out: Annotated[Path, typer.Option(help="The summary to write, .parquet: one row a cell, method and metric.")],
    headline: Annotated[Path, typer.Option(help="The headline numbers to write, .json.")],
    resamples: Annotated[int, typer.Option(min=1, help="Bootstrap samples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 2505,
    settings: SettingsOption = None,
) -> None:
    """Summarise scores: mean, median, 95 % interval and failures of every method in every cell."""
    from tgmm.aggregate import SummarySettings
    from tgmm.aggregate import aggregate as write_summary

    values = {"bootstrap": resamples, "seed": seed} | (load_settings(settings) or {})
    chosen = SummarySettings.read(values, "settings of tgmm aggregate")
    options = {"resamples": chosen.bootstrap, "seed": chosen.seed, "recipes": chosen.recipes, "scale": chosen.scale}
    summary = write_summary(files, out, headline, **options)
    print(f"{len(files)} score files, {summary['method'].nunique()} methods -> {out}, {headline}")


def figure(
    name: Annotated[str, typer.Argument(help="The figure's id in config.yaml, such as fig-effectiveness.")],
    out: StemOption,
    scores: ScoresArgument = None,
    summary: SummaryOption = None,
    table: Annotated[list[str] | None, typer.Option(help="NAME=FILE, a further table that it is drawn from.")] = None,
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Draw a figure as PDF and PNG."""
    from tgmm.artefacts import draw_figure

    values = resolve_settings(settings, config, scale, lambda study: study.artefact_settings(name))
    paths = draw_figure(values | {"id": name}, _shown(scores, summary), out, _named_files(table or []))
    print(f"{name} -> {', '.join(map(str, paths))}")


def _shown(scores: list[Path] | None, summary: Path | None) -> list[Path] | Path:
    if scores and summary:
        raise UserError("give score files or --summary, not both")
    return summary or scores or []


def _named_files(given: list[str]) -> dict[str, Path]:
    pairs = [item.partition("=") for item in given]
    for name, equals, path in pairs:
        if not (name and equals and path):
            raise UserError(f"--table takes NAME=FILE, not '{name}{equals}{path}'")
    return {name: Path(path) for name, _, path in pairs}


def table(
    name: Annotated[str, typer.Argument(help="The table's id in config.yaml, such as tab-effectiveness.")],
    out: StemOption,
    scores: ScoresArgument = None,
    summary: SummaryOption = None,
    table: Annotated[list[str] | None, typer.Option(help="NAME=FILE, a further table that it is made from.")] = None,
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Write a table as CSV (long form), Markdown and LaTeX."""
    from tgmm.artefacts import write_table

    values = resolve_settings(settings, config, scale, lambda study: study.artefact_settings(name))
    paths = write_table(values | {"id": name}, _shown(scores, summary), out, _named_files(table or []))
    print(f"{name} -> {', '.join(map(str, paths))}")


def paper(
    scale: Annotated[str, typer.Option(help="The scale whose results the paper shows.")] = "laptop",
    out: Annotated[Path | None, typer.Option(help="The PDF to write; default: results/<scale>/paper.pdf.")] = None,
    supplement: Annotated[bool, typer.Option("--supplement", help="Set the answers to the reviewers.")] = False,
    root: Annotated[Path, typer.Option(help="The folder that holds paper/ and results/.")] = Path(),
    left_out: Annotated[list[str] | None, typer.Option(help="A figure that this scale lacks; repeatable.")] = None,
    absent: Annotated[list[str] | None, typer.Option(help="A family that is not trained; repeatable.")] = None,
) -> None:
    """Set the manuscript; its figures, tables and numbers come from results/<scale>."""
    from tgmm.manuscript import MAIN, SUPPLEMENT, build_paper

    name, document = ("tables/supplement", SUPPLEMENT) if supplement else ("paper", MAIN)
    out = out or root / "results" / scale / f"{name}.pdf"
    build_paper(scale, out, root=root, left_out=left_out or (), absent=absent or (), document=document)
    print(f"{Path(name).name} ({scale}) -> {out}")


def page(
    out: Annotated[Path | None, typer.Option(help="The page to write; default: results/<scale>/index.html.")] = None,
    root: Annotated[Path, typer.Option(help="The folder that holds results/ and benchmark_logs/.")] = Path(),
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Write the results of a scale as one HTML page that needs no network; what is not there yet is a labelled gap."""
    from tgmm.page.build import build_page
    from tgmm.page.contents import PageSettings

    values = resolve_settings(settings, config, scale, lambda study: study.page_settings())
    wanted = PageSettings.read(values, "settings of tgmm page")
    out = out or root / "results" / wanted.scale / "index.html"
    gaps = build_page(wanted, root, out)
    print(f"page ({wanted.scale}) -> {out}" + (f", with {len(gaps)} gaps" if gaps else ""))


# --- headline numbers --------------------------------------------------------------------------------------------


WIDTH = 80  # characters of a line of the terminal's table
MOST_CELLS = 4  # a task set of more cells, such as one of shifts, is read in its own tables and figures
BEGIN, END = "<!-- headline:begin -->", "<!-- headline:end -->"
MISSING, FAILED = "–", "n/a"
BOLD, PLAIN = "\033[1m", "\033[0m"


@dataclass(frozen=True)
class HeadlineTable:
    """The table of one task set.

    Attributes
    ----------
    taskset : its name.
    heads : the cells, such as ``d8``.
    rows : name of the method -> an entry for each cell.
    notes : what the marks of entries mean.
    """

    taskset: str
    heads: list[str]
    rows: dict[str, list[str]]
    notes: list[str]


def headline(
    scale: Annotated[str, typer.Option(help="The scale whose results are shown.")] = "laptop",
    root: Annotated[Path, typer.Option(help="The folder that holds paper/ and results/.")] = Path(),
    taskset: Annotated[list[str] | None, typer.Option(help="A task set to show; repeatable; all by default.")] = None,
    into: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help=f"Rewrite the tables between '{BEGIN}' and '{END}' instead.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="With --into: change nothing, and exit with 1 where the file differs.")
    ] = False,
) -> None:
    """Print the headline numbers and where figures, tables and the paper are."""
    if check and into is None:
        raise UserError("--check compares a file with the results: give it with --into")
    path = root / "results" / scale / "summary.json"
    meta, tables = read_headline(path, scale)
    tables = _chosen(tables, taskset or [])
    if into is None:
        print_headline(meta, tables, root, scale)
        return
    write_between_markers(into, markdown_lines(meta, tables), (BEGIN, END), f"the headline numbers of {path}", check)


# --- reading -------------------------------------------------------------------------------------------------------


def read_headline(path: Path, scale: str) -> tuple[dict, list[HeadlineTable]]:
    """Return what all numbers have in common, and the tables of the task sets that are small enough for one.

    Raises
    ------
    UserError : one line, where the scale has not been run or the file is damaged.
    """
    from pydantic import TypeAdapter, ValidationError

    if not path.is_file():
        run = sorted(found.parent.name for found in path.parent.parent.glob("*/summary.json"))
        there = f" (there are results of {', '.join(run)})" if run else ""
        raise UserError(f"{path}: not there; scale '{scale}' has not been run{there}")
    numbers = read_made_json(path, "tgmm aggregate")
    try:
        meta = TypeAdapter(dict[str, str | int]).validate_python(numbers.pop("meta"))
        cells = TypeAdapter(dict[str, dict[str, dict[str, dict[str, float | None]]]]).validate_python(numbers)
        return meta, [_table(name, part) for name, part in cells.items() if len(part) <= MOST_CELLS]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        reason = _first_mistake(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: damaged ({reason}); `tgmm aggregate` writes it again") from error


def _chosen(tables: list[HeadlineTable], names: list[str]) -> list[HeadlineTable]:
    """Return the tables of the named task sets, in this order; all where none is named."""
    known = {table.taskset: table for table in tables}
    for name in names:
        refuse_unknown("task set", name, known)
    return [known[name] for name in names] or tables


def _first_mistake(error) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place or 'the file'}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _table(taskset: str, cells: dict[str, dict]) -> HeadlineTable:
    methods = {method for cell in cells.values() for method in cell}
    rows, failures = {}, []
    for method in in_legend_order(methods):
        name = method_style(method).short
        rows[name] = [_entry(cell.get(method)) for cell in cells.values()]
        shares = {head: (cell.get(method) or {}).get("failure_share") or 0.0 for head, cell in cells.items()}
        failures += [f"{name} at {head}, {write_percent(share)}" for head, share in shares.items() if share]
    notes = [f"tasks without an estimate: {'; '.join(failures)}"] if failures else []
    if any(entry.endswith("*") for entries in rows.values() for entry in entries):
        notes.append("* over the tasks that did not fail")
    return HeadlineTable(taskset, list(cells), rows, notes)


def _entry(values: dict | None) -> str:
    """Write mean and median; a star where some tasks failed."""
    values = values or {}
    mean, median, failed = (values.get(key) for key in ("l2_error_mean", "l2_error_median", "failure_share"))
    if mean is None or median is None:
        return FAILED if failed else MISSING
    return f"{write_number(mean)} / {write_number(median)}{'*' if failed else ''}"


# --- the terminal's table --------------------------------------------------------------------------------------------


def print_headline(meta: dict, tables: list[HeadlineTable], root: Path, scale: str) -> None:
    """Print the tables and where everything lies; titles are bold on a terminal that may have attributes."""
    bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    for table in tables:
        title, *lines = terminal_lines(meta, table)
        print(f"{BOLD}{title}{PLAIN}" if bold else title)
        print("\n".join([*lines, ""]))
    for line in artefact_lines(root, scale):
        print(line)


def terminal_lines(meta: dict, table: HeadlineTable) -> list[str]:
    """Return the table in lines of at most ``WIDTH`` characters; columns that do not fit beside the others go below."""
    lines = [f"{table.taskset}: l2-error, mean / median over K = {meta.get('n_components', MISSING)}"]
    first = max(map(len, table.rows))
    columns = list(zip(table.heads, *table.rows.values(), strict=True))
    widths = [max(map(len, column)) for column in columns]
    while columns:
        count = max(1, sum(first + sum(widths[: n + 1]) + 2 * (n + 1) <= WIDTH for n in range(len(widths))))
        lines.append("")
        for name, *entries in zip(["method", *table.rows], *columns[:count], strict=True):
            line = "".join(f"  {entry:>{width}}" for entry, width in zip(entries, widths, strict=False))
            lines.append(f"{name:<{first}}{line}")
        columns, widths = columns[count:], widths[count:]
    for note in table.notes:
        lines += textwrap.wrap(note, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [*lines, _provenance(meta)]


def _provenance(meta: dict) -> str:
    tasks, seed = meta.get("tasks_per_cell", MISSING), meta.get("seed", MISSING)
    return f"scale {meta.get('scale', MISSING)} · {tasks} tasks a cell · seed {seed}"


def artefact_lines(root: Path, scale: str) -> list[str]:
    """Return where figures, tables, the paper and the page are, as far as they are there."""
    results = root / "results" / scale
    found = [("figures", results / "figures", "*.pdf"), ("tables", results / "tables", "*.md")]
    counts = [(label, folder, len(list(folder.glob(pattern)))) for label, folder, pattern in found]
    lines = [f"{label:8} {count} in {folder}" for label, folder, count in counts if count]
    single = {"paper": results / "paper.pdf", "page": results / "index.html"}
    return lines + [f"{label:8} {path}" for label, path in single.items() if path.is_file()]


# --- the table in a Markdown file ------------------------------------------------------------------------------------


def markdown_lines(meta: dict, tables: list[HeadlineTable]) -> list[str]:
    """Return the tables in GitHub's Markdown, below each a line on what it shows."""
    lines = []
    for table in tables:
        rows = [f"| {name} | {' | '.join(entries)} |" for name, entries in table.rows.items()]
        head = [f"| method | {' | '.join(table.heads)} |", f"|:--|{'--:|' * len(table.heads)}"]
        shown = f"Task set `{table.taskset}`: ℓ2-error, mean / median over K = {meta.get('n_components', MISSING)}"
        below = "; ".join([f"{shown} · {_provenance(meta)}", *table.notes])
        lines += [*head, *(line.replace("*", r"\*") for line in rows), "", below.replace("*", r"\*") + ".", ""]
    return lines[:-1]
