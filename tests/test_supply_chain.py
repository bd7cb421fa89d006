"""What is installed is declared, what is declared is used, and every licence is known."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from licences import ROOT, installed, is_copyleft, licence, locked

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = [requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra]
# Programs that DVC and Snakemake run beside this package, which imports none of them.
BESIDE = {"grandalf", "pygit2"}
PARTS = {"pydantic_core": "pydantic"}  # modules that one declared package shares with another of its own
# How a tool is called where its own name is not.
CALLED = {
    "dvc-s3": "s3://",
    "dvc-ssh": "ssh://",
    "playwright": "test_page_in_a_browser.py",
    "pytest-xdist": "-n $(JOBS)",
    "snakemake-executor-plugin-slurm": "executor: slurm",
}


def name_of(requirement: str) -> str:
    return re.split(r"[><=!~;\[ ]", requirement)[0].lower().replace("_", "-")


@functools.cache
def imported(*folders: str) -> set[str]:
    """The distributions whose modules the Python files of some folders import."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    modules = {path.stem for path in files if path.is_relative_to(ROOT / "tests") or "benchmarks" in path.parts} | {
        "tgmm"
    }
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            found |= {name.partition(".")[0] for name in names}
    providers = packages_distributions()
    others = {PARTS.get(module, module) for module in found - modules - set(sys.stdlib_module_names)}
    return {providers.get(module, [module])[0].lower().replace("_", "-") for module in others}


def closure(names: list[str]) -> set[str]:
    """The installed packages that some need, without extras, and what those need."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        for package in installed([waiting.pop()]):
            if package.name not in found:
                found[package.name] = None
                waiting += [name_of(text) for text in package.requires or () if "extra ==" not in text]
    return set(found)


def test_the_package_imports_what_it_declares_and_nothing_else():
    assert imported("src") == {name_of(requirement) for requirement in PROJECT["dependencies"]}


def test_tests_and_benchmarks_import_nothing_that_is_not_declared():
    declared = {name_of(requirement) for requirement in [*PROJECT["dependencies"], *EXTRAS]}
    assert imported("tests", "benchmarks", "docs", "workflow") <= declared


@pytest.mark.parametrize("name", [name_of(extra) for extra in EXTRAS])
def test_a_tool_that_is_declared_is_used(name):
    files = [ROOT / "Makefile", ROOT / ".ci/run", ROOT / "dvc.yaml", ROOT / "docs/cluster.md"]
    files += ROOT.glob("profiles/*/config.yaml")
    called = any(CALLED.get(name, name) in path.read_text(encoding="utf-8") for path in files)
    assert called or name in imported("tests")


def test_every_licence_is_known():
    assert [package.name for package in installed(locked()) if licence(package) == "?"] == []


def test_nothing_that_the_package_needs_is_under_the_gpl():
    copyleft = {package.name for package in installed(locked()) if is_copyleft(licence(package))}
    assert copyleft <= BESIDE
    assert not copyleft & closure([name_of(requirement) for requirement in PROJECT["dependencies"]])
