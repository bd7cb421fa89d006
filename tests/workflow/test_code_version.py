"""Versions of code: sensitive to what the code does, blind to how it looks."""

from __future__ import annotations

import ast
import importlib

import pytest

from tgmm import code_version as versions

PLAIN = "def f(x):\n    return g(x, 1)\n"


def canonical(text: str) -> str:
    return versions.canonical(ast.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        'def f(x):\n    """Says what it does."""\n    return g(x, 1)\n',
        "def f(x):  # a remark\n    return g(\n        x,\n        1,\n    )\n",
        '"""A module."""\n\n\ndef f(x):\n    return (g(x, 1))\n',
    ],
)
def test_looks_do_not_count(text):
    assert canonical(text) == canonical(PLAIN)


@pytest.mark.parametrize(
    "text", ["def f(x):\n    return g(x, 2)\n", "def f(x, y=0):\n    return g(x, 1)\n", PLAIN + "h = 1\n"]
)
def test_meaning_counts(text):
    assert canonical(text) != canonical(PLAIN)


def test_a_string_that_is_no_docstring_counts():
    assert canonical("x = 'a'\n") != canonical("x = 'b'\n")


def test_imports_are_followed_inside_the_package():
    names = versions.reachable(["tgmm.tasks.sampler"], versions.SHAPELESS)
    assert {"tgmm.tasks.sampler", "tgmm.mixture", "tgmm.counter_random"} <= names
    assert "tgmm.errors" not in names


def test_training_covers_networks_and_tasks_but_no_estimators():
    names = versions.reachable(["tgmm.train.trainer"], versions.SHAPELESS | {"tgmm.methods"})
    assert {"tgmm.losses", "tgmm.models.components", "tgmm.models.encoder", "tgmm.tasks.sampler"} <= names
    assert not [name for name in names if name.startswith(("tgmm.methods", "tgmm.cli", "tgmm.figures"))]


def test_every_kind_of_method_has_a_version_of_its_own():
    from tgmm.evaluate import METHOD_KINDS

    assert len({versions.score_version(kind) for kind in METHOD_KINDS}) == len(METHOD_KINDS)


def test_modules_that_are_left_out_exist():
    for name in [*versions.SHAPELESS, *(module for modules in versions.KIND_MODULES.values() for module in modules)]:
        importlib.import_module(name)


def test_an_unknown_module_is_an_error():
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        versions.code_version("tgmm.nowhere")
