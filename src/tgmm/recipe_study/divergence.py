"""Tells a training that diverged, which is a result, from one that could not be carried out."""

from __future__ import annotations

import re

from tgmm.errors import UserError

NOT_FINITE = re.compile(r"(?:the loss or its gradient|the validation error) is not finite at step \d+")


def has_diverged(error: UserError) -> bool:
    """Whether the trainer stopped because a loss, a gradient or a validation error was no longer finite."""
    return NOT_FINITE.search(str(error)) is not None
