"""One look for every method: distinct, stable, and known without the drawing library."""

from __future__ import annotations

import subprocess
import sys

import matplotlib

from tgmm.figures import style
from tgmm.figures.style import STYLES, method_style


def test_looks_differ_in_colour_and_in_shape():
    shown = [look for name, look in STYLES.items() if name != "em-oracle"]
    assert len({look.color for look in STYLES.values()}) == len(STYLES)
    assert len({look.marker for look in shown}) == len(shown)
    assert len({look.label for look in STYLES.values()}) == len(STYLES)


def test_unknown_methods_get_a_look_of_their_kind():
    assert method_style("tgmm-mamba") == method_style("tgmm-mamba")
    assert method_style("tgmm-mamba").label == "TGMM mamba"
    assert method_style("gradient-adam").color not in {look.color for look in STYLES.values()}


def test_the_style_is_undone():
    before = matplotlib.rcParams["font.size"]
    with style.applied():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert matplotlib.rcParams["font.size"] == style.MEDIUM
    assert matplotlib.rcParams["font.size"] == before


def test_tables_do_not_load_the_drawing_library():
    code = "import sys, tgmm.tables.registry; sys.exit('matplotlib' in sys.modules or 'seaborn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
