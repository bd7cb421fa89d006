"""`tgmm status`: what it says of every state of a family, of damage, and that no trainer notices it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from tgmm.cli import app, register_commands
from tgmm.cli import status as command
from tgmm.config import read_config
from tgmm.errors import UserError
from tgmm.files import is_locked
from tgmm.study import Study, load_study
from tgmm.train import lease, state
from tgmm.train.family import train_family
from tgmm.train.lease import exclusive
from tgmm.train.progress import TrainingProgress
from tgmm.train.settings import TrainingSettings
from tgmm.train.status import FamilyStatus, StudyStatus, read_state, recent_speed, still_learning, validations
from tgmm.versions import VERSIONS

ROOT = Path(__file__).resolve().parents[2]
FIRST, SECOND = "isotropic-d2-n12-components", "isotropic-d3-n12-components"
CONFIG = """
scale: smoke
families: [{covariance: isotropic, d: [2, 3], N: 12, recipe: components}]
networks: {components: {width: 8, blocks: 1, heads: 2, axes: 0}}
training: {components: {tasks: 44, batch: 8, validate_every: 8}}
validation_tasks: 6
trained: []
"""
STEPS = 6  # 44 tasks, rounded up to whole batches
register_commands()


def make_study(folder: Path, config: str = CONFIG) -> Study:
    """A study of two toy families in a folder of its own."""
    recipes = read_config(ROOT / "config.yaml")["recipes"]
    (folder / "config.yaml").write_text(config + yaml.safe_dump({"recipes": recipes}))
    if not (folder / "workflow").exists():
        (folder / "workflow").symlink_to(ROOT / "workflow")
    return load_study(folder / "config.yaml")


def train(study: Study, family: str = FIRST, max_minutes: float = 0.0) -> str:
    """Train for a while; without any minutes it ends after one step."""
    settings = TrainingSettings.from_dict(study.train_settings(family))
    models = Path(study.results) / "models"
    return train_family(settings, models / family, Path("work"), torch.device("cpu"), max_minutes).kind


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder in which the first family has taken two steps in two calls."""
    folder = tmp_path_factory.mktemp("trained")
    study, before = make_study(folder), Path.cwd()
    os.chdir(folder)
    try:
        assert [train(study), train(study)] == ["budget", "budget"]
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def study(trained, tmp_path, monkeypatch) -> Study:
    """The study in a copy of that folder, which is now the working directory."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True, symlinks=True)
    monkeypatch.chdir(tmp_path)
    return load_study("config.yaml")


def status(study: Study, family: str = FIRST) -> FamilyStatus:
    return next(item for item in StudyStatus(study, Path("work")).read() if item.family == family)


def newest(family: str = FIRST) -> Path:
    return max(Path("work").glob(f"{family}/*/state-*.safetensors"), key=lambda path: path.name)


def test_a_family_that_nobody_has_begun_is_queued(study):
    assert status(study, SECOND) == FamilyStatus(SECOND, "queued", steps=STEPS, total_tasks=8 * STEPS)


def test_a_left_state_is_a_stopped_family_with_its_numbers(study):
    row = state.restore_state(newest().parent, *_trainer_parts(study)).history[-1]
    left = newest().stat().st_mtime
    shown = status(study)
    assert (shown.state, shown.step, shown.steps, shown.tasks, shown.note) == ("stopped", 2, STEPS, 16, None)
    assert shown.validation_l2_error == row["validation_l2_error"] > 0
    assert shown.validation_l2_error_oracle == row["validation_l2_error_oracle"] > 0
    assert shown.tasks_per_second is None
    assert shown.state_age == pytest.approx(time.time() - left, abs=5)


def _trainer_parts(study: Study):
    from tgmm.train.trainer import Trainer

    trainer = Trainer(TrainingSettings.from_dict(study.train_settings(FIRST)), Path("unused"))
    return trainer.network, trainer.optimizer


def test_a_trainer_at_work_is_seen_and_its_result_finished(study, monkeypatch):
    seen = []
    monkeypatch.setattr("tgmm.train.trainer.STATE_SECONDS", -1.0)  # a state after every step
    monkeypatch.setattr(TrainingProgress, "step", lambda self, done, loss: seen.append(status(study)))
    assert train(study, max_minutes=9.0) == "finished"
    assert {item.state for item in seen} == {"training"}
    assert [item.step for item in seen] == [2, 3, 4, 5]  # the state before the step that has just been taken
    assert all(item.tasks_per_second > 0 and item.seconds_left >= 0 for item in seen)
    record = json.loads((Path(study.results) / "models" / FIRST / "config.json").read_text())["record"]
    shown = status(study)
    assert (shown.state, shown.step, shown.tasks, shown.state_age) == ("finished", STEPS, 8 * STEPS, None)
    assert shown.validation_l2_error == record["validation_l2_error"]


def test_a_trainer_without_a_state_yet_is_training(study):
    fingerprint = TrainingSettings.from_dict(study.train_settings(SECOND)).fingerprint()
    with exclusive(Path("work") / SECOND / fingerprint):
        shown = status(study, SECOND)
    assert (shown.state, shown.step, shown.tasks_per_second, shown.seconds_left) == ("training", 0, None, None)
    assert status(study, SECOND).state == "queued"


def test_totals_are_those_of_the_trainer():
    for scale in ("smoke", "laptop", "paper"):
        study = load_study(ROOT / "config.yaml", scale)
        for item in StudyStatus(study, Path("nowhere")).read():
            budget = TrainingSettings.from_dict(study.train_settings(item.family)).training
            assert (item.steps, item.total_tasks) == (budget.steps, budget.steps * budget.batch)


def test_speed_is_that_of_the_last_minute_of_training():
    history = [{"tasks": 100 * row, "seconds": 50.0 * row} for row in range(1, 11)]  # 2 tasks a second
    assert recent_speed(1300, 520.0, history) == (1300 - 900) / 70.0
    assert recent_speed(40, 10.0, []) == 4.0
    assert recent_speed(0, 0.0, []) is None


# --- other settings ---


def test_states_and_trainers_of_other_settings_do_not_count(study, tmp_path):
    held = newest().parent
    edited = make_study(tmp_path, CONFIG.replace("tasks: 44", "tasks: 80"))
    assert status(edited) == FamilyStatus(FIRST, "queued", steps=10, total_tasks=80)
    with exclusive(held):
        assert (status(edited).state, status(edited).note) == ("queued", "training with other settings")
        assert status(study).state == "training"


def test_a_model_of_other_settings_or_code_is_queued_again_and_named(study, tmp_path, monkeypatch):
    train(study, max_minutes=9.0)
    edited = make_study(tmp_path, CONFIG.replace("tasks: 44", "tasks: 80"))
    assert (status(edited).state, status(edited).note) == ("queued", "model of other settings")
    assert status(study).state == "finished"
    monkeypatch.setitem(VERSIONS, "training:components", 99)
    assert (status(study).state, status(study).note) == ("queued", "model of other settings")


# --- damage ---


def header_of(content: bytes, edit) -> bytes:
    """A state whose header has been edited as parsed JSON."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


DAMAGES = {
    "empty": lambda content: b"",
    "no safetensors": lambda content: b"not a state at all",
    "half a header": lambda content: content[:200],
    "half the tensors": lambda content: content[: len(content) * 3 // 4],
    "an endless header": lambda content: (1 << 62).to_bytes(8, "little") + content[8:],
    "binary header": lambda content: content[:8] + b"\xff" * (len(content) - 8),
    "no record": lambda content: header_of(content, lambda header: header.pop("__metadata__")),
    "a list for a record": lambda content: header_of(content, lambda h: h["__metadata__"].update(record="[1, 2]")),
    "an empty record": lambda content: header_of(content, lambda header: header["__metadata__"].update(record="{}")),
    "words for a step": lambda content: header_of(
        content, lambda h: h["__metadata__"].update(record='{"step": "two", "history": [], "seconds": 1.0}')
    ),
    "no tensors": lambda content: header_of(content, lambda h: [h.pop(name) for name in [*h] if name[:2] != "__"]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_state_is_shown_with_the_one_before_and_the_others(study, damage):
    path = newest()
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    shown = status(study)
    assert (shown.state, shown.note, shown.step) == ("damaged", "newest state damaged", 1)
    assert status(study, SECOND).state == "queued"
    with exclusive(path.parent):
        assert (status(study).state, status(study).note) == ("training", "newest state damaged")


def test_no_flipped_bit_of_a_header_breaks_the_table(study):
    path, draw = newest(), random.Random(0)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    seen = set()
    for _ in range(300):
        flipped = bytearray(content)
        flipped[draw.randrange(8 + length)] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        shown = status(study)
        assert len(command.plain_lines([shown])) == 2
        seen.add(shown.state)
    assert seen == {"stopped", "damaged"}  # a flipped digit of a loss is not noticed


def test_a_family_without_one_readable_state_is_damaged(study):
    for path in newest().parent.glob("state-*"):
        path.write_bytes(b"")
    shown = status(study)
    assert (shown.state, shown.step, shown.validation_l2_error) == ("damaged", 0, None)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"record": {"steps": 6}}', '{"record": 7}'])
def test_a_damaged_record_of_a_model_is_shown(study, content):
    for family, steps in ((FIRST, 2), (SECOND, 0)):
        folder = Path(study.results) / "models" / family
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(content)
        shown = status(study, family)
        assert (shown.state, shown.note, shown.step) == ("damaged", "config.json damaged", steps)


def test_a_state_that_its_trainer_replaces_meanwhile_is_no_damage(study, monkeypatch):
    vanished = newest().name

    def read(path: Path, batch: int):
        if path.name == vanished:
            path.unlink()
        return read_state(path, batch)

    monkeypatch.setattr("tgmm.train.status.read_state", read)
    assert (status(study).state, status(study).step, status(study).note) == ("stopped", 1, None)


def test_temporary_and_foreign_files_are_passed_over(study):
    folder = newest().parent
    for name in (".state-000000009-0123456789abcdef.safetensors.x.tmp", "state-foreign.safetensors", "notes.txt"):
        (folder / name).write_bytes(b"not a state")
    (folder.parent / "a file beside").write_text("")
    assert (status(study).state, status(study).step) == ("stopped", 2)


def test_a_work_folder_that_cannot_be_read_is_refused_by_name(study, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=rf"work/{FIRST}: cannot be read \(Permission denied\)"):
        status(study)


def test_a_file_in_the_place_of_a_work_folder_holds_no_states(study):
    Path(f"work/{SECOND}").write_text("")
    assert status(study, SECOND).state == "queued"


def test_tensors_stay_unread(study):
    content = newest().read_bytes()
    length = int.from_bytes(content[:8], "little")
    newest().write_bytes(content[: 8 + length] + b"\xff" * (len(content) - 8 - length))
    assert (status(study).state, status(study).step) == ("stopped", 2)


# --- locks ---


def test_probing_takes_no_lock_away_and_makes_no_file(tmp_path):
    assert not is_locked(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()
    with exclusive(tmp_path):
        assert [is_locked(tmp_path / "lock") for _ in range(3)] == [True] * 3
        assert (tmp_path / "lock").read_text() == str(os.getpid())
    assert not is_locked(tmp_path / "lock")
    with (tmp_path / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nothing is left behind


def test_a_trainer_that_meets_a_probe_enters_at_its_next_poll(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.05)
    (tmp_path / "lock").write_text("")
    handle = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)  # a probe, stopped in the middle
    threading.Timer(0.1, os.close, [handle]).start()
    lines: list[str] = []
    with exclusive(tmp_path, lines.append):
        assert is_locked(tmp_path / "lock")
    assert len(lines) == 1


def test_many_probes_keep_no_trainer_out(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.01)
    ended, seen, holders = threading.Event(), [], []

    def probe():
        while not ended.is_set():
            seen.append(is_locked(tmp_path / "lock"))
            time.sleep(0.001)

    prober = threading.Thread(target=probe)
    prober.start()
    started = time.monotonic()
    try:
        while len(holders) < 50 and time.monotonic() < started + 30:
            with exclusive(tmp_path, lambda line: None):
                holders.append((tmp_path / "lock").read_text())
                time.sleep(0.002)
    finally:
        ended.set()
        prober.join(10)
    assert holders == [str(os.getpid())] * 50
    assert True in seen


# --- the command ---


def test_plain_lines_are_aligned_and_what_trains_stands_first(study):
    with exclusive(newest().parent):
        result = CliRunner().invoke(app, ["status"])
    assert result.exit_code == 0, result.output
    header, first, second = result.output.splitlines()
    assert header.split() == ["family", "state", "steps", "tasks", "error/oracle", "tasks/s", "left", "age", "note"]
    assert first.split()[:4] == [FIRST, "training", f"2/{STEPS}", "16"]
    assert second.split() == [SECOND, "queued", f"0/{STEPS}", "0", "–", "–", "–", "–"]
    assert {line.index(word) for line, word in ((header, "state"), (first, "training"), (second, "queued"))} == {
        header.index("state")
    }


def test_json_is_complete_and_in_the_order_of_the_study(study):
    result = CliRunner().invoke(app, ["status", "--json", "--scale", "smoke"])
    values = json.loads(result.output)
    assert values["scale"] == "smoke"
    assert [item["family"] for item in values["families"]] == [FIRST, SECOND]
    assert values["families"][0]["step"] == 2
    assert set(values["families"][0]) == set(FamilyStatus.__dataclass_fields__)


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_fits_its_terminal_and_cuts_no_number_off(study, width):
    newest().write_bytes(b"")
    console = Console(width=width, force_terminal=True, color_system=None, record=True, file=io.StringIO())
    console.print(command._table(StudyStatus(study, Path("work"))))
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for word in ("smoke: 1 damaged, 1 queued", f"1/{STEPS}", f"newest state damaged: {FIRST}", " age"):
        assert word in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0, "0 s"), (119.4, "119 s"), (125, "2.1 min"), (3000, "50 min"), (9000, "2.5 h"), (4e5, "4.6 d")],
)
def test_durations(seconds, text):
    assert command.duration(seconds) == text


def test_an_unknown_scale_and_a_watched_json_are_refused_in_one_line(study):
    for arguments, message in ((["--scale", "desktop"], "unknown scale 'desktop'"), (["--json", "--watch"], "--watch")):
        program = [sys.executable, "-m", "tgmm", "status", *arguments]
        result = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert message in result.stderr


def test_a_study_of_which_nothing_is_trained_needs_no_torch(study):
    shutil.rmtree("work")
    program = (
        "import sys\nfrom tgmm.cli import main\nsys.argv = ['tgmm', 'status', '--watch']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\nassert 'torch' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("queued") == 2  # not a terminal: it prints once, also to a watcher


def read_to_the_end(terminal: int, seconds: float = 60.0) -> bytes:
    """All that is still written to a terminal until its last writer has closed it, or time is up."""
    text, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            part = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that nobody holds the other end
            break
        if not part:
            break
        text += part
    return text


def test_watching_refreshes_until_control_c_and_ends_well(study, monkeypatch):
    shutil.rmtree("work")
    ours, theirs = pty.openpty()
    program = "from tgmm.cli import main, status\nstatus.WATCH_SECONDS = 0.05\nmain()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "status", "--watch"],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(theirs)
    text = b""
    try:
        while text.count(b"2 queued") < 3:
            text += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        text += read_to_the_end(ours)  # a terminal that nobody reads fills up, and its writer waits
        assert process.wait(60) == 0
    finally:
        process.kill()
        os.close(ours)
    assert b"Traceback" not in text


# --- histories ---------------------------------------------------------------------------------------------------


def history(errors: list[float], tasks: list[int] | None = None) -> pd.DataFrame:
    """A history that is validated at even steps, with a row that is no validation after each."""
    tasks = tasks or [100 * (number + 1) for number in range(len(errors))]
    rows = pd.DataFrame({"tasks": tasks, "validation_l2_error": errors})
    between = rows.assign(tasks=rows["tasks"] - 50, validation_l2_error=np.nan)
    return pd.concat([between, rows]).sort_values("tasks", ignore_index=True)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([3.0, 2.0, 1.0], True),
        ([3.0, 1.0, 0.951], False),
        ([3.0, 1.0, 0.949], True),
        ([3.0, 1.0, 1.2], False),  # worse at the end is no gain
        ([0.5, 1.0, 0.9], False),  # the best counts, not the last
        ([1.0] * 9, False),
        ([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 4.0, 4.0, 3.0], True),
        ([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 4.0, 4.0, 3.9], False),  # 2.5 % over the last three of nine
    ],
)
def test_a_gain_of_five_per_cent_over_the_last_third_is_learning(errors, expected):
    assert still_learning(history(errors)) is expected


def test_the_thirds_are_of_tasks_not_of_rows():
    errors, tasks = [4.0, 1.0, 0.9, 0.8], [100, 200, 300, 3000]
    assert still_learning(history(errors, tasks))  # from .9 at 300 tasks to .8 at 3,000
    assert still_learning(history([1.0, 0.5], [2900, 3000]))  # nothing is known of the first two thirds


@given(st.lists(st.floats(0.01, 10), min_size=3, max_size=12), st.floats(0.1, 10), st.randoms())
def test_units_and_the_order_of_rows_do_not_matter(errors, unit, random):
    rows = history(errors)
    learning = still_learning(rows)
    shuffled = rows.sample(frac=1, random_state=random.randint(0, 1000))
    assert still_learning(shuffled) == learning
    scaled = rows.assign(validation_l2_error=rows["validation_l2_error"] * 2.0 ** round(unit))
    assert still_learning(scaled) == learning


def test_validations_leave_out_the_start_and_other_rows():
    rows = history([3.0, 2.0])
    rows.loc[len(rows)] = [0, 9.0]
    assert validations(rows, "f")["validation_l2_error"].tolist() == [3.0, 2.0]
    with pytest.raises(UserError, match="the training history of family 'f' holds no validation"):
        validations(rows.assign(validation_l2_error=np.nan), "f")


def test_histories_are_read_without_torch():
    code = "import sys, tgmm.train.status; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
