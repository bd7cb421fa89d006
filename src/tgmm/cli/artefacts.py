"""The commands that show: aggregate, figure, table, paper, page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tgmm.cli.common import ConfigOption, ScaleOption, SettingsOption, load_settings, resolve_settings
from tgmm.errors import UserError

StemOption = Annotated[Path, typer.Option(help="Path of the files to write, without suffix.")]
SummaryOption = Annotated[Path, typer.Option(help="The summary that `tgmm aggregate` wrote.")]


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
    summary: SummaryOption,
    out: StemOption,
    table: Annotated[list[str] | None, typer.Option(help="NAME=FILE, a further table that it is drawn from.")] = None,
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Draw a figure as PDF and PNG."""
    from tgmm.artefacts import draw_figure

    values = resolve_settings(settings, config, scale, lambda study: study.artefact_settings(name))
    paths = draw_figure(values | {"id": name}, summary, out, _named_files(table or []))
    print(f"{name} -> {', '.join(map(str, paths))}")


def _named_files(given: list[str]) -> dict[str, Path]:
    pairs = [item.partition("=") for item in given]
    for name, equals, path in pairs:
        if not (name and equals and path):
            raise UserError(f"--table takes NAME=FILE, not '{name}{equals}{path}'")
    return {name: Path(path) for name, _, path in pairs}


def table(
    name: Annotated[str, typer.Argument(help="The table's id in config.yaml, such as tab-effectiveness.")],
    summary: SummaryOption,
    out: StemOption,
    table: Annotated[list[str] | None, typer.Option(help="NAME=FILE, a further table that it is made from.")] = None,
    settings: SettingsOption = None,
    config: ConfigOption = Path("config.yaml"),
    scale: ScaleOption = None,
) -> None:
    """Write a table as CSV (long form), Markdown and LaTeX."""
    from tgmm.artefacts import write_table

    values = resolve_settings(settings, config, scale, lambda study: study.artefact_settings(name))
    paths = write_table(values | {"id": name}, summary, out, _named_files(table or []))
    print(f"{name} -> {', '.join(map(str, paths))}")


def paper(
    scale: Annotated[str, typer.Option(help="The scale whose results the paper shows.")] = "laptop",
    out: Annotated[Path, typer.Option(help="The PDF to write.")] = Path("paper/build/paper.pdf"),
    root: Annotated[Path, typer.Option(help="The folder that holds paper/ and results/.")] = Path(),
    left_out: Annotated[list[str] | None, typer.Option(help="A figure that this scale lacks; repeatable.")] = None,
    absent: Annotated[list[str] | None, typer.Option(help="A family that is not trained; repeatable.")] = None,
) -> None:
    """Set the manuscript; its figures, tables and numbers come from results/<scale>."""
    from tgmm.manuscript import build_paper

    print(f"paper ({scale}) -> {build_paper(scale, out, root=root, left_out=left_out or (), absent=absent or ())}")


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
