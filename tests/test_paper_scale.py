"""The driver for lent machines, rehearsed at toy size: stopped, brought home in pieces, gone on from, collected."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from tgmm.errors import UserError
from tgmm.models.checkpoint import load_checkpoint
from tgmm.study import load_study
from tgmm.train.family import train_family
from tgmm.train.settings import TrainingSettings

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import call_results  # noqa: E402
import half_precision  # noqa: E402
import paper_scale  # noqa: E402
from pieces import read_pieces, write_pieces  # noqa: E402
from queue_file import CALLS_HEADER, HEADER, Call, Queue, Row  # noqa: E402

CPU = torch.device("cpu")
BATCH = 8
SHORT, LONG = "isotropic-d2-n12-short", "isotropic-d2-n12-long"
STEPS = {SHORT: 4, LONG: 300}
MISSING = ("snakemake", "dvc", "yaml", "jsonschema", "matplotlib", "seaborn", "sklearn", "typst", "transformers")
BARE = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({MISSING}))
sys.path.insert(0, "benchmarks")
runpy.run_path("benchmarks/paper_scale.py", run_name="__main__")
"""


def settings(family: str) -> dict:
    return {
        "family": family, "covariance": "isotropic", "dimension": 2, "n_components": [2, 3], "longest": 12,
        "recipe": "components", "network": {"kind": "components", "width": 8, "blocks": 1, "heads": 2},
        "loss": "matched", "validation_tasks": 6, "seed": 5, "scale": "toy",
        "training": {"tasks": BATCH * STEPS[family], "batch": BATCH, "learning_rate": 5e-3, "validate_every": 800},
    }  # fmt: skip


def write_queue(path: Path, families: list[str]) -> None:
    rows = "".join(f"{Row(family).line()}\n" for family in families)
    path.write_text(f"Text before.\n\n{HEADER}\n{'|---' * 6}|\n{rows}\nBetween.\n\n{CALLS_HEADER}\n{'|---' * 5}|\n")


class Machine:
    """A folder with states and models of its own, as a machine has that is lent for one call."""

    def __init__(self, folder: Path, home: Path):
        self.folder, self.home = folder, home

    def options(self, *options: object) -> list[str]:
        where = {"settings": self.home / "settings.json", "queue": self.home / "queue.md", "device": "cpu"}
        where |= {"models": self.folder / "models", "work": self.folder / "work"}
        return [*(str(part) for name, value in where.items() for part in (f"--{name}", value)), *map(str, options)]

    def run(self, *options: object):
        app = typer.Typer()
        app.command()(paper_scale.main)
        return CliRunner().invoke(app, self.options(*options))


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory) -> tuple[Path, str]:
    """A home with settings and queue, the pieces of a call that a signal ended, and what the call printed."""
    home = tmp_path_factory.mktemp("home")
    (home / "settings.json").write_text(json.dumps({family: settings(family) for family in (SHORT, LONG)}))
    write_queue(home / "queue.md", [SHORT, LONG])
    machine = Machine(tmp_path_factory.mktemp("first"), home)
    process = subprocess.Popen(
        [sys.executable, "-c", BARE, *machine.options("--minutes", 5, "--out", home / "pack", "--together", 1)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    lines = iter(process.stderr.readline, "")
    said = next((line for line in lines if line.startswith(f"{LONG}: ")), "nothing of the long family")
    process.terminate()
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, said + errors
    return home, printed


@pytest.fixture
def home(rehearsal, tmp_path) -> Path:
    """The home, its queue as it was."""
    write_queue(rehearsal[0] / "queue.md", [SHORT, LONG])
    return rehearsal[0]


def table(printed: str) -> dict[str, list[str]]:
    """Cells of the printed table by family."""
    rows = [line.split() for line in printed.splitlines()]
    return {row[0]: row[1:] for row in rows if row and row[0] in STEPS}


# --- a call and what becomes of it ---


def test_a_bare_machine_trains_and_prints_a_row_for_every_family(rehearsal):
    rows = table(rehearsal[1])
    assert list(rows) == [SHORT, LONG]
    state, tasks, speed, error, oracle, minutes = rows[SHORT]
    assert (state, tasks) == ("done", str(BATCH * STEPS[SHORT]))
    assert float(error) > float(oracle) > 0
    assert float(speed.replace(",", "")) > 0
    assert float(minutes) >= 0
    assert rows[LONG][0] == "begun"
    assert 0 < int(rows[LONG][1].replace(",", "")) < BATCH * STEPS[LONG]
    assert re.search(r"\d minutes, [\d,]+ tasks/s in all, call \d{4}-\d\d-\d\dT", rehearsal[1])


def test_a_pack_is_few_small_files_and_holds_the_model_and_the_state(home):
    files = list((home / "pack").iterdir())
    assert len(files) <= 5
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", file.name) and file.stat().st_size < 16 << 20 for file in files)
    names = list(read_pieces(home / "pack")[0])
    assert names[:3] == [f"models/{SHORT}/{name}" for name in ("history.csv", "model.safetensors", "config.json")]
    assert [name.split("/")[:2] for name in names[3:]] == [["work", LONG]]


def test_training_goes_on_from_the_pieces_and_ends_with_the_same_bits(home, tmp_path):
    second = Machine(tmp_path / "second", home)
    again = second.run("--minutes", 0.005, "--resume", home / "pack", "--out", tmp_path / "pack")
    assert again.exit_code == 0, again.output
    assert table(again.output)[LONG][0] == "begun"  # 0.3 seconds do not finish it
    third = Machine(tmp_path / "third", home)
    last = third.run("--minutes", 5, "--resume", tmp_path / "pack", "--out", tmp_path / "final")
    assert last.exit_code == 0, last.output
    assert [row[0] for row in table(last.output).values()] == ["done", "done"]
    train_family(TrainingSettings.from_dict(settings(LONG)), tmp_path / "whole", tmp_path / "w", CPU)
    whole, parts = (folder / "model.safetensors" for folder in (tmp_path / "whole", third.folder / "models" / LONG))
    assert parts.read_bytes() == whole.read_bytes()


def test_collecting_puts_everything_in_its_place_and_counts_a_call_once(home, tmp_path):
    here = Machine(tmp_path, home)
    for _ in range(2):
        result = here.run("--collect", home / "pack", "--update-queue")
        assert result.exit_code == 0, result.output
    queue = Queue(home / "queue.md")
    short, long = queue.rows[SHORT], queue.rows[LONG]
    checkpoint = load_checkpoint(tmp_path / "models" / SHORT)
    record = checkpoint.record["record"]
    assert (short.state, short.tasks) == ("done", record["tasks_seen"])
    assert (short.error, short.oracle) == (
        pytest.approx(record["validation_l2_error"], abs=1e-4),
        pytest.approx(record["validation_l2_error_oracle"], abs=1e-4),
    )
    assert long.state == "begun"
    assert long.tasks == int(table(result.output)[LONG][1].replace(",", ""))
    assert len(queue.calls) == 1
    call = read_pieces(home / "pack")[1]["call"]
    assert short.minutes + long.minutes == pytest.approx(call["minutes"], abs=0.011)
    assert list((tmp_path / "work" / LONG).glob("*/state-*"))
    text = (home / "queue.md").read_text()
    assert text.startswith("Text before.\n\n| family |")
    assert "\nBetween.\n" in text


def test_a_state_cut_short_counts_as_little_as_it_does_for_the_trainer(home, tmp_path):
    machine = Machine(tmp_path, home)
    machine.run("--collect", home / "pack", "--update-queue")
    (sound,) = (tmp_path / "work" / LONG).glob("*/state-*")
    expected = table(machine.run("--minutes", 0).output)[LONG]
    (sound.parent / f"state-999999999-{'0' * 16}.safetensors").write_bytes(sound.read_bytes()[:-100])
    result = machine.run("--minutes", 0)
    assert result.exit_code == 0, result.exception
    assert table(result.output)[LONG] == expected


def test_done_families_are_not_taken_from_the_queue_again(home, tmp_path):
    Machine(tmp_path, home).run("--collect", home / "pack", "--update-queue")
    result = Machine(tmp_path, home).run("--minutes", 0)
    assert list(table(result.output)) == [LONG]


def test_without_minutes_nothing_is_trained(home, tmp_path):
    result = Machine(tmp_path, home).run("--minutes", 0)
    assert result.exit_code == 0
    assert {row[0] for row in table(result.output).values()} == {"queued"}


def test_what_does_not_fit_is_named_and_models_come_before_states(home, tmp_path):
    here = Machine(tmp_path, home)
    here.run("--collect", home / "pack")
    files = read_pieces(home / "pack")[0]
    model = sum(len(content) for name, content in files.items() if name.startswith("models/"))
    room = (model + 2000) / (1 << 20)
    result = here.run(
        "--minutes", 0, "--families", f"{LONG},{SHORT}", "--out", tmp_path / "pack", "--room", room, "--update-queue"
    )
    assert re.search(rf"^{LONG} .*state left behind: [\d.]+ MiB, 0\.0 MiB of room$", result.output, re.MULTILINE)
    assert {name.split("/")[0] for name in read_pieces(tmp_path / "pack")[0]} == {"models"}
    rows = Queue(home / "queue.md").rows
    assert (rows[SHORT].state, rows[LONG].state) == ("done", "queued")


def test_a_family_that_cannot_be_packed_does_not_keep_the_others(home, tmp_path):
    here = Machine(tmp_path, home)
    here.run("--collect", home / "pack")
    (tmp_path / "models" / SHORT / "model.safetensors").write_bytes(b"damaged")
    result = here.run("--minutes", 0, "--out", tmp_path / "pack")
    assert re.search(rf"^{SHORT} .*model left behind: UserError: .*SHA-256", result.output, re.MULTILINE)
    assert [name.split("/")[1] for name in read_pieces(tmp_path / "pack")[0]] == [LONG]


def test_a_crash_brings_home_what_was_reached(home, tmp_path, monkeypatch):
    def crash(*_):
        raise MemoryError("full")

    monkeypatch.setattr("tgmm.train.side_by_side.train_side_by_side", crash)
    here = Machine(tmp_path, home)
    result = here.run("--minutes", 1, "--resume", home / "pack", "--out", tmp_path / "pack")
    assert result.exit_code == 1
    assert set(read_pieces(tmp_path / "pack")[0]) == set(read_pieces(home / "pack")[0])


def test_a_diverging_family_is_named_and_the_exit_code_says_so(home, tmp_path):
    values = settings(SHORT)
    values["training"]["learning_rate"] = 1e30
    (tmp_path / "settings.json").write_text(json.dumps({SHORT: values}))
    write_queue(tmp_path / "queue.md", [SHORT])
    result = Machine(tmp_path, tmp_path).run("--minutes", 1)
    assert result.exit_code == 2
    assert re.search(rf"^{SHORT} .*learning rate 1\.00e\+30", result.output, re.MULTILINE)


# --- refusals ---


def test_foreign_families_are_refused_by_name(home, tmp_path):
    result = Machine(tmp_path, home).run("--families", "isotropic-d2-n12-shrt")
    assert re.search(rf"queue\.md: 'isotropic-d2-n12-shrt'; did you mean '{SHORT}'", str(result.exception))
    write_queue(tmp_path / "queue.md", [LONG])
    (tmp_path / "settings.json").write_bytes((home / "settings.json").read_bytes())
    result = Machine(tmp_path, tmp_path).run("--collect", home / "pack")
    assert isinstance(result.exception, UserError)
    assert SHORT in str(result.exception)
    assert not (tmp_path / "models").exists()


def test_a_model_of_other_settings_is_not_collected(home, tmp_path):
    (tmp_path / "settings.json").write_bytes((home / "settings.json").read_bytes())
    write_queue(tmp_path / "queue.md", [SHORT, LONG])
    result = Machine(tmp_path, tmp_path).run("--collect", home / "pack", "--tasks", 80)
    assert f"{SHORT} was trained with other settings" in str(result.exception)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "pack-0.bin").unlink(), r"pack-0\.bin: this piece cannot be read \(No such file"),
        (
            lambda folder: (folder / "pack-1.bin").write_bytes(b"x"),
            r"pack-1\.bin: this piece is damaged \(1 of 3 bytes",
        ),
        (lambda folder: (folder / "pack.json").unlink(), r"pack\.json: cannot be read \(No such file"),
        (lambda folder: (folder / "pack.json").write_text("{"), r"pack\.json: damaged: not a list of pieces"),
    ],
    ids=["missing", "truncated", "no list", "broken list"],
)
def test_missing_and_damaged_pieces_are_named_in_one_line(tmp_path, damage, message):
    write_pieces(tmp_path, {"a/b.bin": b"12345", "c.txt": b""}, {}, piece_bytes=2)
    write_pieces(tmp_path, {"a/b.bin": b"12345", "c.txt": b"678"}, {"n": 1}, piece_bytes=3)
    assert read_pieces(tmp_path) == ({"a/b.bin": b"12345", "c.txt": b"678"}, {"n": 1})
    assert sorted(path.name for path in tmp_path.iterdir()) == [*(f"pack-{n}.bin" for n in range(3)), "pack.json"]
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        read_pieces(tmp_path)
    assert "\n" not in str(error.value)


def test_a_pack_writes_nowhere_but_in_its_places(tmp_path):
    write_pieces(tmp_path, {"../outside": b"1"}, {})
    with pytest.raises(UserError, match=r"damaged: '\.\./outside'"):
        read_pieces(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda text: text.replace("queued", "waiting"),
            r"line 5 is no row of the queue \(state 'waiting'",
        ),
        (lambda text: text.replace(" 0.00 |", " |"), r"line 5 is no row of the queue"),
        (lambda text: text.replace(HEADER, ""), r"lacks the table that begins with '\| family"),
    ],
    ids=["state", "cells", "table"],
)
def test_a_queue_that_cannot_be_understood_is_refused_with_its_line(tmp_path, edit, message):
    write_queue(tmp_path / "queue.md", [SHORT])
    (tmp_path / "queue.md").write_text(edit((tmp_path / "queue.md").read_text()))
    with pytest.raises(UserError, match=message):
        Queue(tmp_path / "queue.md")


# --- parts ---


def test_an_earlier_call_adds_its_minutes_and_leaves_later_rows_alone(tmp_path):
    write_queue(tmp_path / "queue.md", [SHORT])
    queue = Queue(tmp_path / "queue.md")
    progress = paper_scale_progress("done", 32)
    results = [call_results.Result(SHORT, "f", progress, minutes=1.0)]
    paper_scale.update_queue(queue, results, Call("2025-02-01", "gpu", 1.0, 1, 9.0), None)
    older = [replace(results[0], progress=paper_scale_progress("done", 16), minutes=0.5)]
    paper_scale.update_queue(queue, older, Call("2025-01-01", "gpu", 0.5, 1, 9.0), None)
    assert Queue(tmp_path / "queue.md").rows[SHORT] == Row(SHORT, "done", 32, 0.5, 0.25, 1.5)


def paper_scale_progress(state: str, tasks: int):
    from workplace import Progress

    return Progress(state, tasks, 1.0, 0.5, 0.25)


def test_half_precision_is_kept_only_where_three_digits_agree(rehearsal, tmp_path, monkeypatch):
    train_family(TrainingSettings.from_dict(settings(SHORT)), tmp_path / "out", tmp_path / "work", CPU)
    files = half_precision.half_model(tmp_path / "out", CPU)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    half, full = load_checkpoint(tmp_path), load_checkpoint(tmp_path / "out")
    assert half.record["record"]["weights"] == "float16"
    assert len(files["model.safetensors"]) < 0.75 * (tmp_path / "out" / "model.safetensors").stat().st_size
    for name, value in full.network.state_dict().items():
        assert torch.equal(half.network.state_dict()[name], value.half().float())
    assert half_precision.agree({2: 1.0}, {2: 1.0004})
    assert not half_precision.agree({2: 1.0, 3: 1.0}, {2: 1.0, 3: 1.001})
    assert not half_precision.agree({2: 1.0}, {2: float("nan")})
    monkeypatch.setattr(half_precision, "AGREEMENT", -1.0)
    assert (
        half_precision.half_model(tmp_path / "out", CPU)["model.safetensors"]
        == (tmp_path / "out" / "model.safetensors").read_bytes()
    )


def test_the_queue_names_the_families_of_the_papers_scale():
    queue = Queue(ROOT / "benchmarks" / "paper_scale.md")
    assert sorted(queue.rows) == sorted(load_study(ROOT / "config.yaml", "paper").families)
    assert list(queue.rows)[:4] == [f"isotropic-d{d}-n128-components" for d in (8, 2, 32, 128)]


def test_exported_settings_are_those_of_the_study(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    app = typer.Typer()
    app.command()(paper_scale.main)
    result = CliRunner().invoke(app, ["--export-settings", str(tmp_path / "all.json")])
    assert result.exit_code == 0, result.output
    study = load_study(ROOT / "config.yaml", "paper")
    exported = json.loads((tmp_path / "all.json").read_text())
    assert exported == {family: study.train_settings(family) for family in study.families}
