"""`tgmm demo`: every method on one mixture, a picture and an animation that show it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tgmm.cli import app, register_commands
from tgmm.demo import EM_STEPS, LAST_FRAMES, NETWORK, REFINED, run_demo, table_lines, weighted_moments
from tgmm.errors import UserError

register_commands()


@pytest.fixture(scope="module")
def demo():
    return run_demo(2, 200, 1)


def test_methods_agree_with_their_names(demo):
    errors = {name: fit["error"] for name, fit in demo.fits.items() if "error" in fit}
    assert errors["sample mean"] > 10 * errors["EM from the truth"]
    assert errors[REFINED] < 3 * errors["EM from the truth"]
    assert errors[NETWORK] < errors["sample mean"] / 5
    assert list(demo.fits)[-1] == "EM from the truth"
    assert all(len(line) <= 80 for line in table_lines(demo))


def test_the_paths_end_where_the_methods_do(demo):
    assert len(demo.paths["em"]["steps"]) == EM_STEPS + 1
    assert demo.paths[NETWORK]["steps"][-1] == demo.fits[NETWORK]["components"]


def test_moments_of_hard_assignments_are_those_of_the_groups():
    points = torch.randn(1, 50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 3 == 0
    shares = torch.stack([labels, ~labels], 1).double()[None]
    mixture = weighted_moments(points, shares)
    for k, group in enumerate((points[0][labels], points[0][~labels])):
        assert mixture.weights[0, k].item() == pytest.approx(len(group) / 50)
        np.testing.assert_allclose(mixture.means[0, k], group.mean(0))
        np.testing.assert_allclose(mixture.standard_deviations[0, k], group.std(0, correction=0))


@pytest.mark.slow
def test_the_command_writes_a_picture_and_an_animation(tmp_path):
    result = CliRunner().invoke(app, ["demo", "--k", "2", "--points", "60", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert NETWORK in result.output
    with Image.open(tmp_path / "demo.png") as picture:
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert len(np.unique(colours, axis=0)) > 100
    with Image.open(tmp_path / "demo.gif") as film:
        assert EM_STEPS < film.n_frames <= EM_STEPS + 1 + LAST_FRAMES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.gif", "demo.png"]


def test_too_few_points_are_refused():
    with pytest.raises(UserError, match="--points: 5 are too few for 3 components; give 6 or more"):
        run_demo(3, 5, 0)
