"""What every command has in common: where its settings come from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tgmm.errors import UserError

if TYPE_CHECKING:
    from tgmm.study import Study

SettingsOption = Annotated[
    str | None,
    typer.Option("--settings", help="JSON text, or the path of a JSON file; without it, --config and --scale decide."),
]
ConfigOption = Annotated[Path, typer.Option("--config", help="The study, used where --settings is not given.")]
ScaleOption = Annotated[str | None, typer.Option("--scale", help="Takes the place of the study's scale.")]


def resolve_settings(settings: str | None, config: Path, scale: str | None, choose: Callable[[Study], dict]) -> dict:
    """The settings given on the command line, or those that ``choose`` picks from the study."""
    given = load_settings(settings)
    if given is not None:
        return given
    from tgmm.study import load_study

    return choose(load_study(config, scale))


def load_settings(text_or_path: str | None) -> dict | None:
    """Settings from JSON text (it begins with a brace) or from a JSON file; None stays None."""
    if text_or_path is None:
        return None
    text = text_or_path.strip()
    source = "--settings"
    if not text.startswith(("{", "[")):
        source, text = text, _read(Path(text))
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{source}: not valid JSON ({error.msg}, line {error.lineno}, column {error.colno})") from error
    if not isinstance(settings, dict):
        raise UserError(f"{source}: must be a JSON object, not a {type(settings).__name__}")
    return settings


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UserError(f"{path}: cannot be read ({reason}); --settings takes JSON text or a JSON file") from error
