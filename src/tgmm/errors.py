"""The one exception that reaches a user as a single clear line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_VALUE = 80


class UserError(Exception):
    """Bad input: the message is one line that names the key, file or value and what would be right.

    Whatever cannot be printed on that line, such as a line break in a value, is written as Python escapes it.
    """

    def __init__(self, message: str):
        super().__init__(_printable(message))


class DivergenceError(UserError):
    """A training whose loss, gradient or validation error is no longer finite: for a comparison, a result."""


def unknown_name(kind: str, name: object, choices: Iterable[object]) -> UserError:
    """An error for a name of some kind, such as ``"recipe"``, that is no choice, with the nearest valid one."""
    valid = [str(choice) for choice in choices]
    text = str(name)[: 2 * LONGEST_VALUE]
    nearest = difflib.get_close_matches(text, valid, n=1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return UserError(f"unknown {kind} '{_cut(text)}'{hint} (valid: {', '.join(valid) or 'there is none'})")


def shown(value: object) -> str:
    """A value in one short piece of text."""
    return "nothing" if value is None else _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def refuse_unknown(kind: str, name: object, choices: Iterable[object]) -> None:
    """Raise :func:`unknown_name` unless the name is among the choices."""
    choices = list(choices)
    if name not in choices:
        raise unknown_name(kind, name, choices)
