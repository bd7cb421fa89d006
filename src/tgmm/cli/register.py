"""Collects the commands; each module of this package adds its own."""

from __future__ import annotations

import typer


def register_commands(app: typer.Typer) -> None:
    """Add every command to the application. Heavy imports stay inside the commands' bodies."""
