"""Wrong settings, in files and on the command line: never a traceback, always one line that says what would be right.

`make test-all` tries 20 times as many as `make test`, by the variable TGMM_EXAMPLES.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tgmm import artefacts
from tgmm.cli import app, register_commands
from tgmm.config import read_config
from tgmm.errors import UserError
from tgmm.study import load_study, study_from_config

ROOT = Path(__file__).resolve().parents[2]
MANY = int(os.environ.get("TGMM_EXAMPLES", "1"))
REMOVED = "remove this key"
HOSTILE = [
    None, True, -1, 0, 2, 0.5, 1e30, 10**30, 10**400, float("nan"), float("inf"), "", "a", "a\nb", "a\0b", "\u2028",
    "../x", "$(touch x)", "x; touch y;", "010", "1:30", "1_000", "x" * 5000, [], [0], [-1], [[1]], {}, {"x": 1},
    {"kind": {}}, REMOVED,
]  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = (
    st.sampled_from(HOSTILE)
    | SCALARS
    | st.lists(SCALARS, max_size=3)
    | st.dictionaries(st.text(max_size=4), SCALARS, max_size=3)
)
CORNERS = [
    "~", "on", "no", "0o7", "0x1F", "010", "1:30", "1:30.5", "1_000", "1e3", ".inf", "-.inf", ".nan", "2026-13-45",
    "=", "!!int abc", "!!set {a}", "!!binary x", "!!python/name:os.system", "!x", "&a", "*a", "&a [*a]", "<<", "<<: *a",
    "? ", "- ", "[", "]", "{", "}", "{a: 1, a: 2}", "'", '"', '"\\ud800"', '"\\x00"', "|", ">", "%", "@", "`", "#",
    "\t", "\n", "\n  ", "\ufeff", "\u2028", "\x85", "---", "...", "[" * 5000, "{a: " * 5000, "9" * 5000,
    "1" * 400 + ".5", "__use_yte__: true",
]  # fmt: skip
FUZZ = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}


def places(value: Any, place: tuple = ()) -> Iterator[tuple]:
    """The path of every key and item inside a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from places(item, (*place, key))


def edited(values: dict, place: tuple, new: Any) -> dict:
    """A copy with one value replaced or removed."""
    values = copy.deepcopy(values)
    *parents, last = place
    inside = values
    for key in parents:
        inside = inside[key]
    if new is REMOVED:
        del inside[last]
    else:
        inside[last] = new
    return values


def refuse_badly_written(error: UserError, *parts: str) -> None:
    """One printable line, of a length that can be read, with its file and with a key or the place in the file."""
    line = str(error)
    assert line.isprintable(), line
    assert len(line) < 2500, line
    assert all(part in line for part in parts), line
    assert "'" in line or re.search(r"line \d+|must hold keys|is not text|UTF-8|unacceptable|levels deep|JSON", line), (
        line
    )
    assert "pydantic" not in line, line


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    shutil.copytree(ROOT / "workflow/scales", folder / "workflow/scales")
    shutil.copy2(ROOT / "config.yaml", folder)
    return folder


CONFIG = read_config(ROOT / "config.yaml") | {"scale": "smoke"}
SCALE = read_config(ROOT / "workflow/scales/smoke.yaml")
EDITS = st.lists(st.tuples(st.sampled_from(list(places(CONFIG | SCALE))), VALUES), min_size=1, max_size=2)


@settings(max_examples=30 * MANY, **FUZZ)
@given(edits=EDITS)
def test_any_value_anywhere_in_the_study_is_accepted_or_one_line(edits):
    values = CONFIG | SCALE
    for place, new in edits:
        try:
            values = edited(values, place, new)
        except (KeyError, IndexError, TypeError):  # the first edit took the place of the second
            continue
    try:
        study_from_config(values, ROOT)
    except UserError as error:
        refuse_badly_written(error)


@pytest.mark.parametrize("file", ["config.yaml", "workflow/scales/smoke.yaml"])
@settings(max_examples=25 * MANY, **FUZZ)
@given(data=st.data(), corner=st.sampled_from(CORNERS), instead=st.booleans())
def test_any_corner_of_yaml_anywhere_in_a_file_is_accepted_or_one_line(root, file, data, corner, instead):
    text = (ROOT / file).read_text(encoding="utf-8")
    words = list(re.finditer(r"[\w.-]+|[:,{}\[\]]", text))
    word = data.draw(st.sampled_from(words))
    end = word.end() if instead else word.start()
    (root / file).write_bytes((text[: word.start()] + corner + text[end:]).encode("utf-8", "surrogatepass"))
    try:
        load_study(root / "config.yaml", "smoke")
    except UserError as error:
        refuse_badly_written(error, str(root / "config.yaml"))
    finally:
        shutil.copy2(ROOT / file, root / file)


@settings(max_examples=15 * MANY, **FUZZ)
@given(noise=st.binary(min_size=1, max_size=3), place=st.integers(0, 10**6))
@example(noise=b"\xff\xfe", place=0)
def test_any_bytes_in_a_file_are_accepted_or_one_line(root, noise, place):
    content = (ROOT / "config.yaml").read_bytes()
    place %= len(content)
    (root / "config.yaml").write_bytes(content[:place] + noise + content[place:])
    try:
        load_study(root / "config.yaml", "smoke")
    except UserError as error:
        refuse_badly_written(error, str(root / "config.yaml"))
    finally:
        shutil.copy2(ROOT / "config.yaml", root / "config.yaml")


class Reached(Exception):
    """The settings were accepted: here the work would begin."""


def reached(*_: object, **__: object) -> None:
    raise Reached


STUDY = load_study(ROOT / "config.yaml", "smoke")
FAMILY, TASKSET = "isotropic-d2-n128-components", "mean-shift-d8"
PART = STUDY.ablations[0]
COMMANDS = {
    "sample-tasks": ([TASKSET, "--out", "x"], STUDY.task_settings(TASKSET)),
    "train": ([FAMILY, "--out", "x", "--device", "cpu"], STUDY.train_settings(FAMILY)),
    "aggregate": (
        ["x.parquet", "--out", "x", "--headline", "y"],
        STUDY.summary_settings() | {"recipes": {"transformer": {"matched": ["tgmm-matched"]}}},
    ),
    "probe": ([FAMILY, "--model", "x", "--out", "y"], STUDY.probe_settings(FAMILY)),
    "ablation run": (
        ["-d", str(PART[0]), "--seed", str(PART[1]), "--change", PART[2], "--out", "x", "--device", "cpu"],
        STUDY.ablation_settings(*PART),
    ),
    **{
        f"score {method}": ([method, "--tasks", "x", "--out", "y", "--device", "cpu"],
                            {"methods": [STUDY.score_settings(method, "effectiveness-d2")]})
        for method in ("em", "tgmm-components", "spectral", "bayes")
    },
    **{f"figure {name}": ([name, "x", "--out", "y"], STUDY.artefact_settings(name))
       for name in ("fig-effectiveness", "fig-shifts", "fig-training", "fig-probe-picture", "fig-ablation")},
    **{f"table {name}": ([name, "--summary", "x", "--out", "y"], STUDY.artefact_settings(name))
       for name in ("tab-claims", "tab-shifts", "tab-theorem-sizes")},
}  # fmt: skip
WORK = {
    "tgmm.tasks.taskset.sample_taskset": reached,
    "tgmm.train.family.train_family": reached,
    "tgmm.aggregate.read_scores": reached,
    "tgmm.probes.measure.measure_probes": reached,
    "tgmm.ablation.run.ValidationSet": reached,
    "tgmm.evaluate.build_scored": reached,
    "tgmm.artefacts.draw_figure": lambda values, *_: reached(artefacts.drawn_by(values, artefacts.FIGURE)),
    "tgmm.artefacts.write_table": lambda values, *_: reached(artefacts.drawn_by(values, artefacts.TABLE)),
}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Runs a command up to where its work would begin; gives its exception, or None."""
    register_commands()

    class Tasks:
        settings = STUDY.task_settings("effectiveness-d2")

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("commands"))
        patch.setattr("tgmm.tasks.taskset.load_taskset", lambda path: Tasks)
        for name, work in WORK.items():
            patch.setattr(name, work)

        def run(name: str, text: str) -> BaseException | None:
            words = name.split()[: 2 if name == "ablation run" else 1]
            return CliRunner().invoke(app, [*words, *COMMANDS[name][0], "--settings", text]).exception

        yield run


@pytest.mark.parametrize("name", COMMANDS)
def test_the_settings_of_the_study_reach_the_work(command, name):
    assert isinstance(command(name, json.dumps(COMMANDS[name][1])), Reached)


@settings(max_examples=40 * MANY, **FUZZ)
@given(data=st.data(), name=st.sampled_from(sorted(COMMANDS)), new=VALUES)
def test_any_value_in_settings_is_accepted_or_one_line(command, data, name, new):
    place = data.draw(st.sampled_from(list(places(COMMANDS[name][1]))))
    error = command(name, json.dumps(edited(COMMANDS[name][1], place, new)))
    assert isinstance(error, Reached | UserError), error
    if isinstance(error, UserError):
        refuse_badly_written(error)


TEXTS = ["", "{", "[]", "{}", '{"a": 1, "a": 2}', '{"kind": "\\ud800"}', "[" * 100_000, '{"a":' * 900 + "1" + "}" * 900,
         '{"a": ' + "9" * 5000 + "}", "\0", "x" * 5000, "/", "/dev/zero", "no such file", '{"a": NaN}']  # fmt: skip


@pytest.mark.parametrize("name", ["train", "score em", "table tab-claims"])
@pytest.mark.parametrize("text", TEXTS, ids=[text[:12] for text in TEXTS])
def test_what_is_no_json_is_one_line(command, name, text):
    error = command(name, text)
    assert isinstance(error, UserError)
    refuse_badly_written(error)
