"""The manuscript as a PDF: Typst reads figures, tables and numbers from the results when it sets the text.

The Typst compiler is a Python wheel with fonts of its own, so that nothing is downloaded and no TeX is needed.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from tgmm.errors import UserError
from tgmm.files import atomic_path

MAIN, SUPPLEMENT = "main.typ", "supplement.typ"
RESULT_CALL = re.compile(r"\b(result-figure|result-table|scores|measured)\(\"([\w-]+)\"")
# What Typst says where moving figures and numbered citations have not settled after its five rounds of layout; with the
# figures in place there is nothing to settle.
UNSETTLED = ("citation could not be located", "layout did not converge within 5 attempts")
FILES = {
    "result-figure": "figures/{}.pdf",
    "result-table": "tables/{}.csv",
    "scores": "tables/{}.csv",
    "measured": "theory/{}.csv",
}


def build_paper(
    scale: str, out: str | Path, *, root: str | Path = ".", left_out: Collection[str] = (),
    absent: Collection[str] = (), document: str = MAIN,
) -> Path:  # fmt: skip
    """Set the manuscript in ``root/paper`` with the results in ``root/results/<scale>``.

    The PDF carries no date: the same sources and results give the same bytes.

    Parameters
    ----------
    scale, out, root : whose results are shown, the PDF to write, and the folder that holds paper/ and results/.
    left_out : figures that this scale does not have, for want of a trained network; a line stands in their place.
    absent : families that are not trained at this scale; what may lie there of them is not shown.
    document : the manuscript or its supplement, by file.

    Raises
    ------
    UserError : when a file that the manuscript shows is missing, by name, or when Typst refuses the source.
    """
    root = Path(root).resolve()
    results = root / "results" / scale
    refuse_missing(root, required_files(root, scale, left_out, document))
    families = {path.parent.name for path in results.glob("models/*/config.json")} - set(absent)
    probed = {path.stem for path in results.glob("probes/*.csv")} - set(absent)
    inputs = {"scale": scale, "results": f"/results/{scale}", "left-out": ",".join(left_out)}
    inputs |= {"families": in_order(families), "probed": in_order(probed)}
    inputs |= {"summary": "yes" if document == MAIN else "no"}
    with atomic_path(out) as temporary:
        for floating in ("yes", "no"):
            problem = compile_source(root, temporary, inputs | {"floating": floating}, document)
            if problem not in UNSETTLED:
                break
        if problem:
            raise UserError(f"paper/{document}: {problem}")
    return Path(out)


def compile_source(root: Path, out: Path, inputs: dict[str, str], document: str) -> str:
    """Set a document of ``paper/`` as a PDF; what Typst has against it as one line, empty where it has nothing."""
    import typst

    try:
        typst.compile(
            root / "paper" / document, output=out, root=root, sys_inputs=inputs, ignore_system_fonts=True, timestamp=0
        )
    except typst.TypstError as error:
        return describe(error)
    return ""


def required_files(root: Path, scale: str, left_out: Collection[str] = (), document: str = MAIN) -> list[Path]:
    """The results that a document shows: the summary, and whatever its sources call for by id."""
    first = root / "paper" / document
    refuse_missing(root, [first])
    of_main = [path for path in sorted((root / "paper").glob("**/*.typ")) if path.name != SUPPLEMENT]
    sources = [first] if document == SUPPLEMENT else of_main
    calls = [call for source in sources for call in RESULT_CALL.findall(source.read_text(encoding="utf-8"))]
    names = ["tables/answers.json" if document == SUPPLEMENT else "summary.json"]
    names += [FILES[kind].format(name) for kind, name in calls if name not in left_out]
    return [root / "results" / scale / name for name in dict.fromkeys(names)]


def refuse_missing(root: Path, files: list[Path]) -> None:
    """Raise a UserError that names the first missing file and says how many more there are."""
    missing = [file.relative_to(root) for file in files if not file.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UserError(
            f"missing: {missing[0]}{more}, which the paper needs; `snakemake --cores all` makes it (for the supplement "
            "`snakemake --cores all -- reviewers`)"
        )


def in_order(names: Collection[str]) -> str:
    """Names in numerical order, as Typst takes them."""
    return ",".join(sorted(names, key=in_numerical_order))


def in_numerical_order(name: str) -> list[str | int]:
    """A sort key by which d2 comes before d32 and d32 before d128."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def describe(error: Exception) -> str:
    """A Typst error as one line."""
    lines = [line.strip() for line in str(getattr(error, "message", "") or error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
