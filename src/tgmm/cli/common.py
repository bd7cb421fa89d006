"""What commands have in common: where settings come from, the device, and how a table is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tgmm.errors import UserError, shown
from tgmm.files import atomic_path, parse_json, read_text, write_atomically

if TYPE_CHECKING:
    import pandas as pd

    from tgmm.study import Study

SettingsOption = Annotated[
    str | None,
    typer.Option("--settings", help="JSON text, or the path of a JSON file; without it, --config and --scale decide."),
]
ConfigOption = Annotated[Path, typer.Option("--config", help="The study, used where --settings is not given.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
WorkOption = Annotated[Path, typer.Option(help="Folder of resumable states.")]
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
        source, text = text, _read_file(text)
    settings = parse_json(text, source)
    if not isinstance(settings, dict):
        raise UserError(f"{source}: must be a JSON object, not a {type(settings).__name__}")
    return settings


def _read_file(path: str) -> str:
    try:
        return read_text(path)
    except UserError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise UserError(f"--settings takes JSON text or a JSON file; {shown(path)} {reason[-200:]}") from error


def refuse_other(given: object, asked: object) -> None:
    """Refuse settings that are not of what the command was asked for."""
    if given != asked:
        raise UserError(f"--settings are of {shown(given)}, not of {shown(asked)}")


@contextmanager
def leased(device: str) -> Iterator[Any]:
    """A leased torch device; the lease comes before torch is imported, as it chooses the visible cards."""
    from tgmm.devices import lease_device, settle_threads

    settle_threads()
    with lease_device(device) as kind:
        import torch

        yield torch.device(kind)


def write_table(path: Path, table: pd.DataFrame, digits: int | None = None) -> None:
    """Write a table whole or not at all: CSV with so many digits, which the manuscript can read too, or parquet."""
    with atomic_path(path) as temporary:
        if path.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            written = None if digits is None else f"%.{digits}g"
            table.to_csv(temporary, index=False, float_format=written, lineterminator="\n")


def write_between_markers(path: Path, lines: list[str], markers: tuple[str, str], what: str, check: bool) -> None:
    """Rewrite a file between two markers; with ``check`` change nothing, and exit with 1 where it differs."""
    before = read_text(path)
    after = replace_between_markers(before, lines, markers, path)
    if not check:
        write_atomically(path, after)
        print(f"{what} -> {path}")
    elif before != after:
        print(f"{path}: not {what}; the same command without --check writes them")
        raise typer.Exit(1)


def replace_between_markers(text: str, lines: list[str], markers: tuple[str, str], path: Path) -> str:
    """Return the text with these lines between the two markers, which stand on lines of their own.

    Raises
    ------
    UserError : unless there is one marker of each kind, in this order.
    """
    before = text.splitlines()
    places = [[number for number, line in enumerate(before) if line.strip() == marker] for marker in markers]
    if [len(found) for found in places] != [1, 1] or places[0] > places[1]:
        raise UserError(f"{path}: needs one line '{markers[0]}' and below it one line '{markers[1]}'")
    (begin,), (end,) = places
    return "\n".join([*before[: begin + 1], *lines, *before[end:]]) + "\n"
