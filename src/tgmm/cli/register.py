"""Collects the commands; each module of this package adds its own."""

from __future__ import annotations

import typer

from tgmm.cli import artefacts, compute, fit, probe, recipe_study, status, theory


def register_commands(app: typer.Typer) -> None:
    """Add every command to the application. Heavy imports stay inside the commands' bodies."""
    app.command("sample-tasks")(compute.sample_tasks)
    app.command("train")(compute.train)
    app.command("score")(compute.score)
    app.command("fit")(fit.fit)
    app.command("predict")(fit.predict)
    app.command("status")(status.status)
    app.command("probe")(probe.probe)
    app.command("aggregate")(artefacts.aggregate)
    app.command("figure")(artefacts.figure)
    app.command("table")(artefacts.table)
    app.command("paper")(artefacts.paper)
    app.command("headline")(artefacts.headline)
    app.add_typer(theory.app, name="theory")
    app.add_typer(recipe_study.app, name="recipe-study")
