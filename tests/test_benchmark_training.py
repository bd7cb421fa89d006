"""The benchmark of training at toy size: its numbers parse and are what they are called."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tgmm.errors import UserError

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
TOY = ["--width", "8", "--blocks", "2", "--heads", "2", "--batch", "4", "--points", "16", "--d", "2", "--threads", "1"]
NUMBER = r"([\d.]+)"
SPREAD = rf"{NUMBER} \({NUMBER}-{NUMBER}\)"
ROW = re.compile(rf"^(\S.*?) +{SPREAD} +{SPREAD} +{NUMBER} +{NUMBER} +{NUMBER} %$", re.MULTILINE)
LOSS = re.compile(
    rf"^(\S+) +loss after (\d+) tasks: plain attention {NUMBER}, fused attention {NUMBER}, "
    r"relative difference ([-+.e\d]+); with first weights off by 1e-07: ([-+.e\d]+)$",
    re.MULTILINE,
)
CONTESTANTS = ["plain loop", "components", "matched", "reference"]


@pytest.fixture(scope="module")
def output() -> str:
    """What the script prints, run as a user runs it from the repository's root."""
    command = [sys.executable, "benchmarks/training.py", *TOY, "--seconds", "0.05", "--rounds", "3", "--device", "cpu"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def benchmark(monkeypatch):
    """The script's command, called in this process."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.chdir(ROOT)
    import training

    app = typer.Typer()
    app.command()(training.main)
    return lambda *arguments: CliRunner().invoke(app, [*TOY, "--device", "cpu", *arguments])


def test_every_contestant_has_a_line_of_positive_numbers(output):
    rows = {row[0]: [float(number) for number in row[1:]] for row in ROW.findall(output)}
    assert list(rows) == CONTESTANTS
    for name, (speed, slowest, fastest, ratio, least, most, task_mflop, *_) in rows.items():
        assert 0 < slowest <= speed <= fastest, name
        assert 0 < least <= ratio <= most, name
        assert task_mflop > 0
    assert rows["plain loop"][3:6] == [1.0, 1.0, 1.0]


def test_achieved_operations_are_the_speed_times_the_cost_of_a_task(output):
    rate = float(re.search(rf"^matrix products in float32: {NUMBER} GFLOP/s$", output, re.MULTILINE)[1])
    assert rate > 0
    for _, speed, *_, mflop, gflop, share in ROW.findall(output):
        assert float(gflop) == pytest.approx(float(speed) * float(mflop) / 1e3, rel=0.1, abs=2e-3)
        assert float(share) == pytest.approx(100 * float(gflop) / rate, rel=0.2, abs=0.02)


def test_the_plain_loop_and_the_reference_do_the_same_work(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from plain_loop import PlainNetwork
    from tgmm.models.settings import GPT2Network
    from tgmm.tasks.stream import TaskStream
    from tgmm.train.trainer import count_parameters, training_flops

    settings = GPT2Network(dimension=2, n_components=(2, 3), width=16, blocks=2, heads=2, positions=16)
    plain, ours = PlainNetwork(settings), settings.build()
    assert plain.backbone.config._attn_implementation == "eager"
    assert count_parameters(plain) == count_parameters(ours) + settings.width  # GPT-2's vocabulary of one word
    batch = TaskStream(1, 4, dimension=2, covariance="isotropic", n_components=(2, 3), n_points=16).batch(0)
    assert training_flops(plain, batch, "sorted") == pytest.approx(training_flops(ours, batch, "sorted"), rel=0.01)


def test_plain_and_fused_attention_end_with_the_same_loss(benchmark):
    result = benchmark("--losses", "160", "--recipes", "components,matched")
    assert result.exit_code == 0, result.exception
    rows = LOSS.findall(result.output)
    assert [row[0] for row in rows] == ["components", "matched"]
    for _, tasks, plain, fused, difference, disturbed in rows:
        assert tasks == "160"
        assert float(plain) > 0
        assert float(fused) == pytest.approx(float(plain), rel=1e-3)
        assert float(difference) == pytest.approx(float(fused) / float(plain) - 1, abs=2e-6)
        assert 0 < abs(float(disturbed)) < 1e-3


def test_plain_attention_is_another_computation_than_fused_attention(monkeypatch):
    """Else the comparison of losses would compare nothing."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    def operations(*backend):
        query = torch.randn(2, 2, 8, 4, requires_grad=True)
        with torch.profiler.profile() as profile, sdpa_kernel(*backend):
            scaled_dot_product_attention(query, query, query)
        return {event.key for event in profile.key_averages()}

    fused, plain = operations(list(SDPBackend.__members__.values())), operations(SDPBackend.MATH)
    assert any("flash_attention" in name for name in fused)
    assert not any("flash_attention" in name for name in plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipes", "matchd"], r"unknown recipe 'matchd'; did you mean 'matched'\?"),
        (["--loss", "sort"], r"unknown loss 'sort'; did you mean 'sorted'\?"),
        (["--heads", "3"], "width 8 is not a multiple of its 3 heads"),
    ],
)
def test_wrong_options_are_refused_by_name(benchmark, arguments, message):
    result = benchmark(*arguments)
    assert isinstance(result.exception, UserError)
    assert re.search(message, str(result.exception))
