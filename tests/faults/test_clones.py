"""Two clones on one machine, one with one core and one with two, end with the same task sets, networks and scores."""

from __future__ import annotations

import pandas as pd
import pytest
from small_study import SCALE, fingerprints, small_study, start

TOLERANCE = 1e-6  # relative, of scores; on one kind of processor they have been the same bits so far
PATIENCE = 3600  # seconds for a command, on a machine that does much other work

pytestmark = pytest.mark.slow


def test_one_and_two_cores_give_the_same_results(tmp_path):
    clones = [small_study(tmp_path / f"cores-{cores}") for cores in (1, 2)]
    for cores, clone in enumerate(clones, start=1):
        process = start(clone, ("snakemake", "--cores", str(cores), "--resources", "gpu=1"))
        assert process.wait(PATIENCE) == 0, (clone.folder / "output.log").read_text()[-3000:]
    first, second = map(fingerprints, clones)
    assert first.keys() == second.keys()
    same_bits = [name for name in first if name.startswith(("tasks/", "models/"))]
    assert {name: first[name] for name in same_bits} == {name: second[name] for name in same_bits}
    scores = [name for name in first if name.startswith("scores/")]
    assert scores
    for name in scores:
        tables = [pd.read_parquet(clone.folder / "results" / SCALE / name) for clone in clones]
        one, two = (table.drop(columns="seconds") for table in tables)
        pd.testing.assert_frame_equal(one, two, rtol=TOLERANCE, atol=0)
