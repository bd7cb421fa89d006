"""Collects the commands; each module of this package adds its own."""

from __future__ import annotations

import typer

from tgmm.cli import compute


def register_commands(app: typer.Typer) -> None:
    """Add every command to the application. Heavy imports stay inside the commands' bodies."""
    app.command("sample-tasks")(compute.sample_tasks)
    app.command("train")(compute.train)
    app.command("score")(compute.score)
