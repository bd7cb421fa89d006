"""The short table at the end of a run."""

from __future__ import annotations

import json
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tgmm.errors import UserError
from tgmm.figures.style import STYLES, method_style
from tgmm.tables.render import write_number, write_percent

MOST_COLUMNS = 4  # a task set of more cells, such as a shift's, is read in its own tables and figures


def print_headline(scale: str, root: Path, console: Console | None = None) -> None:
    """Print a table of methods by dimension for the unshifted task sets, then the artefacts' paths."""
    console = console or Console()
    results = root / "results" / scale
    numbers = _read(results / "summary.json", scale)
    meta = numbers.pop("meta", {})
    for taskset, cells in numbers.items():
        if len(cells) <= MOST_COLUMNS:
            console.print(_table(taskset, cells, meta))
    for label, path in _artefacts(root, results, scale):
        console.print(f"{label:8}{path}", highlight=False, soft_wrap=True)


def _read(path: Path, scale: str) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: not there; scale '{scale}' has not been run") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error.msg})") from error


def _table(taskset: str, cells: dict, meta: dict) -> Table:
    title = f"{taskset}: l2-error, mean / median over K = {meta.get('n_components', '')}"
    caption = f"scale {meta.get('scale')} · {meta.get('tasks_per_cell')} tasks a cell · seed {meta.get('seed')}"
    left = {"title_justify": "left", "caption_justify": "left"}
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, **left)
    table.add_column("method", no_wrap=True)
    for name in cells:
        table.add_column(name, justify="right", overflow="fold")
    for method in _in_order({method for cell in cells.values() for method in cell}):
        entries = [_entry(cell.get(method)) for cell in cells.values()]
        table.add_row(Text(method_style(method).short), *entries)
    return table


def _in_order(methods: set[str]) -> list[str]:
    """Known methods in the palette's order, then the others by name."""
    known = [method for method in STYLES if method in methods]
    return known + sorted(methods - set(known))


def _entry(values: dict | None) -> str:
    if values is None:
        return "–"
    failed = values.get("failure_share") or 0.0
    if values.get("l2_error_mean") is None:
        return f"fails ({write_percent(failed)})" if failed else "–"
    share = f" ({write_percent(failed)} fail)" if failed else ""
    return f"{write_number(values['l2_error_mean'])} / {write_number(values['l2_error_median'])}{share}"


def _artefacts(root: Path, results: Path, scale: str) -> list[tuple[str, Path]]:
    """Label and path of what there is to look at."""
    name = "paper.pdf" if scale == "laptop" else f"paper-{scale}.pdf"
    found = [("figure", path) for path in sorted((results / "figures").glob("*.pdf"))]
    found += [("table", path) for path in sorted((results / "tables").glob("*.md"))]
    return found + [("paper", path) for path in [root / "paper" / "build" / name] if path.is_file()]
