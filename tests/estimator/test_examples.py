"""The examples run, and the wheel is whole: it fits a CSV in an environment of its own."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
from estimator_inputs import CASES

ROOT = Path(__file__).parents[2]


def run_example(*names):
    command = [sys.executable, str(ROOT / "examples" / "compare.py"), *names]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_examples_print_every_method():
    done = run_example("old-faithful", "galaxies")
    assert done.returncode == 0, done.stderr
    assert "old-faithful: 272 rows x 2 columns" in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith(("network, 4", "GaussianMixture, 10"))]
    scores = [float(line[28:].split()[0]) for line in rows]
    assert len(scores) == 4
    assert scores[0] > scores[1] - 0.2
    assert run_example("nothing").returncode == 2


@pytest.mark.slow
def test_all_examples_run():
    done = run_example()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("k-means") == 7


@pytest.mark.slow
def test_the_wheel_fits_a_table_in_an_environment_of_its_own(tmp_path):
    source = tmp_path / "source"  # a copy, for a build leaves files in its tree
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], check=True, capture_output=True, cwd=source)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    site = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True)
    # What it depends on comes from here; the package itself from the wheel alone.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    python = tmp_path / "env" / "bin" / "python"
    where = [python, "-c", "import tgmm; print(tgmm.__file__)"]
    found = subprocess.run(where, check=True, capture_output=True, text=True, env=clean, cwd=tmp_path).stdout
    assert Path(found.strip()).is_relative_to(site)
    out = tmp_path / "fit.json"
    fit = [python, "-m", "tgmm", "fit", CASES / "blobs.csv", "--k", "3", "--out", out]
    subprocess.run(fit, check=True, capture_output=True, env=clean, cwd=tmp_path)
    assert np.sort(json.loads(out.read_text())["weights"]) == pytest.approx([1 / 3] * 3, abs=0.05)
