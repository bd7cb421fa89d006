"""The one exception that reaches a user as a single clear line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input: the message is one line that names the key, file or value and what would be right."""


class DivergenceError(UserError):
    """A training whose loss, gradient or validation error is no longer finite: for a comparison, a result."""


def unknown_name(kind: str, name: object, choices: Iterable[object]) -> UserError:
    """An error for a name of some kind, such as ``"recipe"``, that is no choice, with the nearest valid one."""
    valid = [str(choice) for choice in choices]
    nearest = difflib.get_close_matches(str(name), valid, n=1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return UserError(f"unknown {kind} '{name}'{hint} (valid: {', '.join(valid)})")


def refuse_unknown(kind: str, name: object, choices: Iterable[object]) -> None:
    """Raise :func:`unknown_name` unless the name is among the choices."""
    choices = list(choices)
    if name not in choices:
        raise unknown_name(kind, name, choices)
