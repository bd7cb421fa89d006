"""`tgmm headline`: what fits a terminal, what a file gets, what is refused in one line."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from synthetic_scores import METHODS, write_scores
from tgmm.aggregate import aggregate
from tgmm.cli.artefacts import BEGIN, END, WIDTH, read_headline, terminal_lines
from tgmm.cli.common import replace_between_markers
from tgmm.errors import UserError
from tgmm.figures.style import STYLES, method_style

README = f"# Study\n\n{BEGIN}\nold\n{END}\n\nMore.\n"


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A folder with a summary, in which spectral fails at some K, and some artefacts."""
    folder = tmp_path_factory.mktemp("headline")
    results = folder / "results" / "laptop"
    files = write_scores(results / "scores", dimensions=(2, 8, 32), components=(2, 3), tasks=16)
    aggregate(files, results / "summary.parquet", results / "summary.json", resamples=20)
    for name in ("figures/fig-a.pdf", "figures/fig-b.pdf", "tables/tab-a.md"):
        (results / name).parent.mkdir(exist_ok=True)
        (results / name).touch()
    (results / "paper.pdf").touch()
    return folder


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The command as typed in a folder, its output piped."""
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-m", "tgmm", "headline", *arguments]
    variables = os.environ | {"PYTHONPATH": paths} | environment
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)


def on_a_terminal(folder: Path, **environment: str) -> str:
    """What the command writes to a terminal of 80 columns."""
    controller, terminal = pty.openpty()
    paths = os.pathsep.join(path for path in sys.path if path)
    variables = os.environ | {"PYTHONPATH": paths, "TERM": "xterm-256color", "COLUMNS": "80"} | environment
    command = [sys.executable, "-m", "tgmm", "headline"]
    process = subprocess.Popen(command, cwd=folder, env=variables, stdout=terminal, stderr=terminal)
    os.close(terminal)
    parts = []
    try:
        while part := os.read(controller, 4096):
            parts.append(part)
    except OSError:  # the other end is closed
        pass
    os.close(controller)
    assert process.wait() == 0
    return b"".join(parts).decode()


def many_cells(methods: list[str]) -> dict:
    """Headline numbers as wide as they come."""
    values = {"l2_error_mean": 1.234e-4, "l2_error_median": 1.234e-4, "failure_share": 0.123}
    cells = {f"d128-n{number}": dict.fromkeys(methods, values) for number in (64, 128, 256, 512)}
    return {"meta": {"scale": "laptop", "n_components": "2, 3", "tasks_per_cell": 8, "seed": 1}, "wide": cells}


# --- the terminal's table --------------------------------------------------------------------------------------------


def test_the_table_shows_the_summarys_numbers(study):
    numbers = json.loads((study / "results/laptop/summary.json").read_text())["effectiveness"]
    meta, (table,) = read_headline(study / "results/laptop/summary.json", "laptop")
    assert table.heads == ["d2", "d8", "d32"]
    order = [method for method in STYLES if method in METHODS and method != "em-oracle"] + ["em-oracle"]
    assert list(table.rows) == [method_style(method).short for method in order]
    mean, median = table.rows["EM"][1].split(" / ")
    assert float(mean) == pytest.approx(numbers["d8"]["em"]["l2_error_mean"], rel=0.01)
    assert float(median) == pytest.approx(numbers["d8"]["em"]["l2_error_median"], rel=0.01)
    assert table.rows["Spectral"][0] == "n/a"
    assert table.rows["TGMM matched"][2] == "–"
    assert "tasks without an estimate: Spectral at d2, 50 %" in terminal_lines(meta, table)
    assert "* over the tasks that did not fail" not in terminal_lines(meta, table)


def test_what_is_piped_is_plain_and_fits_eighty_columns(study):
    finished = run(study)
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert "\033" not in finished.stdout
    assert max(map(len, lines)) <= 80
    assert lines[0] == "effectiveness: l2-error, mean / median over K = 2, 3"
    assert "scale laptop · 16 tasks a cell · seed 2505" in lines
    assert lines[-3:] == [
        "figures  2 in results/laptop/figures",
        "tables   1 in results/laptop/tables",
        "paper    results/laptop/paper.pdf",
    ]


def test_a_terminal_shows_bold_titles_unless_it_must_not(study):
    assert "\033[1meffectiveness: l2-error" in on_a_terminal(study, NO_COLOR="")
    assert "\033" not in on_a_terminal(study, NO_COLOR="1")
    assert "\033" not in on_a_terminal(study, NO_COLOR="", TERM="dumb")


def test_no_cell_is_broken_however_many_and_long_they_are(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(many_cells(list(STYLES))))
    meta, (table,) = read_headline(path, "laptop")
    lines = terminal_lines(meta, table)
    assert max(map(len, lines)) <= WIDTH
    text = "\n".join(lines)
    assert text.count("1.2e-4 / 1.2e-4*") == 4 * len(STYLES)
    assert "* over the tasks that did not fail" in lines
    for head in table.heads:
        assert sum(head in line and line.startswith("method") for line in lines) == 1
    assert sum(line.startswith("method") for line in lines) > 1  # columns that do not fit stand below


def test_a_task_set_may_be_chosen(tmp_path):
    numbers = many_cells(["em"])
    path = tmp_path / "results" / "laptop" / "summary.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(numbers | {"narrow": {"d2": numbers["wide"]["d128-n64"]}}))
    assert "wide: l2-error" in run(tmp_path).stdout
    chosen = run(tmp_path, "--taskset", "narrow")
    assert "narrow: l2-error" in chosen.stdout
    assert "wide: l2-error" not in chosen.stdout


# --- the table in a file ---------------------------------------------------------------------------------------------


def test_a_files_table_is_written_checked_and_written_again(study, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(README)
    assert run(study, "--into", str(readme), "--check").returncode == 1
    assert readme.read_text() == README
    written = run(study, "--into", str(readme))
    assert written.returncode == 0, written.stderr
    text = readme.read_text()
    assert text.startswith(f"# Study\n\n{BEGIN}\n| method | d2 | d8 | d32 |")
    assert "Task set `effectiveness`: ℓ2-error, mean / median over K = 2, 3 · scale laptop · 16 tasks a cell" in text
    assert text.endswith(f"{END}\n\nMore.\n")
    assert "| method | d2 | d8 | d32 |\n|:--|--:|--:|--:|\n| EM |" in text
    assert "old" not in text
    checked = run(study, "--into", str(readme), "--check")
    assert (checked.returncode, checked.stdout) == (0, "")
    readme.write_text(text.replace("| Spectral | n/a", "| Spectral | .001"))
    differs = run(study, "--into", str(readme), "--check")
    assert differs.returncode == 1
    assert "the same command without --check writes them" in differs.stdout
    run(study, "--into", str(readme))
    assert readme.read_text() == text


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{BEGIN}\n{END}", f"x {BEGIN}\n{END}"])
def test_a_file_without_its_two_markers_is_refused(text):
    with pytest.raises(UserError, match=r"README\.md: needs one line '<!-- headline:begin -->' and below it one"):
        replace_between_markers(text, ["new"], (BEGIN, END), Path("README.md"))


# --- what is refused -------------------------------------------------------------------------------------------------


def test_refusals_are_one_line_with_exit_code_2(study, tmp_path):
    damaged = tmp_path / "results" / "laptop" / "summary.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text('{"meta": {"scale": "laptop"}, "effectiveness": {"d2"')
    for folder, arguments, message in [
        (study, ("--scale", "bogus"), "scale 'bogus' has not been run (there are results of laptop)"),
        (tmp_path, (), "results/laptop/summary.json: damaged (not valid JSON ("),
        (study, ("--taskset", "efectiveness"), "unknown task set 'efectiveness'; did you mean 'effectiveness'?"),
        (study, ("--check",), "--check compares a file with the results: give it with --into"),
        (study, ("--into", "gone.md"), "gone.md: cannot be read (No such file or directory)"),
    ]:
        finished = run(folder, *arguments)
        assert finished.returncode == 2
        assert message in finished.stderr
        assert len(finished.stderr.splitlines()) == 1
        assert finished.stdout == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "damaged"),
        ("{}", "damaged (KeyError: 'meta')"),
        ('{"meta": {}, "effectiveness": 3}', "damaged (effectiveness: input should be a valid dict"),
        ('{"meta": {}, "a": {"d2": {"em": {"l2_error_mean": "low"}}}}', "damaged (a.d2.em.l2_error_mean: input should"),
    ],
)
def test_a_damaged_file_is_refused_with_the_place(tmp_path, content, message):
    path = tmp_path / "summary.json"
    path.write_text(content)
    with pytest.raises(UserError) as refused:
        read_headline(path, "laptop")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
