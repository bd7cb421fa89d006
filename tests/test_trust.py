"""docs/trust.md promises nothing without a test, and its limits are the code's."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/trust.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| ")]
PROMISES = [row for row in ROWS if "::" in row[-1]]
LIMITS = [re.fullmatch(r".*`([\w.]+)\.([A-Z_]+)`", row[0]) for row in ROWS]
LIMITS = {found.groups(): row[1] for found, row in zip(LIMITS, ROWS, strict=True) if found}


def test_every_row_is_a_promise_with_tests_or_a_limit():
    heads = {"Promise", "Limit"}
    assert all(len(row) == 2 for row in ROWS)
    assert len(PROMISES) + len(LIMITS) == len([row for row in ROWS if row[0] not in heads])
    assert len(PROMISES) >= 20


@pytest.mark.parametrize("promise", PROMISES, ids=[row[0][:50] for row in PROMISES])
def test_the_tests_of_a_promise_exist(promise):
    for name in promise[1].split(", "):
        file, function = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", name).groups()
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


@pytest.mark.parametrize("limit", LIMITS, ids=".".join)
def test_a_limit_is_that_of_the_code(limit):
    module, name = limit
    assert f"{getattr(importlib.import_module(f'tgmm.{module}'), name):,}" == LIMITS[limit]
