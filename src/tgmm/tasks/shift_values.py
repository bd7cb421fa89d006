"""Which shifts there are and which values each may take; needs no tensors, so that a study is checked quickly."""

from __future__ import annotations

import math

from tgmm.errors import UserError, unknown_name

SHIFTS = ("none", "mean", "smallest-weight", "location", "scale", "student-t", "outliers", "wrong-k")


def refuse_value(kind: str, value: float) -> None:
    """Raise a `UserError` unless the kind of shift is known and the value makes sense for it."""
    if kind not in SHIFTS:
        raise unknown_name("kind of shift", kind, SHIFTS)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise UserError(f"shift '{kind}': {value!r} is not a number")
    allowed = {
        "mean": (value >= 0 and math.isfinite(value), "at least 0"),
        "smallest-weight": (0 < value < 0.5, "between 0 and 0.5"),
        "location": (math.isfinite(value), "finite"),
        "scale": (value > 0 and math.isfinite(value), "positive and finite"),
        "student-t": (value > 2 and (math.isinf(value) or value == int(value)), "a whole number above 2, or .inf"),
        "outliers": (0 <= value < 1, "at least 0 and below 1"),
        "wrong-k": (math.isfinite(value) and value == int(value), "a whole number"),
    }
    holds, wanted = allowed.get(kind, (True, ""))
    if not holds:
        raise UserError(f"shift '{kind}': values must be {wanted}, not {value:g}")
