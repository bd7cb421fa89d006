"""An invented recipe study in the format of the real one, to test what reads it. The numbers mean nothing."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd

from tgmm.ablation import COLUMNS

# change -> (ratio of its error to the baseline's, the same after EM steps, tasks as a multiple of the baseline's)
CHANGES = {
    "baseline": (1.0, 1.0, 1.0), "likelihood": (1.6, 1.05, 0.9), "both": (0.93, 0.9, 0.88),
    "unrolled-em": (0.9, 0.8, 0.7),
    "feedback": (0.97, 0.99, 0.95), "fourier": (0.82, 0.88, 0.99), "data-attention": (1.25, 1.15, 0.45),
    "no-axes": (1.04, 1.02, 1.02), "wider": (0.98, 0.97, 0.6), "narrower": (1.08, 1.06, 1.4),
    "deeper": (1.06, 1.0, 0.67), "shallower": (1.02, 1.05, 1.3), "more-heads": (1.01, 1.0, 0.9),
    "large-batch": (1.45, 1.3, 1.6), "small-batch": (1.15, 1.1, 0.7), "high-rate": (0.95, 0.96, 1.0),
    "low-rate": (1.35, 1.2, 1.0), "linear-schedule": (1.0, 1.01, 1.0), "constant-schedule": (1.5, 1.4, 1.0),
    "muon": (0.78, 0.85, 0.93),
}  # fmt: skip
LABELS = {
    "likelihood": "loss: likelihood", "both": "loss: matched + likelihood", "unrolled-em": "2 EM steps in the loss",
    "feedback": "estimate fed back", "fourier": "Fourier features", "data-attention": "points attend to points",
    "no-axes": "coordinates as they are", "wider": "width × 1.5", "narrower": "width × 0.75", "deeper": "blocks × 1.5",
    "shallower": "blocks × 0.75", "more-heads": "heads × 2", "large-batch": "batch × 4", "small-batch": "batch × 0.5",
    "high-rate": "learning rate × 2", "low-rate": "learning rate × 0.5", "linear-schedule": "linear decay",
    "constant-schedule": "no decay", "muon": "Muon",
}  # fmt: skip
SETTINGS = {
    "id": "fig-ablation", "kind": "ablation", "scale": "laptop", "recipe": "components", "covariance": "isotropic",
    "N": 128, "validation_tasks": 256, "changes": {name: LABELS.get(name, name) for name in CHANGES},
}  # fmt: skip


def ablation(dimensions=(2, 8), seeds=(1, 2, 3), changes=tuple(CHANGES), diverged=()) -> pd.DataFrame:
    """Rows of a whole study.

    Parameters
    ----------
    diverged : (dimension, change, seed) of the trainings that diverged.
    """
    parts = [
        _training(d, change, seed, (d, change, seed) in diverged)
        for d in dimensions for seed in seeds for change in changes
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True).astype({"tasks": "Int64", "parameters": "Int64"})[list(COLUMNS)]


def _training(d: int, change: str, seed: int, diverged: bool) -> pd.DataFrame:
    floor, restarts = (0.055, 0.098) if d == 2 else (0.034, 0.041)
    row = {"d": d, "change": change, "seed": seed, "validation_l2_error_oracle": floor, "diverged": diverged}
    if diverged:
        restarts_here = {"validation_l2_error_em_restarts": restarts}
        return pd.DataFrame([row | restarts_here]).reindex(columns=list(COLUMNS))
    plain, refined, share = CHANGES[change]
    rng = np.random.default_rng(zlib.crc32(f"{d}-{change}-{seed}".encode()))
    level = (0.32 if d == 2 else 0.42) * (1 + 0.06 * seed)
    tasks = np.arange(1, 9) * int(12000 * share / 8)
    progress = tasks / tasks[-1]
    error = level * plain * np.exp(0.05 * rng.standard_normal(8)) * progress**-1.3
    table = pd.DataFrame({"tasks": tasks, "processor_seconds": 36 * progress * (1 + 0.02 * rng.standard_normal())})
    table["seconds"], table["parameters"] = table["processor_seconds"] * 1.05, 350000
    table["validation_l2_error"] = np.maximum(error, floor)
    last = len(table) - 1
    table.loc[last, "validation_l2_error_em20"] = max(
        0.42 * level * refined * np.exp(0.06 * rng.standard_normal()), floor
    )
    table.loc[last, "validation_l2_error_em_restarts"] = restarts
    return table.assign(**row)
