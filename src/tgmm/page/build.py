"""The page of a scale: one HTML file with everything inside, which works from disk and asks nothing of the net."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tgmm.figures.style import STYLES, method_style
from tgmm.files import read_made_json, write_atomically
from tgmm.page import contents
from tgmm.page.charts import specifications
from tgmm.page.contents import PageSettings, Results


def build_page(settings: PageSettings, root: Path, out: Path) -> list[str]:
    """Write the page of ``root/results/<scale>`` to ``out``; return what it lacks.

    Raises
    ------
    UserError : where the scale has no headline numbers, or a file of the results is damaged.
    """
    results = Results(root, settings)
    values = page_values(results)
    environment = Environment(
        loader=PackageLoader("tgmm.page", "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"duration": duration, "megabytes": megabytes}
    write_atomically(out, environment.get_template("page.html").render(values))
    return [gap for question in values["questions"] for gap in question["gaps"]]


def page_values(results: Results) -> dict[str, Any]:
    """What the template shows."""
    headline, claims = contents.read_headline(results), contents.read_claims(results)
    tasks = plane_tasks(results)
    return {
        "scale": results.settings.scale,
        "seed": results.settings.seed,
        "meta": headline["meta"],
        "untrained": results.settings.untrained,
        "sentences": contents.sentences(results, headline, claims),
        "headline": contents.headline_table(headline),
        "claims": claims,
        "questions": contents.questions(results),
        "costs": contents.costs(results),
        "provenance": contents.provenance(results),
        "networks": contents.networks(results),
        "origin": contents.origin(results),
        "live": bool(tasks),
        "library": Markup(vl_convert.javascript_bundle().replace("</script", "<\\/script")) if tasks else "",
        "plane": embedded({"tasks": tasks, "methods": method_names(tasks), "charts": specifications()}),
    }


def plane_tasks(results: Results) -> list[dict]:
    """The tasks of the live part; none where they have not been fitted."""
    path = results.folder / "plane.json"
    if not path.is_file():
        return []
    return read_made_json(path, "tgmm plane")


def method_names(tasks: list[dict]) -> dict[str, str]:
    """Method -> its name on the page, in the order of figures' legends."""
    used = {method for task in tasks for method in task["fits"]}
    order = [*STYLES, *sorted(used - set(STYLES))]
    return {method: method_style(method).label for method in order if method in used}


def embedded(value: Any) -> Markup:
    """Data as JSON that may stand inside a script element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def duration(seconds: float) -> str:
    """Such as "7 s", "12 min" or "3.4 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def megabytes(value: float) -> str:
    """Memory; a dash where it was too short to measure."""
    return "–" if value != value else f"{value:,.0f} MB"
