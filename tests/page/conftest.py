"""A page of invented scores with real figures, tables and tasks in the plane, made once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from page_results import plane_tasks, write_results

from tgmm.page.build import build_page
from tgmm.plane import write_plane


@pytest.fixture(scope="session")
def page(tmp_path_factory) -> Path:
    """The page's file."""
    root = tmp_path_factory.mktemp("page")
    settings = write_results(root)
    write_plane(root / "results/laptop/plane.json", plane_tasks())
    out = root / "results/laptop/index.html"
    assert build_page(settings, root, out) == [
        "fig-late has not been made yet",
        "fig-paper is not made at scale laptop",
    ]
    return out


@pytest.fixture(scope="session")
def tasks(page) -> list[dict]:
    return json.loads((page.parent / "plane.json").read_text())
