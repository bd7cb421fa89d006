"""Invented scores in the format of the real ones, to test what reads them. The numbers mean nothing."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from tgmm.aggregate import SCORE_COLUMNS
from tgmm.columns import PROBE_COLUMNS

DIMENSIONS = (2, 8, 32, 128)
COMPONENTS = (2, 3, 4, 5)
# method -> (recipe, share of tasks in a bad local optimum at K=5, size of a bad error, factor of the floor)
METHODS = {
    "em": ("", 0.45, 3.5, 1.0),
    "em-restarts": ("", 0.015, 2.5, 1.0),
    "em-oracle": ("", 0.0, 0.0, 1.0),
    "spectral": ("", 0.02, 3.0, 1.15),
    "tgmm-components": ("components", 0.03, 1.5, 2.5),
    "tgmm-components-em20": ("components", 0.025, 1.5, 1.05),
    "tgmm-matched": ("matched", 0.2, 2.0, 12.0),
    "tgmm-reference": ("reference", 0.7, 4.0, 40.0),
}
# Methods of the further task sets.
ALL_METHODS = METHODS | {
    "sample-mean": ("", 0.0, 0.0, 300.0),
    "em-restarts-standardised": ("", 0.015, 2.5, 1.0),
    "tgmm-components-standardised": ("components", 0.03, 1.5, 2.6),
    "tgmm-components-n64": ("components", 0.03, 1.5, 3.5),
    "tgmm-components-n32": ("components", 0.04, 1.5, 5.0),
    "tgmm-mamba2": ("matched-mamba2", 0.25, 2.0, 15.0),
    "tgmm-mamba2-causal": ("matched-mamba2-causal", 0.3, 2.0, 20.0),
}
TRAINED_AT = {"tgmm-components-n32": 32, "tgmm-components-n64": 64}
UNTRAINED = {("tgmm-matched", 32), ("tgmm-matched", 128), ("tgmm-reference", 32), ("tgmm-reference", 128)}
TOO_MANY_COMPONENTS = "K exceeds d: the spectral method needs K <= d"


def method_scores(
    method: str, dimensions=DIMENSIONS, components=COMPONENTS, tasks=64, scale="laptop", taskset="effectiveness",
    covariance="isotropic", points=(128,), shifts=(),
) -> pd.DataFrame:  # fmt: skip
    """Scores of one method over its cells, heavy-tailed like those of local-optimum methods.

    Parameters
    ----------
    shifts : ``{"kind": ..., "values": [...]}`` each, as in the configuration; none stands for unshifted tasks.
    """
    conditions = [(shift["kind"], float(value)) for shift in shifts for value in shift["values"]] or [("none", 0.0)]
    cells = [
        _cell(method, d, count, tasks, covariance, number, *condition)
        for d in dimensions
        if (method, d) not in UNTRAINED
        for count in components
        for number in points
        for condition in conditions
    ]
    scores = pd.concat(cells, ignore_index=True)
    constants = {"scale": scale, "taskset": taskset, "covariance": covariance, "seed": 2505}
    return scores.assign(method=method, recipe=ALL_METHODS[method][0], **constants)[SCORE_COLUMNS]


def _cell(method: str, d: int, count: int, tasks: int, covariance: str, points: int, shift: str, value: float):
    recipe, bad_share, bad_size, factor = ALL_METHODS[method]
    key = "" if (points, shift) == (128, "none") else f"-n{points}-{shift}{value:g}"
    rng = np.random.default_rng(zlib.crc32(f"{method}-{d}-{count}{key}".encode()))
    floor = 0.008 * count * (1 + 0.5 * (d == 2)) * np.exp(0.3 * rng.standard_normal(tasks)) * 128 / points
    bad = rng.random(tasks) < bad_share * (count - 2 + 0.02) / 3
    error = floor * factor + bad * bad_size * rng.exponential(size=tasks)
    error = error + _damage(method, shift, value) * (1 + 0.2 * rng.standard_normal(tasks)) ** 2
    failed = np.full(tasks, method == "spectral" and (count > d or covariance == "anisotropic"))
    entropy = -1.42 * d - 0.9
    dropped = (rng.random(tasks) < 0.02 * factor) & (factor > 5)
    table = pd.DataFrame({"d": d, "K": count, "N": points, "task_id": np.arange(tasks)})
    table["family"] = f"{covariance}-d{d}-n{TRAINED_AT.get(method, 128)}-{recipe}" if recipe else ""
    table = table.assign(
        shift=shift, shift_value=value,
        mean_error=0.98 * error, weight_error=0.02 * error, l2_error=error, l2_error_reference=2.5 * error,
        scale_error=0.3 * error if covariance == "anisotropic" else np.nan, weight_cross_entropy=1.1 + 0.1 * error,
        accuracy=np.exp(-0.15 * error) - 0.02,
        log_likelihood=entropy + 0.05 - error, log_likelihood_heldout=entropy - 0.05 - error,
        log_likelihood_reference=np.where(dropped, -150.0, -0.2 - 0.3 * error), dropped_reference=dropped.astype(float),
    )  # fmt: skip
    if shift == "wrong-k" and value:
        table[["l2_error_reference", "log_likelihood_reference", "dropped_reference"]] = np.nan
    table.loc[failed, "mean_error":"dropped_reference"] = np.nan
    table["seconds"], table["iterations"] = 1e-3 * rng.exponential(size=tasks), rng.integers(5, 90, tasks)
    return table.assign(failed=failed, failure_reason=np.where(failed, TOO_MANY_COMPONENTS, ""))


def _damage(method: str, shift: str, value: float) -> float:
    """The error that a shift adds: networks mind the units most, all mind outliers and a wrong K."""
    if method == "em-oracle" or shift == "none":
        return 0.0
    native = method.startswith("tgmm") and not method.endswith("standardised")
    sizes = {
        "mean": lambda: 0.02 * value**1.5 * (3 if native else 1),
        "smallest-weight": lambda: 0.002 / value,
        "location": lambda: 0.4 * value * native,
        "scale": lambda: 2.0 * abs(np.log2(value)) * native,
        "student-t": lambda: 0.3 / value,
        "outliers": lambda: 15.0 * value,
        "wrong-k": lambda: 1.5 * abs(value),
    }
    return sizes[shift]()


def write_scores(folder: Path, methods=tuple(METHODS), **options) -> list[Path]:
    """One file a method under ``folder``, as the scoring command writes them."""
    paths = []
    for method in methods:
        path = folder / f"{method}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        method_scores(method, **options).to_parquet(path, index=False)
        paths.append(path)
    return paths


def trained_on(families) -> dict[str, dict]:
    """What the study says of families of these names."""
    parts = {family: family.split("-", 3) for family in families}
    return {
        family: {"covariance": covariance, "d": int(d[1:]), "N": int(N[1:]), "recipe": recipe}
        for family, (covariance, d, N, recipe) in parts.items()
    }


def history(family: str, rows: int = 200) -> pd.DataFrame:
    """A training history with a validation every tenth row.

    A recipe may end in ``-w50-b150``: per cent of width 64 and of 4 blocks; small networks learn less.
    """
    rng = np.random.default_rng(zlib.crc32(family.encode()))
    step = np.arange(1, rows + 1) * 5
    recipe, *shares = family.split("-", 3)[3].split("-")
    slow = {"components": 0.9, "matched": 0.45, "reference": 0.2}[recipe]
    width, blocks = (
        max(1, size * int(share[1:]) // 100) for size, share in zip((64, 4), shares or ("w100", "b100"), strict=True)
    )
    parameters = 12 * blocks * width**2 + 40 * width
    slow *= 1 + 0.05 * np.log(parameters / 2e5) * bool(shares)
    error = 17.0 * (1 + step / 15.0) ** -slow * np.exp(0.05 * rng.standard_normal(rows))
    table = pd.DataFrame({"step": step, "tasks": step * 32, "seconds": step * 0.14, "learning_rate": 1e-3})
    table["processor_seconds"] = step * 0.13
    table["mean_loss"], table["weight_loss"], table["loss"] = error, 1.2, error + 1.2
    table = table.assign(flops=table.tasks * 600.0 * parameters, parameters=parameters, width=width, blocks=blocks)
    validated = np.arange(1, rows + 1) % 10 == 0
    table["validation_l2_error"] = np.where(validated, error, np.nan)
    table["validation_l2_error_oracle"] = np.where(validated, 0.05 if "-d2-" in family else 0.034, np.nan)
    for count in COMPONENTS:
        table[f"validation_l2_error_k{count}"] = table["validation_l2_error"] * count / 3.5
    return table


def write_model(folder: Path, family: str) -> Path:
    """A model's folder without its weights: ``history.csv`` and ``config.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    record = history(family)
    record.to_csv(folder / "history.csv", index=False)
    covariance, dimension, points, recipe = family.split("-")
    settings = {"family": family, "covariance": covariance, "recipe": recipe, "dimension": int(dimension[1:])}
    settings |= {"longest": int(points[1:]), "network": {"kind": recipe, "width": 64, "blocks": 4, "heads": 4}}
    settings |= {"training": {"batch": 32, "learning_rate": 2e-3}, "seed": 2505, "scale": "laptop"}
    last = record.dropna().iloc[-1]
    note = {"steps": 1000, "tasks_seen": 32000, "wall_seconds": 141.2, "processor_seconds": 140.1, "device": "cpu"}
    note |= {"parameters": 412345}
    note |= {"validation_l2_error": last.validation_l2_error, "seed": 2505, "versions": {"torch": "2.13.0"}}
    note["validation_l2_error_oracle"] = last.validation_l2_error_oracle
    text = json.dumps({"family": family, "format": 1, "settings": settings, "record": note})
    (folder / "config.json").write_text(text)
    return folder


def write_theory(folder: Path) -> Path:
    """Invented measurements of the theorems, and real sizes of the smallest networks."""
    from tgmm.theory.power import network_sizes

    folder.mkdir(parents=True, exist_ok=True)
    common = {"N": 128, "n_tasks": 1, "seed": 2505}
    rows = [
        {"mixtures": kind, "d": d, "K": 2, "W": width, "copies": 8, "exact": exact, "L": steps, **common}
        for kind in ("separated", "overlapping")
        for d in (2, 8)
        for width in (512, 1024)
        for exact in (False, True)
        for steps in (1, 20)
    ]
    em = pd.DataFrame(rows)
    error = np.where(em.exact, 3e-15, 40.0 / em.W.astype(float) ** 2)
    em.assign(median=error, largest=2 * error).to_csv(folder / "em.csv", index=False)
    kinds = {"iteration": ("network", "network without offset"), "recovery": ("classical", "network")}
    kinds |= {"decomposition": ("network",), "spectral": ("network",)}
    power = pd.DataFrame(
        {
            "measure": measure,
            "method": method,
            "d": d,
            "K": 2,
            "iteration": step,
            "largest": 4e-15 + method.endswith("t"),
        }
        for measure, methods in kinds.items()
        for method in methods
        for d in (2, 4)
        for step in (range(3) if measure == "recovery" else [None])
    )
    power["largest"] = np.where(power.method == "network without offset", 1.0, 4e-15)
    power.assign(median=power.largest, **common).to_csv(folder / "power.csv", index=False)
    network_sizes(dimensions=(2,), component_counts=(2,), steps=(1, 5)).to_csv(folder / "sizes.csv", index=False)
    return folder


def probe_table(dimension: int) -> pd.DataFrame:
    """Every row of a probed family that the figure may ask for, with made-up numbers."""
    wanted = [("probe_means_r2", v, "truth", range(5)) for v in ("trained", "untrained")]
    wanted += [("probe_weights_r2", v, "truth", range(5)) for v in ("trained", "untrained")]
    wanted += [("l2_error", "network", "truth", range(1, 5)), ("l2_error", "em", "truth", range(1, 22))]
    wanted += [("l2_error", "oracle", "truth", [0])]
    wanted += [("scatter_correlation", v, "own", range(1, 4)) for v in ("trained", "untrained")]
    wanted += [("gather_correlation", v, "own", range(1, 5)) for v in ("trained", "untrained")]
    wanted += [("update_cosine", "network", reference, range(2, 5)) for reference in ("em", "em beside truth")]
    rows = [
        {"quantity": quantity, "variant": variant, "reference": reference, "layer": layer, "K": K,
         "mean": 0.1 * K / (1 + layer), "median": 0.09 * K / (1 + layer)}
        for quantity, variant, reference, layers in wanted for layer in layers for K in (2, 3, 4, 5)
    ]  # fmt: skip
    common = {"scale": "laptop", "family": f"isotropic-d{dimension}-n128-components", "covariance": "isotropic"}
    common |= {"d": dimension, "N": 128, "seed": 2505, "head": 0, "best": True, "n_tasks": 256}
    table = pd.DataFrame(rows).assign(**common)
    return table.assign(low=table["mean"] - 0.01, high=table["mean"] + 0.01)[list(PROBE_COLUMNS)]
