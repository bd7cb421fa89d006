"""The look of every figure: as wide as the text of an A4 page, fonts of at least 7 points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import seaborn

from tgmm.figures.palette import INK

WIDTH = 6.6
SMALL, MEDIUM = 7.0, 8.0
RULES = {
    "font.family": "DejaVu Sans",
    "font.size": MEDIUM,
    "axes.labelsize": MEDIUM,
    "axes.titlesize": MEDIUM,
    "axes.titlelocation": "left",
    "axes.titlepad": 4.0,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "ytick.minor.size": 1.2,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "ytick.minor.width": 0.4,
    "xtick.minor.width": 0.4,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.0,
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,
    "pdf.compression": 9,
    "savefig.dpi": 200,
    "svg.hashsalt": "tgmm",
}


@contextmanager
def applied() -> Iterator[None]:
    """Seaborn's theme with the project's rules while the block runs; the caller's come back afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        seaborn.set_theme(context="paper", style="ticks", rc=RULES)
        yield
