"""How long a machine without a GPU would take to train: an estimate from the settings alone, without torch."""

from __future__ import annotations

from collections.abc import Iterable

MEAN_LENGTH = 0.75  # of the longest: lengths are uniform between half of it and all of it
FORWARD_AND_BACKWARD = 6  # floating-point operations for each multiply-add of the forward pass
CORE_RATE = 1.5e10  # floating-point operations a second that one core reaches in training
# Multiply-adds for each point and block, in units of width x width. Products of tokens with tokens are in it for the
# widths of the scales, so that the estimate is within a factor of two of what `tgmm.train.cost` counts.
PRODUCTS = {"components": 6.5, "set-encoder": 14.0, "gpt2": 14.0, "mamba2": 32.0, "mamba2-causal": 48.0}


def task_flops(settings: dict) -> float:
    """Floating-point operations that training spends on one task, from the settings of `tgmm train`."""
    network = settings["network"]
    products = PRODUCTS[network["kind"]] * network["width"] ** 2 * network["blocks"]
    return FORWARD_AND_BACKWARD * products * MEAN_LENGTH * settings["longest"]


def training_hours(families: Iterable[dict], cores: int) -> float:
    """Hours that so many cores need to train families, given the settings of each."""
    flops = sum(settings["training"]["tasks"] * task_flops(settings) for settings in families)
    return flops / (CORE_RATE * cores) / 3600


def in_words(hours: float) -> str:
    """A length of time with two digits at most: "9 hours", "12 days", "2.4 years"."""
    for unit, length in (("years", 365.25 * 24), ("days", 24.0)):
        if hours >= 2 * length:
            return f"{float(f'{hours / length:.2g}'):,g} {unit}"
    return f"{float(f'{hours:.2g}'):g} hours"
