"""Kind ``real-data-table``: well-known data sets, fitted by the network and by scikit-learn's mixtures."""

from __future__ import annotations

import pandas as pd

from tgmm.columns import reads
from tgmm.real_data import COLUMNS, LABELS, NETWORK
from tgmm.tables.render import Cell, WideTable

NAMES = {
    "iris": "Iris", "wine": "Wine", "breast-cancer": "Breast cancer", "digits": "Digits",
    "old-faithful": "Old Faithful",
}  # fmt: skip
METHODS = {
    "network": "network, one pass", NETWORK: "network + EM", "gmm": "mixture, 1 start", "gmm-10": "mixture, 10 starts",
    "variational": "variational mixture", "k-means": "k-means", LABELS: "from the labels",
}  # fmt: skip
HEADS = ["nats a row, left out", "adjusted Rand index", "ms a fit"]


@reads(summary=COLUMNS, written=COLUMNS)
def real_data_rows(measured: pd.DataFrame, settings: dict) -> pd.DataFrame:
    """The measurement as it is."""
    return measured[COLUMNS]


def real_data_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each data set and method, the best of a set in bold."""
    body = []
    for name, part in rows.groupby("data", sort=False):
        rivals = part[part["method"] != LABELS]
        best = {column: round(rivals[column].max(), 3) for column in ("held_out", "rand_index")}
        for row in part.to_dict("records"):
            entries = [_range(row, column, best[column] if row["method"] != LABELS else None) for column in best]
            seconds = Cell("–" if pd.isna(row["seconds"]) else f"{1e3 * row['seconds']:.0f}")
            label = f"{NAMES[name]} ({row['rows']} × {row['d']}, K = {row['K']})"
            body.append(([label, METHODS[row["method"]]], [*entries, seconds]))
    first = rows.iloc[0]
    notes = [
        f"Means over {first['repeats']} repeats, in brackets the lowest and the highest; each repeat has a seed and "
        "five folds of its own. Bold: the best of a data set, the labels aside, which are a mark and no clustering.",
        "Columns standardised, breast cancer and digits reduced to principal components; diagonal covariances. A fit's "
        f"time is the median, on one thread. Seed {first['seed']}.",
    ]
    caption = settings.get("caption") or caption_real_data(settings)
    return WideTable(["data", "method"], HEADS, body, caption, notes, ("l", "l", "c", "c", "r"))


def _range(row: dict, column: str, best: float | None) -> Cell:
    if pd.isna(row[column]):
        return Cell("–")
    low, high = row[f"{column}_low"], row[f"{column}_high"]
    return Cell(f"{row[column]:.3f}", interval=f"[{low:.3f}, {high:.3f}]", best=round(row[column], 3) == best)


def caption_real_data(settings: dict) -> str:
    """What the table shows."""
    return (
        "Well-known data sets, fitted by the pretrained network, alone and before EM, and by scikit-learn's mixtures: "
        "mean log-likelihood of rows that were left out in cross-validation, and agreement with the labels."
    )
