"""Count the test cases behind every promise of docs/trust.md: `make trust` writes them into its tables."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/trust.md"
TEST = re.compile(r"`(tests/[\w/]+\.py::test_\w+)`")
COUNTED = re.compile(r"\d+ promises, \d+ cases; counted on [\d-]+")


def count_cases(tests: list[str]) -> Counter[str]:
    """Cases of each test, named as `tests/test_x.py::test_y`, as pytest collects them.

    Raises
    ------
    SystemExit : pytest's own words, where it does not find one of them.
    """
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *tests]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(result.stdout[-2000:] + result.stderr[-2000:])
    return Counter(line.partition("[")[0] for line in result.stdout.splitlines() if line.startswith("tests/"))


def with_counts(page: str, today: str) -> str:
    """The page with the number of cases at the end of every promise's row, and their sum."""
    rows = {line: TEST.findall(line) for line in page.splitlines() if line.startswith("| ") and TEST.search(line)}
    cases = count_cases(list(dict.fromkeys(test for tests in rows.values() for test in tests)))
    for line, tests in rows.items():
        promise, shown_by = line.strip("| ").split(" | ")[:2]
        page = page.replace(line, f"| {promise} | {shown_by} | {sum(cases[test] for test in tests)} |")
    return COUNTED.sub(f"{len(rows)} promises, {cases.total()} cases; counted on {today}", page)


if __name__ == "__main__":
    PAGE.write_text(with_counts(PAGE.read_text(encoding="utf-8"), f"{datetime.now(UTC):%Y-%m-%d}"), encoding="utf-8")
