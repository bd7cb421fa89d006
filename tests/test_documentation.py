"""The documentation: it builds without a warning, fetches nothing, is complete, and names only commands that exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from tgmm.cli import app
from tgmm.config import Config
from tgmm.reference import command_reference, commands, config_reference

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
FENCED = re.compile(r"```(?:sh|text|)\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`(tgmm [^`\n]+)`")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder


def test_the_site_fetches_nothing(site):
    pages = sorted(site.glob("*.html"))
    assert {"index.html", "reference-commands.html", "cluster.html"} <= {page.name for page in pages}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(script|img|link|iframe)[^>]*(src|href)=[\"']?(https?:)?//", text), page.name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), sheet.name


def test_the_reference_has_every_key():
    text = config_reference()
    for key in Config.model_fields:
        assert f"| `{key}` |" in text
    for name in re.findall(r"\]\(#([a-z0-9]+)\)", text):
        assert f"\n## {name}\n" in text.lower(), name
    assert "Bootstrap resamples behind an interval. *(scale)*" in text


def test_the_reference_has_every_command():
    text = command_reference()
    for words in ("tgmm page", "tgmm theory measure", "tgmm ablation run", "tgmm demo"):
        assert f"\n## {words}\n" in text
    assert text.count("\n## ") == len(known_commands())
    assert "help" not in re.findall(r"^\| `--(\w+)`", text, re.MULTILINE)


def known_commands() -> dict[tuple[str, ...], set[str]]:
    """The words of every command -> its options."""
    command_reference()  # registers them
    return {
        path[1:]: {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for path, command in commands(typer.main.get_command(app), ("tgmm",))
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_a_page_exist_with_their_options(page):
    text = page.read_text(encoding="utf-8")
    lines = [line for block in FENCED.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    known, targets = known_commands(), re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in [*(line.strip() for line in lines), *INLINE.findall(text)]:
        if line.startswith("make "):
            assert line.split()[1] in targets, line
        if not line.startswith("tgmm ") or "COMMAND" in line:
            continue
        words = shlex.split(line.split("#")[0])[1:]
        if words[0].startswith("-"):
            continue
        path = next((tuple(words[:n]) for n in (2, 1) if tuple(words[:n]) in known), None)
        assert path or words[0] in {path[0] for path in known}, line
        for word in words:
            if path and word.startswith("-") and not re.fullmatch(r"-\d.*", word):
                assert word.split("=")[0] in known[path] | {"--help"}, (line, word)
