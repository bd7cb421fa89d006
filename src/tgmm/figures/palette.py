"""One look for every method: the same colour, marker, line and name in every figure and table.

Colours are those of Okabe & Ito (2008), made for colour-blind readers, with Tol's wine for an eighth; markers and
line styles differ as well, so that a figure also reads in black and white.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

INK = "#262626"
NEUTRAL = "#4d4d4d"
BLUE, SKY, GREEN, ORANGE = "#0072b2", "#56b4e9", "#009e73", "#e69f00"
VERMILION, PURPLE, WINE = "#d55e00", "#cc79a7", "#882255"


@dataclass(frozen=True)
class MethodStyle:
    """How a method looks: full name (legends), short name (table heads, narrow places), colour, marker, line
    and the marker's size in points."""

    label: str
    short: str
    color: str
    marker: str
    line: str | tuple = "-"
    size: float = 4.0


ORACLE = "em-oracle"
STYLES = {
    "em": MethodStyle("EM, one start", "EM", VERMILION, "s", "-"),
    "em-restarts": MethodStyle("EM, 10 k-means++ starts", "EM, 10 starts", ORANGE, "D", (0, (5, 1.5))),
    ORACLE: MethodStyle("EM from the truth (floor)", "EM from the truth", NEUTRAL, "", (0, (2.2, 1.6))),
    "spectral": MethodStyle("Spectral", "Spectral", GREEN, "^", (0, (1, 1.2))),
    "tgmm-components": MethodStyle("TGMM components", "TGMM components", BLUE, "o", "-"),
    "tgmm-components-em20": MethodStyle("TGMM components + 20 EM steps", "TGMM + EM", SKY, "P", (0, (5, 1.5)), 5.0),
    "tgmm-matched": MethodStyle("TGMM matched", "TGMM matched", PURPLE, "v", (0, (5, 1.2, 1, 1.2))),
    "tgmm-reference": MethodStyle("TGMM reference", "TGMM reference", WINE, "*", (0, (1, 1.2)), 6.4),
}
FALLBACK_COLORS = {"em": "#b8860b", "spectral": "#44aa99", "tgmm": "#332288", "": "#999933"}
FALLBACK_MARKERS = "<>ph*d8H"
FALLBACK_LINES = ["-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.2, 1, 1.2))]


def method_style(method: str) -> MethodStyle:
    """The method's look; a method without an entry gets one from its kind, the same in every figure."""
    if method in STYLES:
        return STYLES[method]
    kind = method.split("-")[0]
    number = zlib.crc32(method.encode())
    return MethodStyle(
        label=_readable(method),
        short=_readable(method),
        color=FALLBACK_COLORS.get(kind, FALLBACK_COLORS[""]),
        marker=FALLBACK_MARKERS[number % len(FALLBACK_MARKERS)],
        line=FALLBACK_LINES[number // len(FALLBACK_MARKERS) % len(FALLBACK_LINES)],
    )


def _readable(method: str) -> str:
    kind, *rest = method.split("-")
    head = {"em": "EM", "tgmm": "TGMM"}.get(kind, kind.capitalize())
    return " ".join([head, *rest])
