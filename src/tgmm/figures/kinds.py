"""What figures and tables have in common: the summary's columns, the kind that settings name, the caption.

Tables come without the drawing library, which takes longer to import than a table to write.
"""

from __future__ import annotations

from tgmm.columns import SUMMARY_COLUMNS
from tgmm.errors import UserError, unknown_name

SUMMARY = tuple(SUMMARY_COLUMNS)


def find_kind(kinds: dict, settings: dict):
    """The kind that the settings name, once they are known to have the keys that it needs."""
    name = settings.get("kind")
    if name not in kinds:
        raise unknown_name("artefact kind", name, kinds)
    missing = [key for key in kinds[name].settings if key not in settings]
    if missing:
        raise UserError(f"settings of artefact '{settings.get('id', name)}' lack {', '.join(missing)}")
    return kinds[name]


def caption_of(kind, settings: dict) -> str:
    """The caption that the settings give, or else the kind's own."""
    return settings.get("caption") or kind.caption(settings)
