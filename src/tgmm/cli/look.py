"""The commands to look at something at once: demo, compare, answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tgmm.cli.common import write_between_markers
from tgmm.errors import UserError

BEGIN, END = "<!-- answers:begin -->", "<!-- answers:end -->"


def demo(
    k: Annotated[int, typer.Option(min=2, max=5, help="Number of components.")] = 3,
    points: Annotated[int, typer.Option(min=4, max=100_000, help="Number of points.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Which mixture is drawn.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the picture and the animation.")] = Path(),
) -> None:
    """Draw a mixture, fit it with every method, and save a picture and an animation of EM beside the network."""
    from tgmm.demo import draw_animation, draw_picture, run_demo, table_lines
    from tgmm.methods.base import one_thread

    with one_thread():
        shown = run_demo(k, points, seed)
    print("\n".join(table_lines(shown)))
    for path, draw in ((out / "demo.png", draw_picture), (out / "demo.gif", draw_animation)):
        draw(shown, path)
        print(f"-> {path}")


def compare(
    before: Annotated[Path, typer.Argument(help="A folder of results, such as results/laptop, or a summary.parquet.")],
    after: Annotated[Path, typer.Argument(help="Another one: of another commit, scale or machine.")],
    metric: Annotated[list[str] | None, typer.Option(help="A metric to compare; repeatable.")] = None,
    most: Annotated[int, typer.Option(min=1, help="Numbers that are printed.")] = 20,
    out: Annotated[Path | None, typer.Option(help="All numbers to write, .csv or .parquet.")] = None,
) -> None:
    """Say which numbers of two results differ by more than their intervals; `dvc metrics diff` has the others."""
    from tgmm.cli.common import write_table
    from tgmm.compare import compare_summaries, lines, only_in_one, read_summary

    metrics = metric or ["l2_error"]
    summaries = read_summary(before), read_summary(after)
    compared = compare_summaries(*summaries, metrics)
    if out is not None:
        write_table(out, compared, digits=6)
    print("\n".join(lines(compared, most)))
    for count, folder in zip(only_in_one(*summaries, metrics), (before, after), strict=True):
        if count:
            print(f"{count} numbers are in {folder} alone")


def real_data(
    faithful: Annotated[Path, typer.Argument(help="Old Faithful: columns 'eruptions' and 'waiting', .csv.")],
    out: Annotated[Path, typer.Option(help="The measurements to write, .csv.")],
    picture: Annotated[Path, typer.Option(help="Points and ellipses of a fit of each data set to write, .csv.")],
    repeats: Annotated[int, typer.Option(min=1, help="Fits and cross-validations of every method.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the first repeat.")] = 2505,
) -> None:
    """Fit well-known data sets by the network and by scikit-learn's mixtures."""
    from tgmm.cli.common import write_table
    from tgmm.files import check_outputs
    from tgmm.methods.base import one_thread
    from tgmm.real_data import measure_real_data

    check_outputs(out, picture)
    with one_thread():
        rows, pictures = measure_real_data(faithful, repeats, seed, lambda line: print(line, flush=True))
    write_table(out, rows, digits=6)
    write_table(picture, pictures, digits=6)
    print(f"{rows['data'].nunique()} data sets -> {out}, {picture}")


def answers(
    scale: Annotated[str, typer.Option(help="The scale whose results are asked.")] = "laptop",
    root: Annotated[Path, typer.Option(help="The folder that holds results/.")] = Path(),
    into: Annotated[
        Path | None, typer.Option(metavar="FILE.md", help=f"Rewrite the lines between '{BEGIN}' and '{END}' instead.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="With --into: change nothing, and exit with 1 where the file differs.")
    ] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write them as JSON instead.")] = None,
) -> None:
    """Answer the reviewers' questions in sentences, from the tables that `snakemake -- reviewers` made."""
    from tgmm import answers as reviewers

    if check and into is None:
        raise UserError("--check compares a file with the results: give it with --into")
    if out is not None and into is not None:
        raise UserError("--out writes a file of its own and --into a part of one: give one of them")
    if out is not None:
        reviewers.write_answers(root / "results" / scale, out)
        print(f"answers ({scale}) -> {out}")
        return
    lines = reviewers.answers(root / "results" / scale)
    if into is None:
        print("\n".join(lines))
    else:
        write_between_markers(into, lines, (BEGIN, END), f"the answers of scale {scale}", check)
