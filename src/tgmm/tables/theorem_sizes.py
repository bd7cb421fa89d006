"""Kind ``theorem-sizes-table``: the sizes of the constructed transformers beside what the theorems claim."""

from __future__ import annotations

import pandas as pd

from tgmm.tables.render import Cell, WideTable

COLUMNS = (
    "theorem", "d", "K", "L", "layers", "layers_claimed", "layers_he_2025", "heads", "heads_claimed", "token_width",
    "hidden_width", "weights", "nonzero_weights",
)  # fmt: skip
HEADS = {
    "layers": "layers",
    "layers_claimed": "claimed",
    "layers_he_2025": "He et al. 2025",
    "heads": "heads",
    "heads_claimed": "claimed",
    "token_width": "token width",
    "hidden_width": "hidden width",
    "nonzero_weights": "non-zero weights",
}


def long_table(sizes: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """The measured sizes as they are."""
    return sizes[list(COLUMNS)]


def wide_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """A row for each network: its theorem, d, K and steps L, then its sizes beside the claims."""
    body = [
        ([_write(row[name]) for name in ("theorem", "d", "K", "L")], [Cell(_write(row[name])) for name in HEADS])
        for _, row in rows.iterrows()
    ]
    notes = [
        "Claimed: 2 L layers and O(1) heads for L steps of EM (Theorem 1), d heads for a power iteration (Theorem 2).",
        "He et al. 2025: K L layers, the order of their construction for EM.",
    ]
    text = settings.get("caption") or caption(settings)
    return WideTable(["theorem", "d", "K", "L"], list(HEADS.values()), body, text, notes)


def _write(value: object) -> str:
    if pd.isna(value):
        return "–"
    return f"{int(value):,}" if isinstance(value, int | float) else str(value)


def caption(settings: dict) -> str:
    """One sentence on what is shown."""
    return "Sizes of the transformers constructed for the theorems."
