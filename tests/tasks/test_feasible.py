"""Whether means fit within the cosine limit: the estimate against plain simulation, and refusals before any work."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from tgmm.errors import UserError
from tgmm.tasks import sampler
from tgmm.tasks.sampler import sample_mixtures
from tgmm.tasks.shifts import LOWEST_ACCEPTANCE, check_feasible, estimate_acceptance


def simulated_acceptance(dimension: int, n_components: int, draws: int = 100_000) -> float:
    means = np.random.default_rng(1).uniform(-5, 5, (draws, n_components, dimension))
    means /= np.linalg.norm(means, axis=-1, keepdims=True)
    cosines = means @ means.swapaxes(1, 2)
    cosines[:, range(n_components), range(n_components)] = -1
    return float((cosines.max((1, 2)) < 0.8).mean())


@pytest.mark.parametrize(
    ("dimension", "n_components"), [(1, 2), (2, 2), (2, 3), (2, 5), (2, 6), (3, 5), (3, 8), (5, 9), (8, 12)]
)
def test_the_estimate_is_that_of_plain_simulation(dimension, n_components):
    expected = simulated_acceptance(dimension, n_components)
    assert estimate_acceptance(dimension, n_components) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("dimension", [1, 2, 3, 8])
def test_more_components_fit_less_often_and_more_dimensions_more_often(dimension):
    shares = [estimate_acceptance(dimension, n_components) for n_components in (1, 2, 3, 5, 8)]
    assert shares[0] == 1.0
    assert all(later <= earlier for earlier, later in itertools.pairwise(shares))
    wider = [estimate_acceptance(2 * dimension, n_components) for n_components in (1, 2, 3, 5, 8)]
    assert all(wide >= narrow for wide, narrow in zip(wider, shares, strict=True))


@pytest.mark.parametrize(
    ("dimension", "n_components", "seen"),
    [
        (3, 60, "practically none"),
        (1, 3, "practically none"),
        (2, 8, "about [4-7]e-06"),
        (3, 13, "about .e-0[56]"),
    ],
)
def test_impossible_tasks_are_refused_at_once_with_the_acceptance_seen(dimension, n_components, seen):
    started = time.perf_counter()
    for refused in (check_feasible, lambda d, K: sample_mixtures(1, torch.arange(2), K, d)):
        with pytest.raises(UserError, match=f"d={dimension}, K={n_components}: {seen} of the random sets") as error:
            refused(dimension, n_components)
        assert "\n" not in str(error.value)
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("n_components", [1001, 10**12])
def test_absurd_numbers_of_components_are_refused_at_once(n_components):
    with pytest.raises(UserError, match="at most 1000 components"):
        check_feasible(8, n_components)


@pytest.mark.parametrize(("dimension", "n_components"), [(1, 2), (2, 7), (3, 10), (128, 5), (10**5, 20), (8, 40)])
def test_possible_tasks_pass_and_the_rarest_of_them_can_be_drawn(dimension, n_components):
    check_feasible(dimension, n_components)
    assert estimate_acceptance(min(dimension, 32), n_components) >= LOWEST_ACCEPTANCE
    if dimension < 4:
        assert sample_mixtures(1, torch.arange(3), n_components, dimension).means.abs().sum() > 0


def test_a_sampler_that_finds_nothing_gives_up_and_says_after_how_many_attempts(monkeypatch):
    monkeypatch.setattr(sampler, "MOST_ATTEMPTS", 1000)
    monkeypatch.setattr(sampler, "COSINE_LIMIT", -2.0)
    with pytest.raises(UserError, match=r"2 of 2 tasks found no means .* in 993 attempts"):
        sample_mixtures(1, torch.arange(2), 3, 2)


def test_the_check_needs_no_torch():
    code = "import sys; from tgmm.tasks import shifts; shifts.check_feasible(2, 5); "
    code += "print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
