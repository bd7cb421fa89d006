"""The settings of the networks: each kind's own, records of earlier versions, impossible values, and cost."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tgmm.errors import UserError
from tgmm.mixture import Mixture
from tgmm.models.settings import NETWORK_KINDS, NetworkSettings
from tgmm.tasks.stream import TaskBatch
from tgmm.train.trainer import training_flops

COMMON = {"kind", "dimension", "n_components", "covariance", "width", "blocks", "heads"}
OWN = {
    "components": {"axes", "fourier", "moments"}, "set-encoder": set(), "gpt2": {"positions"},
    "mamba2": {"state", "groups", "expand"}, "mamba2-causal": {"state", "groups", "expand"},
}  # fmt: skip


def read(kind: str = "components", **values) -> NetworkSettings:
    return NetworkSettings.from_dict({"kind": kind, "dimension": 2, **values})


def test_every_kind_has_its_own_settings_and_no_others():
    assert {kind: set(read(kind).to_dict()) - COMMON for kind in NETWORK_KINDS} == OWN
    for kind, others in ((kind, set().union(*OWN.values()) - own) for kind, own in OWN.items()):
        for name in others:
            with pytest.raises(UserError, match=rf"unknown key '{name}'.*\(valid: width"):
                read(kind, **{name: 2})


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_settings_survive_the_record(kind):
    settings = read(kind, n_components=[2, 4], covariance="anisotropic", width=24, heads=2)
    record = settings.to_dict()
    assert list(record)[:4] == ["kind", "dimension", "n_components", "covariance"]
    assert record["n_components"] == [2, 4]
    assert NetworkSettings.from_dict(record) == settings


@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_records_of_earlier_versions_are_read_where_what_has_left_did_nothing(kind):
    left = {"positions": 1024} | ({"feedback": False, "data_attention": False} if kind == "components" else {})
    assert read(kind, **left) == read(kind)


@pytest.mark.parametrize("left", [{"feedback": True}, {"data_attention": True}, {"positions": 128}], ids=str)
def test_what_has_left_is_refused_by_name_where_it_did_something(left):
    with pytest.raises(UserError, match=f"unknown key '{next(iter(left))}'"):
        read(**left)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "gpt-2"}, "unknown network kind 'gpt-2'; did you mean 'gpt2'"),
        ({"kind": None}, r"unknown network kind 'None' \(valid: components"),
        ({"width": 10}, "^network width 10 is not a multiple of its 4 heads$"),
        ({"widht": 8}, "unknown key 'widht'; did you mean 'width'"),
        ({"fourier": -1}, "'fourier' must be greater than or equal to 0, not -1"),
        ({"axes": 3}, r"^network axes must be 0 or at least K = 5 \(got 3\)$"),
        ({"width": 10**9}, "'width' must be less than or equal to 10000, not 1000000000"),
        ({"width": "wide"}, "'width' must be a valid integer"),
        ({"dimension": 0}, "'dimension' must be greater than or equal to 1, not 0"),
        ({"n_components": []}, "'n_components'"),
        ({"n_components": [3, 2]}, r"'n_components': every K once, and in increasing order \(got \[3, 2\]\)"),
        ({"covariance": "isotropc"}, "unknown value of 'covariance': 'isotropc'; did you mean 'isotropic'"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused_in_one_line(values, message):
    with pytest.raises(UserError, match=message) as error:
        read(**values)
    assert "\n" not in str(error.value)


def test_no_torch_is_needed_to_read_settings():
    program = "import sys, tgmm.models.settings, tgmm.train.settings; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", NETWORK_KINDS)
@pytest.mark.parametrize(("width", "blocks"), [(64, 4), (128, 12)])
def test_the_cost_is_within_a_factor_of_two_of_the_operations_that_run(kind, width, blocks, make_mixture):
    n_points = 96
    settings = NETWORK_KINDS[kind](dimension=8, width=width, blocks=blocks)
    torch.manual_seed(0)
    truth: Mixture = make_mixture(2, 5, 8)
    batch = TaskBatch(truth, torch.randn(2, n_points, 8), torch.tensor([5, 5]))
    assert 0.5 < settings.flops(n_points) / training_flops(settings.build(), batch, "matched") < 2.0
