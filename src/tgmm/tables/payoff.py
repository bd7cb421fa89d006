"""When training has paid for itself: what a network cost, and what a task costs by it and by EM.

A network that needs ``s`` seconds a task, took ``T`` seconds to train and has no larger error than a rival that needs
``r`` seconds has paid for itself after ``T / (r - s)`` tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from tgmm.columns import reads
from tgmm.figures.data import OK, average_over_components, mark_undefined, select_summary
from tgmm.figures.style import method_style
from tgmm.tables.render import Cell, WideTable, write_number
from tgmm.train.status import HISTORY_COLUMNS, still_learning

COST_COLUMNS = (*HISTORY_COLUMNS, "processor_seconds", "flops")
PAYOFF_COLUMNS = [
    "d", "method", "label", "family", "tasks_seen", "flops", "training_seconds", "still_learning", "seconds", "error",
    "low", "high", "rival", "rival_seconds", "rival_error", "rival_low", "rival_high", "outcome", "tasks_until_paid",
    "scale", "seed", "n_tasks",
]  # fmt: skip
PAYS, WORSE, SLOWER, EQUAL = "pays", "larger error", "slower", "undecided"
WORDS = {WORSE: "never: larger error", SLOWER: "never: slower", EQUAL: "error undecided"}
HEADS = ["training tasks", "operations", "processor seconds", "ms a task", "rival's", "error", "rival's", "pays after"]


@reads(tables=COST_COLUMNS, written=PAYOFF_COLUMNS)
def payoff_rows(summary: pd.DataFrame, settings: dict, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row for each d, network and rival (the methods that run no network).

    Errors and seconds are averages over K. A network's error is not larger where its mean is not above the rival's
    interval, larger where its interval lies above it, undecided otherwise.
    """
    keys = ["d", "method"]
    selections = {
        name: select_summary(summary, settings | {"metric": name}) for name in (settings["metric"], "seconds")
    }
    named = selections["seconds"].dropna(subset="family").drop_duplicates(keys).set_index(keys)
    errors, seconds = (
        average_over_components(mark_undefined(rows), keys).set_index(keys) for rows in selections.values()
    )
    there = [key for key in errors.index if errors.at[key, "status"] == seconds.at[key, "status"] == OK]
    networks = {key: str(named.at[key, "family"]) for key in there if str(named.at[key, "family"]) in tables}
    rows = []
    for (d, method), family in networks.items():
        history = tables[family].sort_values("tasks")
        spent = history.iloc[-1]
        own = {
            "d": d, "method": method, "label": method_style(method).label, "family": family,
            "tasks_seen": int(spent["tasks"]), "flops": spent["flops"], "training_seconds": spent["processor_seconds"],
            "still_learning": still_learning(history), "seconds": seconds.at[(d, method), "mean"],
            "error": errors.at[(d, method), "mean"], "low": errors.at[(d, method), "low"],
            "high": errors.at[(d, method), "high"],
            **{name: named.at[(d, method), name] for name in ("scale", "seed", "n_tasks")},
        }  # fmt: skip
        for rival in (name for other, name in there if other == d and (other, name) not in networks):
            theirs = errors.loc[(d, rival)]
            against = {"rival": rival, "rival_seconds": seconds.at[(d, rival), "mean"], "rival_error": theirs["mean"]}
            against |= {"rival_low": theirs["low"], "rival_high": theirs["high"]}
            rows.append(own | against | paid_after(own | against))
    return pd.DataFrame(rows, columns=PAYOFF_COLUMNS)


def paid_after(row: Mapping) -> dict:
    """Whether a network pays against a rival, and after how many tasks; NaN if it never does or that is undecided."""
    saved = row["rival_seconds"] - row["seconds"]
    if row["low"] > row["rival_high"]:
        outcome = WORSE
    elif saved <= 0:
        outcome = SLOWER
    else:
        outcome = PAYS if row["error"] <= row["rival_high"] else EQUAL
    return {"outcome": outcome, "tasks_until_paid": row["training_seconds"] / saved if outcome == PAYS else math.nan}


def payoff_table(rows: pd.DataFrame, settings: dict) -> WideTable:
    """The table for reading: a row for each d, network and rival."""
    body = []
    for row in rows.to_dict("records"):
        names = [str(row["d"]), method_style(row["method"]).short, method_style(row["rival"]).short]
        learning = ", still learning" if row["still_learning"] else ""
        after = f"{row['tasks_until_paid']:,.0f} tasks" if row["outcome"] == PAYS else WORDS[row["outcome"]]
        entries = [
            f"{row['tasks_seen']:,}{learning}", f"{row['flops']:.1e}", f"{row['training_seconds']:,.0f}",
            write_number(1e3 * row["seconds"]), write_number(1e3 * row["rival_seconds"]), write_number(row["error"]),
            write_number(row["rival_error"]), after,
        ]  # fmt: skip
        body.append((names, [Cell(entry) for entry in entries]))
    first = rows.iloc[0] if len(rows) else {"scale": settings.get("scale", ""), "n_tasks": 0, "seed": 0}
    notes = [
        "Pays after T / (r - s) tasks: T seconds of training on one thread, s and r seconds a task of the network and "
        "of its rival, in batches on one thread. Averages over K.",
        f"scale {first['scale']} · {first['n_tasks']:.0f} tasks a cell · seed {first['seed']:.0f}",
    ]
    caption = settings.get("caption") or caption_payoff(settings)
    return WideTable(["d", "network", "rival"], HEADS, body, caption, notes)


def caption_payoff(settings: dict) -> str:
    """What the table shows."""
    return (
        f"What training took, and after how many tasks of the set '{settings['taskset']}' it has paid for itself "
        "against a rival, where the network's error is no larger."
    )
