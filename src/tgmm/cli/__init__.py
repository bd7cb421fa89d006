"""The command line: every workflow rule is one of these commands, so each step can be run by hand."""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Annotated

import typer

from tgmm.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Gaussian-mixture estimation by transformers: sample tasks, train, score, draw, fit.",
)


def show_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        from importlib.metadata import version

        print(f"tgmm {version('tgmm')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options of no command in particular."""


def register_commands() -> None:
    """Add every command to the application. Heavy imports stay inside the commands' bodies."""
    from tgmm.cli import artefacts, compute, fit, look, status, theory

    groups = {
        "Steps of the study": (
            compute.sample_tasks,
            compute.train,
            compute.score,
            compute.probe,
            compute.plane,
            artefacts.aggregate,
        ),
        "Artefacts": (artefacts.figure, artefacts.table, artefacts.paper, artefacts.page),
        "What there is": (artefacts.headline, status.status, look.compare, look.answers, look.real_data),
        "Data of your own": (
            fit.fit,
            fit.predict,
            look.demo,
            compute.train_assignment,
            compute.train_criterion,
        ),
    }
    for panel, commands in groups.items():
        for command in commands:
            app.command(command.__name__.replace("_", "-"), rich_help_panel=panel)(command)
    app.add_typer(theory.app, name="theory", rich_help_panel="Studies of their own")
    app.add_typer(compute.ablation, name="ablation", rich_help_panel="Studies of their own")


def main() -> None:
    """Run the command line; bad input ends with one line on stderr and exit code 2."""
    register_commands()
    # Else Python ends with a search for cycles in all that torch has imported, which takes about 0.4 s.
    atexit.register(gc.freeze)
    try:
        app()
    except UserError as error:
        print(f"tgmm: {error}", file=sys.stderr)
        sys.exit(2)
