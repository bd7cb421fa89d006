"""The counter-based random numbers against published vectors, scipy and the properties that the samplers rely on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from tgmm.counter_random import (
    _exact_sqrt,
    derive_seed,
    inverse_normal_cdf,
    philox,
    random_normal,
    random_uniform,
    random_words,
    softplus,
)

# From kat_vectors of Random123 (Salmon et al. 2011): counter, key, result of Philox4x32-10.
KNOWN_ANSWERS = {
    "zeros": ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    "ones": ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    "pi": ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
}


def words(text: str) -> tuple[int, ...]:
    return tuple(int(word, 16) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS.values(), ids=KNOWN_ANSWERS)
def test_philox_gives_the_published_vectors(counter, key, answer):
    result = philox(tuple(torch.tensor(word) for word in words(counter)), words(key))
    assert tuple(int(word) for word in result) == words(answer)


def test_counter_is_position_attempt_stream_and_index_under_the_seed():
    seed, stream, index, attempt = 0x299F31D0A4093822, 0x85, 0x0370734413198A2E, 0xA308D3
    expected = philox(
        (torch.tensor(0), torch.tensor(0x85A308D3), torch.tensor(0x13198A2E), torch.tensor(0x03707344)),
        (0xA4093822, 0x299F31D0),
    )
    drawn = random_words(seed, stream, torch.tensor([index]), 4, attempt)
    assert drawn.tolist() == [[int(word) for word in expected]]


def test_inverse_normal_cdf_agrees_with_scipy():
    middle = np.linspace(1e-6, 1 - 1e-6, 200_001)
    tail = 2.0 ** np.linspace(-33, -2, 5_001)
    probability = np.concatenate([middle, tail, 1 - tail])
    ours, theirs = inverse_normal_cdf(torch.from_numpy(probability)).numpy(), special.ndtri(probability)
    np.testing.assert_allclose(ours, theirs, rtol=2e-14, atol=1e-15)


def test_inverse_normal_cdf_is_finite_at_the_extreme_words():
    extremes = (torch.tensor([0.0, 2.0**32 - 1], dtype=torch.float64) + 0.5) * 2.0**-32
    assert ((extremes > 0) & (extremes < 1)).all()
    low, high = inverse_normal_cdf(extremes).tolist()
    assert low == -high
    assert 6.0 < high < 7.0


def rounded_root(towards: float | None):
    """A root for torch that is numpy's, the processor's correctly rounded one, or its neighbour."""

    def root(tensor: torch.Tensor) -> torch.Tensor:
        exact = np.sqrt(tensor.numpy())
        return torch.from_numpy(exact if towards is None else np.nextafter(exact, towards))

    return root


@pytest.mark.parametrize("towards", [None, 0.0, np.inf], ids=["exact", "a bit low", "a bit high"])
def test_roots_are_correctly_rounded_whatever_the_last_bit_of_torchs(monkeypatch, towards):
    edges = np.array([1.0, 2.25, 4.0, 9.0, 16.0])
    numbers = np.concatenate([24 * np.random.default_rng(0).random(200_000) + 0.6, edges, np.nextafter(edges, 0)])
    numbers = np.concatenate([numbers, np.nextafter(edges, np.inf)])
    monkeypatch.setattr(torch, "sqrt", rounded_root(towards))
    np.testing.assert_array_equal(_exact_sqrt(torch.from_numpy(numbers)).numpy(), np.sqrt(numbers))


def test_normals_do_not_depend_on_the_last_bit_of_torchs_root(monkeypatch):
    plain = random_normal(5, 1, torch.arange(50), 2000)
    for towards in (None, 0.0, np.inf):
        monkeypatch.setattr(torch, "sqrt", rounded_root(towards))
        assert torch.equal(random_normal(5, 1, torch.arange(50), 2000), plain)


def test_softplus_agrees_with_numpy_and_does_not_depend_on_its_neighbours():
    argument = torch.linspace(-1, 1, 10_001, dtype=torch.float64)
    np.testing.assert_allclose(softplus(argument).numpy(), np.log1p(np.exp(argument.numpy())), rtol=1e-15)
    for start in (1, 2, 3, 9_999):
        assert torch.equal(softplus(argument[start:]), softplus(argument)[start:])


def test_uniform_numbers_are_uniform_and_uncorrelated():
    drawn = random_uniform(11, 0, torch.arange(500), 200).numpy()
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    assert stats.kstest(drawn[:, 0], "uniform").pvalue > 1e-3
    for first, second in ((drawn[:, :-1], drawn[:, 1:]), (drawn[:-1], drawn[1:])):
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 4 / np.sqrt(first.size)


def test_normal_numbers_are_standard_normal():
    drawn = random_normal(12, 3, torch.arange(500), 200).numpy().ravel()
    assert stats.kstest(drawn, "norm").pvalue > 1e-3


@given(
    seed=st.integers(0, 2**63 - 1), stream=st.integers(0, 255), index=st.integers(0, 2**62),
    attempt=st.integers(0, 2**24 - 1), short=st.integers(1, 20), more=st.integers(0, 20),
)  # fmt: skip
def test_first_words_do_not_depend_on_the_count(seed, stream, index, attempt, short, more):
    tasks = torch.tensor([index])
    few, many = (random_words(seed, stream, tasks, count, attempt) for count in (short, short + more))
    assert torch.equal(few, many[:, :short])
    assert ((many >= 0) & (many < 2**32)).all()


@given(seed=st.integers(0, 2**63 - 1), order=st.permutations(range(12)), cut=st.integers(1, 11))
def test_a_task_does_not_depend_on_its_batch(seed, order, cut):
    whole = random_words(seed, 2, torch.arange(12), 7)
    order = torch.tensor(order)
    pieces = torch.cat([random_words(seed, 2, part, 7) for part in (order[:cut], order[cut:])])
    assert torch.equal(pieces, whole[order])


def test_streams_attempts_tasks_and_seeds_share_no_numbers():
    tasks = torch.arange(40)
    draws = [
        random_words(seed, stream, tasks, 8, attempt)
        for seed in (1, 2, 1 << 40)
        for stream in (0, 1, 255)
        for attempt in (0, 1, 2**24 - 1)
    ]
    draws.append(random_words(1, 0, tasks + 2**32, 8))
    pairs = torch.stack(draws).unflatten(-1, (4, 2)).flatten(0, -2)
    assert len(pairs.unique(dim=0)) == len(pairs)


def test_attempts_together_equal_attempts_one_by_one():
    tasks, attempts = torch.arange(5), torch.arange(9)
    together = random_uniform(3, 1, tasks[:, None], 6, attempts)
    for attempt in range(9):
        assert torch.equal(together[:, attempt], random_uniform(3, 1, tasks, 6, attempt))


def test_derived_seeds_fit_the_key_and_differ_by_name():
    names = [(2505, "test", "effectiveness", d, k) for d in (2, 8, 32, 128) for k in (2, 3, 4, 5)]
    seeds = {derive_seed(*name) for name in names}
    assert len(seeds) == len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed("a", "b") == derive_seed("a", "b") != derive_seed("b", "a")


@pytest.mark.gpu
def test_cuda_gives_the_same_bits():
    tasks = torch.arange(1000)
    here, there = random_normal(5, 1, tasks, 100), random_normal(5, 1, tasks.cuda(), 100)
    assert torch.equal(here, there.cpu())
