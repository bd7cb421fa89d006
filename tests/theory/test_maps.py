"""Piecewise-linear maps: where they are exact, how fast the rest of the error falls, where they are off."""

from __future__ import annotations

import itertools

import pytest
import torch

from tgmm.theory.blocks import LOG_ZERO, HiddenUnits, chord_half_square, chord_logarithm, chord_logit, largest_even


@pytest.mark.parametrize(
    ("chords", "function", "top"), [(chord_logarithm, torch.log, 1.0), (chord_logit, torch.logit, 0.5)]
)
def test_logarithms(chords, function, top):
    argument = torch.linspace(0.01, top, 4001, dtype=torch.float64)
    errors = [(chords(n_units)(argument) - function(argument)).abs().max() for n_units in (100, 200, 400)]
    assert errors[2] < 1e-3
    assert all(3.0 < before / after < 5.0 for before, after in itertools.pairwise(errors))
    ends = chords(50)(torch.tensor([0.0, top, 1.0, 7.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([LOG_ZERO, 0.0, 0.0, 0.0], dtype=torch.float64))


def test_the_errors_of_the_logarithm_average_to_nothing():
    argument = torch.linspace(0.2, 1.0, 100001, dtype=torch.float64)
    errors = chord_logarithm(100)(argument) - argument.log()
    assert errors.mean().abs() < 0.03 * errors.abs().max()


def test_half_square():
    radius, n_units = 3.0, 60
    function = chord_half_square(n_units, radius)
    knots = torch.linspace(-radius, radius, n_units + 1, dtype=torch.float64)
    torch.testing.assert_close(function(knots), -0.5 * knots**2, rtol=0.0, atol=1e-13)
    between = torch.linspace(-radius, radius, 5001, dtype=torch.float64)
    errors = (function(between) + 0.5 * between**2).abs()
    assert errors.max() == pytest.approx((2 * radius / n_units) ** 2 / 8, rel=1e-3)


def test_hidden_units_make_linear_maps_exactly():
    units = HiddenUnits(3)
    units.add_linear({0: 1.0, 1: -2.0}, {2: 1.0})
    tokens = torch.randn(2, 4, 3, dtype=torch.float64)
    update = units.build(5)(tokens)
    torch.testing.assert_close(update[..., 2], tokens[..., 0] - 2.0 * tokens[..., 1])
    assert not update[..., :2].any()


def test_largest_even():
    assert [largest_even(number) for number in (4, 5, 5.9, 6.1)] == [4, 4, 4, 6]
