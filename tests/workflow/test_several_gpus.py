"""Several GPUs on one machine: `--resources gpu=N` trains N families at once, each on a device of its own."""

from __future__ import annotations

import json
import sys

import pytest

from tgmm.study import load_study

# In the place of `tgmm train`: the lease is the real one, the two devices are not.
TRAIN = """#!{python}
import json, os, sys, time
from pathlib import Path
from tgmm import devices

devices.count_gpus = lambda: 2
devices.resolve_device = lambda device: device
out = Path(sys.argv[sys.argv.index("--out") + 1])
with devices.lease_device("cuda"):
    begin, device = time.time(), os.environ["CUDA_VISIBLE_DEVICES"]
    time.sleep(3)
    entry = {{"family": sys.argv[2], "device": device, "begin": begin, "end": time.time()}}
with open("trainings.jsonl", "a") as file:
    file.write(json.dumps(entry) + "\\n")
out.mkdir(parents=True, exist_ok=True)
for name in ("model.safetensors", "config.json", "history.csv"):
    (out / name).write_text(entry["family"])
"""


@pytest.mark.slow
def test_two_families_train_at_once_on_two_devices(project):
    (project.folder / "bin/tgmm").write_text(TRAIN.format(python=sys.executable))
    families = list(load_study(project.folder / "config.yaml").families)[:4]
    targets = [f"results/laptop/models/{family}/model.safetensors" for family in families]
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        project.environment.pop(name, None)
    options = ["--cores", "4", "--resources", "gpu=2", "--config", "device=cuda"]
    result = project.command("snakemake", *options, "--", *targets, TMPDIR=str(project.folder))
    assert result.returncode == 0, result.stderr
    trainings = [json.loads(line) for line in (project.folder / "trainings.jsonl").read_text().splitlines()]
    assert {training["family"] for training in trainings} == set(families)
    assert {training["device"] for training in trainings} == {"0", "1"}
    assert most_at_once(trainings) == 2
    for device in "01":
        assert most_at_once([training for training in trainings if training["device"] == device]) == 1


def most_at_once(trainings: list[dict]) -> int:
    """Trainings that were at work at the same moment, at most."""
    return max(sum(other["begin"] <= one["begin"] < other["end"] for other in trainings) for one in trainings)
