"""Every command and every piece of Python that a page shows runs, in small or as a plan, and prints what is shown."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from workflow_project import ROOT, Project, copy_project

from synthetic_scores import METHODS, method_scores
from tgmm.aggregate import summarise

pytestmark = pytest.mark.slow
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Files that some commands read -> the command of the same page that writes them; tests may run apart.
WRITTEN_BY = {
    "fit.json": ["tgmm", "fit", "data.csv", "--k", "3", "--out", "fit.json"],
    "tasks.safetensors": ["tgmm", "sample-tasks", "effectiveness-d8", "--out", "tasks.safetensors"],
}
TOOLS = ("tgmm", "snakemake", "dvc", "make", "pip")


def blocks(*languages: str) -> list[tuple[Path, str]]:
    """The blocks of every page that are in one of the languages, in order."""
    found = [(page, block) for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
    return [(page, text) for page, (language, text) in found if language in languages]


def shown_commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every command line of the pages, in order; comments are left out."""
    lines = [
        (page.name, shlex.split(line, comments=True))
        for page, text in blocks("sh")
        for line in text.replace("\\\n", " ").splitlines()
    ]
    return [(page, words) for page, words in lines if words]


COMMANDS = shown_commands()


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Project:
    """A checkout at toy size with the real `tgmm`, a table to fit, and two results to compare."""
    project = copy_project(tmp_path_factory.mktemp("shown") / "project")
    (project.folder / "bin" / "tgmm").unlink()
    for part in ("Makefile", ".dvc/config"):
        (project.folder / part).parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / part, project.folder / part)
    project.replace("config.yaml", "scale: laptop #", "scale: smoke #")
    assert project.command("git", "init", "-q").returncode == 0
    rng = np.random.default_rng(0)
    for name in ("data.csv", "new.csv"):
        rows = rng.normal(size=(90, 2)) + 7 * rng.integers(0, 3, 90)[:, None]
        pd.DataFrame(rows, columns=["length", "width"]).to_csv(project.folder / name, index=False)
    scores = pd.concat([method_scores(name, dimensions=(2,), components=(2,), tasks=8) for name in METHODS])
    for scale in ("smoke", "laptop"):
        (project.folder / "results" / scale).mkdir(parents=True)
        summarise(scores, resamples=20).to_parquet(project.folder / "results" / scale / "summary.parquet")
    return project


def runnable(words: list[str]) -> list[str]:
    """The command as it runs here: a plan where it would take hours or change the machine."""
    tool = words[0]
    if tool == "snakemake":
        plan = ["-n", "--quiet", "rules", "--config", "allow_cpu_training=true", "scale=laptop"]
        plan = plan[:-1] if "scale=" in " ".join(words) else plan
        given = [word for word in words if word != "-n"]
        if "--config" in given:
            place = given.index("--config")
            return [*given[:place], *plan, *given[place + 1 :]]
        end = given.index("--") if "--" in given else len(given)
        return [*given[:end], *plan, *given[end:]]
    if tool == "make":
        return ["make", "-n", *words[1:]]
    if words[:2] == ["dvc", "repro"]:
        return [*words, "--dry", "tasks", "train"]  # tests/workflow/test_dvc.py runs them all
    return [word for word in words if word != "--watch"]


def test_every_command_is_of_a_known_tool():
    assert len(COMMANDS) > 25
    assert {words[0] for _, words in COMMANDS} <= set(TOOLS)


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page} {' '.join(words)}"[:80] for page, words in COMMANDS]
)
def test_a_command_runs(study, page, words):
    if words[:3] == ["dvc", "metrics", "show"]:
        (study.folder / "results" / "smoke" / "summary.json").write_text('{"meta": {"scale": "smoke"}}')
    if words[0] == "pip":
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert set(re.search(r"\[([\w,]+)\]", words[-1])[1].split(",")) <= set(project["optional-dependencies"])
        return
    for file, writer in WRITTEN_BY.items():
        if file in words and words[words.index(file) - 1] != "--out" and not (study.folder / file).exists():
            assert study.command(*writer).returncode == 0
    result = study.command(*runnable(words))
    assert result.returncode == 0, f"{' '.join(runnable(words))}\n{result.stdout[-2000:]}{result.stderr[-2000:]}"


@pytest.mark.parametrize(("page", "text"), blocks("python"), ids=lambda value: getattr(value, "name", ""))
def test_a_piece_of_python_runs(page, text):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3)) + 6 * rng.integers(0, 3, 120)[:, None]
    names = {"X": X, "counts": np.ones(len(X)), "list_of_arrays": [X[:60], X[60:]]}
    exec(compile(text, str(page), "exec"), names)


@pytest.mark.parametrize(("page", "text"), blocks("console"), ids=lambda value: getattr(value, "name", ""))
def test_a_command_prints_what_the_page_shows(study, page, text):
    """Words and numbers agree; numbers to five digits, and what is rounding to its order of magnitude."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, shown = part.split("\n", 1)
        result = study.command(*shlex.split(command), COLUMNS="120")
        assert result.returncode == 0, result.stderr
        shown_lines = [line for line in shown.splitlines() if line.strip() and not line.startswith("(")]
        printed = result.stdout.splitlines()
        for line in shown_lines:
            assert any(same(line, other) for other in printed), f"{command}\n{line}\n\n{result.stdout}"


NUMBER = re.compile(r"-?\d[\d,]*\.?\d*(?:e-?\d+)?")


def same(one: str, other: str) -> bool:
    """Whether two lines have the same words, and numbers that agree."""
    words = [" ".join(re.sub(r"[─━┏┓┳┡┩╇└┘┴│┃]", " ", NUMBER.sub("#", line)).split()) for line in (one, other)]
    numbers = [[float(number.replace(",", "")) for number in NUMBER.findall(line)] for line in (one, other)]
    if words[0] != words[1] or len(numbers[0]) != len(numbers[1]):
        return False
    return all(abs(a - b) <= 1e-5 * max(1.0, abs(a)) for a, b in zip(*numbers, strict=True))
