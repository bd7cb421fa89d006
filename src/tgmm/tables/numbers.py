"""How numbers are written in tables for reading."""

from __future__ import annotations

import math


def write_number(value: float) -> str:
    """Three significant digits for errors below ten, one decimal or none above; nothing for NaN.

    >>> [write_number(value) for value in (0.01904, 0.4449, 1.0561, 16.31, 312.4, -12.43, 0.00031)]
    ['.0190', '.445', '1.06', '16.3', '312', '-12.4', '3.1e-4']
    """
    size = abs(value)
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if size >= 99.95:
        return f"{value:.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    if size >= 0.9995:
        return f"{value:.2f}"
    if size == 0:
        return "0"
    return _write_small(value, size)


def _write_small(value: float, size: float) -> str:
    if size < 9.995e-4:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    decimals = 3 if size >= 0.09995 else 4 if size >= 0.009995 else 5
    return f"{value:.{decimals}f}".replace("0.", ".", 1)


def write_percent(share: float) -> str:
    """A share as a percentage; a share above zero is never written as zero."""
    percent = 100 * share
    return (
        f"{percent:.0f} %" if percent == 0 or percent >= 9.95 else f"{percent:.1f} %" if percent >= 0.05 else "<0.1 %"
    )
