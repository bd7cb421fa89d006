"""A version number is a promise: the same number, the same results."""

from __future__ import annotations

import json
import math

import pytest

import golden
from tgmm.versions import VERSIONS

TOLERANCE = 1e-4  # relative: processors differ in the last digits
RECORDED = golden.recorded()


def test_everything_that_has_a_number_is_run_and_recorded():
    assert set(golden.RUNS) == set(VERSIONS) == set(RECORDED)


@pytest.mark.parametrize("name", VERSIONS)
def test_results_are_those_recorded_under_the_number(name):
    entry = RECORDED[name]
    assert entry["version"] == VERSIONS[name], f"record it anew: python tests/golden.py {name}"
    found = json.loads(json.dumps(golden.RUNS[name]()))
    problem = difference(entry["values"], found)
    assert problem is None, (
        f"{name} computes other results than recorded under version {VERSIONS[name]} ({problem}): if that is meant, "
        f"raise VERSIONS['{name}'] in src/tgmm/versions.py and run `python tests/golden.py {name}`"
    )


def difference(expected, found, where: str = "") -> str | None:
    """Where two results differ by more than rounding; None where they agree."""
    if isinstance(expected, dict) and isinstance(found, dict):
        if set(expected) != set(found):
            return f"{where}: {sorted(set(expected) ^ set(found))}"
        pairs = [(f"{where}.{key}", expected[key], found[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return f"{where}: {len(found)} items, not {len(expected)}"
        pairs = [(f"{where}[{place}]", *pair) for place, pair in enumerate(zip(expected, found, strict=True))]
    elif isinstance(expected, float) or isinstance(found, float):
        close = math.isclose(expected, found, rel_tol=TOLERANCE, abs_tol=1e-5)
        return None if close else f"{where}: {found!r}, not {expected!r}"
    else:
        return None if expected == found else f"{where}: {found!r}, not {expected!r}"
    return next((problem for place, one, other in pairs if (problem := difference(one, other, place))), None)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.0 * (1 + 1e-6)]}, True),
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.001]}, False),
        ({"a": [1.0]}, {"a": [1.0, 2.0]}, False),
        ({"a": "x"}, {"a": "y"}, False),
        ({"a": 1}, {"b": 1}, False),
    ],
)
def test_what_counts_as_the_same(one, other, same):
    assert (difference(one, other) is None) == same
