"""docs/trust.md promises nothing without a test, and its limits are the code's."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from count_promises import COUNTED, with_counts

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/trust.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| ")]
PROMISES = [row for row in ROWS if "::" in row[1]]
LIMITS = [re.fullmatch(r".*`([\w.]+)\.([A-Z_]+)`", row[0]) for row in ROWS]
LIMITS = {found.groups(): row[1] for found, row in zip(LIMITS, ROWS, strict=True) if found}


def test_every_row_is_a_promise_with_tests_or_a_limit():
    heads = {"Promise", "Limit"}
    assert all(len(row) == (3 if row in PROMISES or row[0] == "Promise" else 2) for row in ROWS)
    assert len(PROMISES) + len(LIMITS) == len([row for row in ROWS if row[0] not in heads])
    assert len(PROMISES) >= 20


@pytest.mark.slow
def test_the_tests_of_every_promise_are_there_and_counted():
    day = COUNTED.search(PAGE).group().split()[-1]
    assert with_counts(PAGE, day) == PAGE, "`make trust` counts again"


@pytest.mark.parametrize("limit", LIMITS, ids=".".join)
def test_a_limit_is_that_of_the_code(limit):
    module, name = limit
    assert f"{getattr(importlib.import_module(f'tgmm.{module}'), name):,}" == LIMITS[limit]
