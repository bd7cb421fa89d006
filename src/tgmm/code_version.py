"""A version of the code behind a result: it changes when the code does, not when its comments or layout do.

Workflow tools see neither imported modules nor the difference between a fix and a reworded docstring. The version of a
module covers the modules of this package that it imports, found in the source, so that it cannot go stale.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = "tgmm"
ROOT = Path(__file__).resolve().parent
# What these modules do never changes a number.
SHAPELESS = frozenset(
    {
        "tgmm",
        "tgmm.cli",
        "tgmm.code_version",
        "tgmm.devices",
        "tgmm.errors",
        "tgmm.files",
        "tgmm.study",
        "tgmm.locks",
        "tgmm.train.progress",
    }
)
# Where a kind of method lives, unless in the module of its name.
KIND_MODULES = {"tgmm": ["tgmm.methods.transformer", "tgmm.models.checkpoint"]}
# Fields of syntax trees that come and go with Python's version or only say where something stands.
IGNORED_FIELDS = frozenset({"ctx", "kind", "type_comment", "type_ignores", "type_params"})


def code_version(*modules: str, without: Iterable[str] = ()) -> str:
    """Hash over the code of modules and of everything in the package that they import, directly or not.

    Parameters
    ----------
    modules : dotted names, such as ``"tgmm.train.trainer"``.
    without : dotted names that are left out, with all that only they import and all that lies in them.

    Returns
    -------
    Sixteen hexadecimal digits, the same on every version of Python.
    """
    return combined_version(reachable(modules, SHAPELESS | set(without)))


def training_version() -> str:
    """Version of the code that shapes a network. The estimators that only watch its training are left out."""
    return code_version("tgmm.train.trainer", without=["tgmm.methods"])


def score_version(kind: str) -> str:
    """Version of the code behind the scores of one kind of method, `em` for example, the other kinds left out."""
    evaluation = reachable(["tgmm.evaluate"], SHAPELESS | {"tgmm.methods", "tgmm.models"})
    return combined_version(evaluation | reachable(KIND_MODULES.get(kind, [f"tgmm.methods.{kind}"]), SHAPELESS))


def combined_version(names: Iterable[str]) -> str:
    """Hash over the versions of some modules."""
    text = "".join(f"{name}:{module_version(name)}\n" for name in sorted(names))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def reachable(modules: Iterable[str], without: frozenset[str]) -> set[str]:
    """Names of the package's modules that some modules lead to, themselves included."""
    pending, found = list(modules), set()
    while pending:
        name = pending.pop()
        if name in found or is_within(name, without):
            continue
        if source(name) is None:
            raise ModuleNotFoundError(f"code_version: there is no module {name}")
        found.add(name)
        pending += imports(name)
        pending += [parent for parent in parents(name) if parent != PACKAGE]
    return found


def is_within(name: str, packages: frozenset[str]) -> bool:
    """Whether a module is one of the packages or lies in one (the root package stands for its own file only)."""
    return name in packages or any(parent in packages for parent in parents(name) if parent != PACKAGE)


def parents(name: str) -> list[str]:
    """The packages that a module lies in; importing it runs them too."""
    pieces = name.split(".")
    return [".".join(pieces[:length]) for length in range(1, len(pieces))]


def source(name: str) -> Path | None:
    """The file of a module of the package; None if there is none."""
    stem = ROOT.joinpath(*name.split(".")[1:])
    return next((path for path in (stem / "__init__.py", stem.with_suffix(".py")) if path.is_file()), None)


@cache
def tree(name: str) -> ast.Module:
    """Syntax tree of a module."""
    return ast.parse(source(name).read_text(encoding="utf-8"))


@cache
def imports(name: str) -> list[str]:
    """The package's modules that a module imports, at the top or inside functions."""
    found = []
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = absolute(name, node)
            found += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return sorted({target for target in found if target.split(".")[0] == PACKAGE and source(target) is not None})


def absolute(name: str, node: ast.ImportFrom) -> str:
    """The module that a `from … import …` names, relative imports resolved."""
    if not node.level:
        return node.module or ""
    package = name if source(name).name == "__init__.py" else name.rpartition(".")[0]
    base = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


@cache
def module_version(name: str) -> str:
    """Hash of one module's code."""
    return hashlib.sha256(canonical(tree(name)).encode()).hexdigest()


def canonical(node: object) -> str:
    """Text for a syntax tree, free of docstrings, positions and whatever differs between versions of Python."""
    if isinstance(node, ast.AST):
        fields = [
            f"{field}={canonical(value)}"
            for field, value in without_docstring(node)
            if field not in IGNORED_FIELDS and value is not None and value != []
        ]
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(canonical, node))}]"
    return repr(node)


def without_docstring(node: ast.AST) -> list[tuple[str, object]]:
    """The fields of a node, a leading docstring removed from its body."""
    fields = list(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        has_docstring = ast.get_docstring(node, clean=False) is not None
        return [(field, value[1:] if field == "body" and has_docstring else value) for field, value in fields]
    return fields
