"""The command line: every workflow rule is one of these commands, so each step can be run by hand."""

from __future__ import annotations

import atexit
import gc
import sys

import typer

from tgmm.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Gaussian-mixture estimation by transformers: sample tasks, train, score, draw.",
)


def main() -> None:
    """Run the command line; bad input ends with one line on stderr and exit code 2."""
    from tgmm.cli.register import register_commands

    register_commands(app)
    # Else Python ends with a search for cycles in all that torch has imported, which takes about 0.4 s.
    atexit.register(gc.freeze)
    try:
        app()
    except UserError as error:
        print(f"tgmm: {error}", file=sys.stderr)
        sys.exit(2)
