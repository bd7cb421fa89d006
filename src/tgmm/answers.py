"""The reviewers' questions, each answered in a sentence with numbers from the tables of `snakemake -- reviewers`.

A question is a function of the tables of a scale's results; where a table is not there, its answer says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tgmm.aggregate import read_scores, summarise
from tgmm.figures.frontier import costs, frontier
from tgmm.figures.style import is_floor, method_style
from tgmm.files import write_atomically
from tgmm.real_data import NETWORK as NETWORK_FIT
from tgmm.tables.depth import BLOCKS, STEPS, TRAINED
from tgmm.tables.payoff import PAYS, SLOWER, WORSE
from tgmm.tables.real_data import NAMES
from tgmm.tables.render import write_number

SHOWN = {"d": 8, "K": 5}  # the cell that sentences speak of where one has to do
NETWORK, REFINED, EM, ORACLE = "tgmm-components", "tgmm-components-em20", "em-restarts", "em-oracle"
TRIVIAL = "sample-mean"
CLOSE, ROBUST, LOSS = "tgmm-close", "tgmm-contaminated", "tgmm-weights-once"
CLEARLY = 1.1  # times a floor, above which a median is said to be off it
CONTAMINATIONS = (
    ("clean", "outliers", 0.0), ("10 % outliers", "outliers", 0.1), ("three degrees of freedom", "student-t", 3.0),
    ("one component too many", "wrong-k", 1.0), ("one too few", "wrong-k", -1.0),
)  # fmt: skip


def name_of(method: str) -> str:
    """A method's name within a sentence."""
    return method_style(method).short


def cell(table: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows of a cell, by method."""
    for column, value in where.items():
        table = table[table[column] == value]
    return table.set_index("method")


def interval(row: pd.Series) -> str:
    """A mean with its 95 % interval."""
    return f"{write_number(row['mean'])} [{write_number(row['low'])}, {write_number(row['high'])}]"


def floor(table: pd.DataFrame, results: Path) -> str:
    """How close methods come to the Cramér-Rao bound."""
    parts, plain, refined = [], [], []
    for d, K in ((2, 5), (8, 5)):
        rows = cell(table, d=d, K=K)
        bound = rows.loc["cramer-rao", "median"]
        plain.append(rows["median"].get(NETWORK, math.nan) / bound)
        refined.append(rows["median"].get(REFINED, math.nan) / bound)
        ratios = [
            f"{name_of(method)} {rows.loc[method, 'median'] / bound:.2f}"
            for method in rows.index
            if method != "cramer-rao" and rows.loc[method, "median"] > 0
        ]
        parts.append(f"at d = {d} and K = {K} (bound {write_number(bound)}) {', '.join(ratios)} times the bound")
    lesson = ""
    if min(plain) > CLEARLY and max(refined) < CLEARLY:
        lesson = " In the typical task the network lacks precision alone, and EM steps supply it."
    elif max(plain) < CLEARLY:
        lesson = " In the typical task the network is as good as an efficient estimator."
    return f"Medians over tasks of the error of the means beside the Cramér-Rao bound: {'; '.join(parts)}.{lesson}"


def complexity(table: pd.DataFrame, results: Path) -> str:
    """How errors fall with N."""
    parts = []
    for d in sorted(table["d"].unique()):
        rows = cell(table, d=d, K=SHOWN["K"])
        slopes = [
            f"{name_of(method)} {row['slope']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
            for method, row in rows.iterrows()
        ]
        parts.append(f"d = {d}: {', '.join(slopes)}")
    network = cell(table, d=SHOWN["d"], K=SHOWN["K"])["largest_N_above_floor"].get(NETWORK, 0)
    leaves = (
        f"at d = {SHOWN['d']} the network, trained at N = 64…128, is more than 1.2 times the floor up to N = {network}"
        if network
        else f"at d = {SHOWN['d']} the network is within 1.2 times the floor at every N"
    )
    slow = cell(table, d=SHOWN["d"], K=SHOWN["K"])["high"].get(NETWORK, -1.0)
    lesson = ""
    if slow < 0 and cell(table, d=SHOWN["d"], K=SHOWN["K"])["low"].get(NETWORK, -1.0) > -0.95:
        lesson = " An efficient estimator has a slope of -1: the network makes less of many points than they are worth."
    return f"Slopes of log error of the means in log N at K = {SHOWN['K']}: {'; '.join(parts)}; {leaves}.{lesson}"


def separation(table: pd.DataFrame, results: Path) -> str:
    """From which distance on an estimate is worth more than the sample mean."""
    parts, nearer = [], []
    for K in sorted(table["K"].unique()):
        first = {}
        for method in (NETWORK, CLOSE, REFINED, EM, ORACLE):
            for value in sorted(table["shift_value"].unique()):
                rows = cell(table, K=K, shift_value=value)
                if method in rows.index and rows.loc[method, "high"] < rows.loc[TRIVIAL, "low"]:
                    first[method] = value
                    break
        told = ", ".join(f"{name_of(method)} {value:g}" for method, value in first.items()) or "none"
        parts.append(f"K = {K}: {told}")
        nearer.append(first.get(CLOSE, math.inf) < min(first.get(other, math.inf) for other in (NETWORK, EM, ORACLE)))
    lesson = ""
    if all(nearer):
        lesson = " Training on close components moves that distance: what fails below it is the prior, not the data."
    return (
        "Smallest distance between the means, in standard deviations, at which an estimate is better than all means "
        f"at the centroid (intervals apart): {'; '.join(parts)}.{lesson}"
    )


def beyond_dimensions(table: pd.DataFrame, results: Path) -> str:
    """Who else works where there are more components than dimensions."""
    value = sorted(table["shift_value"].unique())[(table["shift_value"].nunique() - 1) // 2]
    parts, alone = [], []
    for K in sorted(table["K"].unique()):
        rows = cell(table, K=K, shift_value=value)
        parts.append(f"d = 1, K = {K} {_listed(rows.drop(index=[TRIVIAL, 'em'], errors='ignore'))}")
        alone.append(_is_alone(rows, ("tgmm-spaced", "tgmm-spaced-em20")))
    plane = results / "tables" / "tab-rivals.csv"
    if plane.is_file():
        rivals = pd.read_csv(plane)
        for K in sorted(rivals.loc[(rivals["d"] == 2) & (rivals["K"] > 2), "K"].unique()):
            rows = cell(rivals, d=2, K=K)
            rows = rows[rows.index.isin([EM, "em-lookahead-10", NETWORK, REFINED, ORACLE])]
            parts.append(f"d = 2, K = {K} {_listed(rows)}")
            alone.append(_is_alone(rows, (NETWORK, REFINED)))
    lesson = "in every cell" if all(alone) else f"in {sum(alone)} of {len(alone)} cells"
    return (
        f"Mean ℓ2-error, in one dimension with means at least {value:g} standard deviations apart: {'; '.join(parts)}. "
        f"The network, with or without EM steps, is better than every other method {lesson} (intervals apart)."
    )


def _listed(rows: pd.DataFrame) -> str:
    """The methods of a cell with their means."""
    return ", ".join(f"{name_of(method)} {write_number(mean)}" for method, mean in rows["mean"].dropna().items())


def _is_alone(rows: pd.DataFrame, networks: tuple[str, ...]) -> bool:
    """Whether some network's interval lies below those of all others but the floors."""
    own = rows.loc[rows.index.isin(networks), "high"].min()
    others = rows[[not is_floor(method) and method not in networks for method in rows.index]]
    return own < others["low"].min()


def losses(table: pd.DataFrame, results: Path) -> str:
    """What the loss trades."""
    compared = table[~table["method"].isin([TRIVIAL, "bayes"])]
    means = compared.groupby(["method", "metric"], sort=False)["mean"].mean().unstack()
    base = means.loc[LOSS]
    told = [
        f"{name_of(method)} {row['mean_error'] / base['mean_error']:.2f} and "
        f"{row['weight_error'] / base['weight_error']:.2f}"
        for method, row in means.iterrows()
        if method != LOSS
    ]
    both = means[(means["mean_error"] < base["mean_error"]) & (means["weight_error"] < base["weight_error"])]
    better = [name_of(method) for method in both.index if method.startswith("tgmm-")]
    lesson = f"Better in both: {', '.join(better)}." if better else "No other loss is better in both."
    return (
        f"Errors of the means and of the weights as multiples of those of {name_of(LOSS)} "
        f"({write_number(base['mean_error'])} and {write_number(base['weight_error'])}), averaged over K at d = 8: "
        f"{', '.join(told)}. {lesson} Each is one training, and another seed moves these errors as well."
    )


def contaminated(table: pd.DataFrame, results: Path) -> str:
    """What training on contaminated tasks buys, and what it costs."""
    K = table["K"].max()
    clean = table[(table["shift"] == "outliers") & (table["shift_value"] == 0)]
    parts, better = [], []
    for words, shift, value in CONTAMINATIONS:
        rows = cell(table, K=K, shift=shift, shift_value=value)
        if {NETWORK, ROBUST, EM} <= set(rows.index):
            parts.append(f"{words} {_listed(rows.loc[[NETWORK, ROBUST, EM, ORACLE]])}")
            if rows.loc[ROBUST, "high"] < rows.loc[[NETWORK, EM], "low"].min():
                better.append(words)
    rows = cell(clean, K=K)
    cost = rows.loc[ROBUST, "mean"] / rows.loc[NETWORK, "mean"]
    return (
        f"Mean ℓ2-error at d = 8, K = {K}: {'; '.join(parts)}. On clean tasks the network of contaminated training has "
        f"{cost:.2f} times the error of the other one ({write_number(rows.loc[ROBUST, 'mean'])} and "
        f"{write_number(rows.loc[NETWORK, 'mean'])}). It is better than the other one and than ten-start EM (intervals "
        f"apart) with {' and '.join(better) or 'none of these'}."
    )


def rivals(table: pd.DataFrame, results: Path) -> str:
    """Who is on the frontier of error and time."""
    methods = [method for method in dict.fromkeys(table["method"]) if method != TRIVIAL]
    folders = [results / "scores" / f"effectiveness-d{d}" for d in sorted(set(table["d"]))]
    files = [folder / f"{method}.parquet" for folder in folders for method in methods]
    summary = summarise(read_scores(file for file in files if file.is_file()), resamples=1)  # means alone are told
    settings = {"taskset": "effectiveness", "metric": "l2_error", "methods": methods, "d": sorted(set(table["d"]))}
    points = costs(summary, settings)
    parts = []
    for d in settings["d"]:
        best = frontier(points[(points["d"] == d) & (points["K"] == SHOWN["K"])])
        told = [
            f"{name_of(row.method)} ({write_number(row.mean)}, {1e3 * row.seconds:.3g} ms)" for row in best.itertuples()
        ]
        parts.append(f"d = {d}: {', '.join(told)}")
    return f"No other method has both less ℓ2-error and less time a task, at K = {SHOWN['K']}, than {'; '.join(parts)}."


def payoff(table: pd.DataFrame, results: Path) -> str:
    """After how many tasks training has paid for itself."""
    parts = []
    for d in sorted(table["d"].unique()):
        told = []
        for row in table[table["d"] == d].itertuples():
            words = {PAYS: f"after {row.tasks_until_paid:,.0f} tasks", WORSE: "never (larger error)",
                     SLOWER: "never (slower)"}  # fmt: skip
            told.append(f"{name_of(row.method)} {words.get(row.outcome, 'undecided (errors too close)')}")
        parts.append(f"d = {d}: {', '.join(told)}")
    return (
        f"Against {name_of(table['rival'].iloc[0])}, at an error that is no larger and with this scale's budgets of "
        f"training: {'; '.join(parts)}."
    )


def depth(table: pd.DataFrame, results: Path) -> str:
    """What a block is worth in EM steps."""
    errors = table.set_index(["approach", "depth"])
    blocks = table[table["approach"] == BLOCKS]
    first, last = blocks["depth"].min(), blocks["depth"].max()
    own, em = errors.loc[(BLOCKS, last)], errors.loc[(STEPS, last)]
    trained = table[table["approach"] == TRAINED].sort_values("depth")
    others = ", ".join(f"{write_number(row.mean)} with {row.depth}" for row in trained.itertuples())
    lesson = ""
    if own["mean"] < em["mean"] and own["median"] > em["median"]:
        lesson = ": blocks leave the bad starts that EM stays in, and EM polishes the good ones"
    return (
        f"From the estimate after block {first} on, {last - first} more blocks take the mean error at "
        f"d = {own['d']:.0f} to {write_number(own['mean'])} and {last - first} EM steps to "
        f"{write_number(em['mean'])}; medians, {write_number(own['median'])} and "
        f"{write_number(em['median'])}{lesson}."
        + (f" Networks that were trained for one short budget end at {others} blocks." if others else "")
    )


def real_data(table: pd.DataFrame, results: Path) -> str:
    """How the network does on data that nobody drew from a mixture."""
    parts = []
    for name, rows in table.groupby("data", sort=False):
        own, rival = (rows.set_index("method").loc[method] for method in (NETWORK_FIT, "gmm-10"))
        index = "" if pd.isna(own["rand_index"]) else f", {own['rand_index']:.2f} and {rival['rand_index']:.2f}"
        parts.append(f"{NAMES[name]} {own['held_out']:.2f} and {rival['held_out']:.2f}{index}")
    return (
        "Nats a row that was left out, and adjusted Rand index where there are labels, of network + EM and of the best "
        f"of ten starts of scikit-learn's mixture, diagonal covariances: {'; '.join(parts)}."
    )


QUESTIONS: dict[str, tuple[str, Callable[[pd.DataFrame, Path], str]]] = {
    "How far is all this from the statistical floor?": ("tab-floor", floor),
    "How does the error fall with the number of points?": ("tab-sample-complexity", complexity),
    "What happens when components are close?": ("tab-separation", separation),
    "Is the network the only one left where K exceeds d?": ("tab-one-dimension", beyond_dimensions),
    "What does the loss trade?": ("tab-losses", losses),
    "Does training on contaminated tasks buy robustness?": ("tab-contaminated-training", contaminated),
    "Do other estimators do as well?": ("tab-rivals", rivals),
    "When has training paid for itself?": ("tab-payoff", payoff),
    "Is depth what iterations are?": ("tab-depth", depth),
    "What does it do on real data?": ("tab-real-data", real_data),
}


def find_answers(results: Path) -> dict[str, str]:
    """Every question with its answer.

    Parameters
    ----------
    results : the folder of a scale's results.
    """
    told = {}
    for question, (table, answer) in QUESTIONS.items():
        path = results / "tables" / f"{table}.csv"
        missing = f"`{table}` is not there: `snakemake -- reviewers`."
        told[question] = answer(pd.read_csv(path), results) if path.is_file() else missing
    return told


def answers(results: Path) -> list[str]:
    """The answers as lines of Markdown."""
    lines = [line for question, answer in find_answers(results).items() for line in (f"**{question}** {answer}", "")]
    return lines[:-1]


def write_answers(results: Path, out: Path) -> None:
    """The answers as JSON, question to sentence, for the supplement."""
    write_atomically(out, json.dumps(find_answers(results), indent=1, ensure_ascii=False) + "\n")
