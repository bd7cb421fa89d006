"""What the page says, read from the results of a scale: plain data for the template. What is not there is a gap."""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import pandas as pd
from markdown_it import MarkdownIt
from PIL import Image
from pydantic import Field

from tgmm.columns import ORACLE
from tgmm.figures.style import in_legend_order, method_style
from tgmm.files import read_made_json
from tgmm.settings import Name, Seed, Settings
from tgmm.tables.render import write_number
from tgmm.train.family import processor_name
from tgmm.versions import VERSIONS

SHOWN_ROWS = 60  # of a table; a longer one is read in its own file
PACKAGES = ("tgmm", "torch", "numpy", "pandas", "matplotlib", "snakemake")
HASH_DIGITS = 12


class ShownArtefact(Settings):
    """An artefact of the page."""

    id: Name = Field(description="Its name in the study.")
    question: str = Field(min_length=1, max_length=120, description="The heading that it stands under.")
    sources: tuple[str, ...] = Field((), description="The files that it is drawn from.")


class PageSettings(Settings):
    """What the page shows."""

    scale: Name = Field(description="The scale whose results are shown.")
    seed: Seed = Field(description="Root of the study's random numbers.")
    artefacts: tuple[ShownArtefact, ...] = Field(description="The artefacts of the scale, in order.")
    absent: tuple[ShownArtefact, ...] = Field((), description="Artefacts that the scale lacks.")
    untrained: tuple[str, ...] = Field((), description="Families that the scale does not train.")


@dataclass(frozen=True)
class Results:
    """Where everything lies: the folder that the workflow runs in, and the page's settings."""

    root: Path
    settings: PageSettings

    @property
    def folder(self) -> Path:
        return self.root / "results" / self.settings.scale

    def file(self, artefact: str, suffix: str) -> Path:
        """A file of a figure or a table."""
        return self.folder / ("figures" if artefact.startswith("fig-") else "tables") / f"{artefact}.{suffix}"

    def link(self, path: Path) -> str:
        """The path of a file relative to the page; empty where it is not there."""
        return Path(os.path.relpath(path, self.folder)).as_posix() if path.exists() else ""


# --- the study in five sentences ------------------------------------------------------------------------------------


def read_headline(results: Results) -> dict[str, Any]:
    """The headline numbers; a UserError where the scale has not been run."""
    return read_made_json(results.folder / "summary.json", "tgmm aggregate")


def headline_cell(headline: Mapping) -> tuple[str, dict[str, Mapping]]:
    """The cell of `effectiveness` that the sentences speak of, d = 8 if it is there, and its numbers by method."""
    cells = headline.get("effectiveness", {})
    name = "d8" if "d8" in cells else next(iter(cells), "")
    return name, cells.get(name, {})


def sentences(results: Results, headline: Mapping, claims: list[dict]) -> list[str]:
    """The study in at most five sentences; a sentence without its numbers is left out."""
    cell, numbers = headline_cell(headline)
    meta, networks = headline["meta"], len(list(results.folder.glob("models/*/config.json")))
    found = [
        "One transformer, trained on random mixtures, reads a data set and a number of components K and returns a "
        f"Gaussian mixture in one forward pass; here {networks} such networks stand beside EM, the spectral method and "
        f"the floors of both, on {meta.get('tasks_per_cell', '?')} test tasks a cell."
    ]
    found += _errors_in_words(cell, numbers)
    found += _evaluator_in_words(cell, numbers)
    if claims:
        first = [claim["answers"][0]["verdict"] for claim in claims]  # of the paper's own recipe
        some = sum(any(entry["verdict"] == "reproduced" for entry in claim["answers"]) for claim in claims)
        found.append(
            f"Of {len(claims)} claims of the paper, {some} hold in every cell for some recipe and "
            f"{first.count('reproduced')} for the paper's own; {first.count('not reproduced')} fail for the paper's "
            f"own, and {len(first) - first.count('reproduced') - first.count('not reproduced')} could not be decided."
        )
    return found


def _errors_in_words(cell: str, numbers: Mapping) -> list[str]:
    def error(method: str) -> str:
        values = numbers.get(method, {})
        mean, median = values.get("l2_error_mean"), values.get("l2_error_median")
        return "" if mean is None else f"{write_number(mean)} (median {write_number(median)})"

    where, found = f"At d = {cell.removeprefix('d')}", []
    if error("em") and error("em-restarts"):
        found.append(
            f"{where} one-start EM, the paper's baseline, has a mean ℓ2-error of {error('em')} and the best of ten "
            f"starts one of {error('em-restarts')}, so whether a network beats EM depends on which EM is meant."
        )
    if error("tgmm-components") and error(ORACLE):
        after = error("tgmm-components-em20")
        found.append(
            f"{where} the default network has {error('tgmm-components')} by itself"
            + (f", {after} with twenty EM steps after it," if after else "")
            + f" and EM started from the truth, the floor of likelihood methods, {error(ORACLE)}."
        )
    return found


def _evaluator_in_words(cell: str, numbers: Mapping) -> list[str]:
    values = numbers.get("em-restarts", {})
    ours, theirs = values.get("l2_error_mean"), values.get("l2_error_reference_mean")
    if ours is None or theirs is None:
        return []
    return [
        "The evaluator decides as much as the method: the reference code inverts the permutation that matches "
        f"components, which takes the error of ten-start EM from {write_number(ours)} to {write_number(theirs)} at "
        f"d = {cell.removeprefix('d')}."
    ]


def headline_table(headline: Mapping) -> dict[str, Any]:
    """Mean l2-errors of the task set `effectiveness`: heads and rows."""
    cells = headline.get("effectiveness", {})
    methods = {method for cell in cells.values() for method in cell}
    rows = [
        (method_style(method).label, [_mean(cell.get(method)) for cell in cells.values()])
        for method in in_legend_order(methods)
    ]
    return {"heads": [f"d = {name.removeprefix('d')}" for name in cells], "rows": rows}


def _mean(values: Mapping | None) -> str:
    if not values:
        return "–"
    mean, failed = values.get("l2_error_mean"), values.get("failure_share") or 0
    text = ("fails" if failed else "–") if mean is None else write_number(mean)
    return f"{text} ({failed:.0%} fail)" if failed and mean is not None else text


# --- claims ---------------------------------------------------------------------------------------------------------


def read_claims(results: Results) -> list[dict]:
    """Each claim with the answers of all recipes; none where the table has not been written."""
    path = results.file("tab-claims", "csv")
    if not path.is_file():
        return []
    rows = pd.read_csv(path, keep_default_na=False)
    return [
        {
            "text": group["text"].iloc[0],
            "criterion": group["criterion"].iloc[0],
            "figure": group["figure"].iloc[0],
            "answers": group.to_dict("records"),
            "recipes": {verdict: list(part["recipe"]) for verdict, part in group.groupby("verdict")},
        }
        for _, group in rows.groupby("claim", sort=False)
    ]


# --- figures and tables ---------------------------------------------------------------------------------------------


def questions(results: Results) -> list[dict]:
    """The questions in order, with their figures, tables and gaps."""
    found: dict[str, dict] = {}
    for shown in results.settings.artefacts:
        empty = {"title": shown.question, "figures": [], "tables": [], "gaps": []}
        part = found.setdefault(shown.question, empty)
        is_figure = shown.id.startswith("fig-")
        if not results.file(shown.id, "png" if is_figure else "csv").is_file():
            part["gaps"].append(f"{shown.id} has not been made yet")
        elif is_figure:
            part["figures"].append(figure(results, shown))
        else:
            part["tables"].append(table(results, shown))
    for shown in results.settings.absent:
        if shown.question in found:
            found[shown.question]["gaps"].append(f"{shown.id} is not made at scale {results.settings.scale}")
    return list(found.values())


def figure(results: Results, shown: ShownArtefact) -> dict[str, Any]:
    """A figure with its picture inside, its caption and the files beside it."""
    path = results.file(shown.id, "png")
    content = path.read_bytes()
    with Image.open(path) as image:
        (width, height), caption = image.size, image.info.get("Description", "")
    partner = results.file(shown.id.replace("fig-", "tab-", 1), "csv")
    links = {"PDF": results.file(shown.id, "pdf"), "CSV": partner} | _source_links(results, shown)
    return {
        "id": shown.id,
        "caption": caption,
        "data": f"data:image/png;base64,{base64.b64encode(content).decode()}",
        "width": width,
        "height": height,
        "links": {label: link for label, file in links.items() if (link := results.link(file))},
    }


def table(results: Results, shown: ShownArtefact) -> dict[str, Any]:
    """A table with its files, and as HTML where it is not too long."""
    markdown = results.file(shown.id, "md")
    text = markdown.read_text(encoding="utf-8") if markdown.is_file() else ""
    short = text and text.count("\n|") <= SHOWN_ROWS
    links = {"CSV": "csv", "Markdown": "md", "LaTeX": "tex"}
    files = {label: results.file(shown.id, suffix) for label, suffix in links.items()} | _source_links(results, shown)
    return {
        "id": shown.id,
        "html": MarkdownIt("commonmark", {"html": False}).enable("table").render(text) if short else "",
        "links": {label: link for label, file in files.items() if (link := results.link(file))},
    }


def _source_links(results: Results, shown: ShownArtefact) -> dict[str, Path]:
    """The rows behind an artefact: the folder of its scores, or the measurement or history that it is drawn from."""
    first = [results.root / source for source in shown.sources[:1]]
    return {"scores" if is_score(file) else file.name: file.parent if is_score(file) else file for file in first}


def is_score(source: Path) -> bool:
    """Whether a source of an artefact is a file of scores."""
    return source.parent.parent.name == "scores"


# --- cost and provenance --------------------------------------------------------------------------------------------


def costs(results: Results) -> list[dict]:
    """What every stage of the workflow took, by Snakemake's benchmark files; the dearest jobs of each by name."""
    folder = results.root / "benchmark_logs" / results.settings.scale
    jobs = pd.DataFrame(_benchmarks(folder), columns=["stage", "job", "seconds", "processor_seconds", "megabytes"])
    stages = [
        {
            "stage": stage,
            "jobs": len(part),
            "seconds": part["seconds"].sum(),
            "processor_seconds": part["processor_seconds"].sum(),
            "megabytes": part["megabytes"].max(),
            "dearest": part.nlargest(SHOWN_ROWS, "seconds").to_dict("records"),
        }
        for stage, part in jobs.groupby("stage")
    ]
    return sorted(stages, key=lambda stage: -stage["seconds"])


def _benchmarks(folder: Path) -> Iterable[tuple[str, str, float, float, float]]:
    for path in sorted(folder.rglob("*.tsv")):
        inner = path.relative_to(folder).with_suffix("")
        row = pd.read_csv(path, sep="\t", na_values="-").iloc[-1]
        yield inner.parts[0], inner.name, row["s"], row["cpu_time"], row["max_rss"]


def provenance(results: Results) -> list[dict]:
    """Every figure and table: what it is made from, its fingerprint, and the version of the code behind it."""
    rows = []
    for shown in results.settings.artefacts:
        kind = "figures" if shown.id.startswith("fig-") else "tables"
        path = results.file(shown.id, "png" if kind == "figures" else "csv")
        if path.is_file():
            sources = [results.root / source for source in shown.sources]
            there = [(source.relative_to(results.folder).as_posix(), fingerprint(source)) for source in sources]
            version = f"{kind} {VERSIONS[kind]}"
            rows.append({"id": shown.id, "file": fingerprint(path), "sources": there, "version": version})
    return rows


def networks(results: Results) -> list[dict]:
    """The record of every training."""
    found = []
    for path in sorted(results.folder.glob("models/*/config.json")):
        record = read_made_json(path, "tgmm train")["record"]
        found.append({"family": path.parent.name, "file": results.link(path), **record})
    return found


def fingerprint(path: Path) -> str:
    """The first digits of a file's SHA-256; empty where it is not there."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:HASH_DIGITS]


def origin(results: Results) -> dict[str, str]:
    """Where the page was made: commit, versions of packages, processor."""
    return {
        "commit": commit(results.root),
        "versions": ", ".join(f"{name} {installed(name)}" for name in PACKAGES),
        "python": platform.python_version(),
        "processor": processor_name(),
    }


def commit(root: Path) -> str:
    """The commit of a folder, and whether files differ from it; "unknown" outside of git."""

    def git(*arguments: str) -> str:
        run = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return run.stdout.strip() if run.returncode == 0 else ""

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except FileNotFoundError:
        return "unknown"
    return f"{head}, with changes" if head and changed else head or "unknown"
