"""The page's structure: nothing asks for anything, every picture is whole, what is not there is said to be missing."""

from __future__ import annotations

import base64
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from page_results import EMPTY, plane_tasks, write_results
from PIL import Image

from tgmm.errors import UserError
from tgmm.page.build import build_page, duration, embedded
from tgmm.page.charts import specifications
from tgmm.page.contents import commit

FETCHING = {"src", "srcset", "poster", "data", "background", "action", "formaction", "ping", "manifest"}
VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """Every element with its attributes, the texts of scripts and of the page, and elements that are not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.texts: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts[self.open[-1] if self.open else ""] = self.texts.get(self.open[-1] if self.open else "", "") + data

    def named(self, *tags: str) -> list[dict]:
        return [attributes for tag, attributes in self.elements if tag in tags]


@pytest.fixture(scope="module")
def parsed(page) -> Page:
    return Page(page.read_text(encoding="utf-8"))


def test_nothing_on_the_page_asks_for_anything(parsed):
    assert not parsed.named("link", "iframe", "object", "embed", "base", "video", "audio")
    for tag, attributes in parsed.elements:
        for name in FETCHING & set(attributes):
            assert attributes[name].startswith("data:"), (tag, name)
        assert "url(" not in attributes.get("style", "")
        assert not any(name.startswith("on") for name in attributes)
    assert "url(" not in parsed.texts["style"]
    assert "@import" not in parsed.texts["style"]
    policy = next(entry["content"] for entry in parsed.named("meta") if "http-equiv" in entry)
    assert "default-src 'none'" in policy
    assert "img-src data:" in policy
    assert "http" not in policy


def test_every_element_is_closed_and_every_link_leads_somewhere(parsed, page):
    assert parsed.open == []
    names = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(names) == len(set(names))
    for link in parsed.named("a"):
        target = link["href"]
        found = target[1:] in [*names, "fig-anisotropic", "fig-backbone", "fig-mean-shift", "fig-sample-size-shift"]
        assert found if target.startswith("#") else (page.parent / target).exists(), target


def test_every_picture_is_whole_and_has_a_text_in_its_place(parsed, page):
    pictures = [entry for entry in parsed.named("img") if "src" in entry]
    assert len(pictures) == 1
    for picture in pictures:
        content = base64.b64decode(picture["src"].removeprefix("data:image/png;base64,"), validate=True)
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            assert image.size == (int(picture["width"]), int(picture["height"]))
        assert picture["alt"].startswith("fig-effectiveness: ")
        assert len(picture["alt"]) > 40
        assert content == (page.parent / "figures/fig-effectiveness.png").read_bytes()


def test_everything_that_is_operated_has_a_name(parsed):
    for tag, attributes in parsed.elements:
        if attributes.get("role") == "img" or attributes.get("class") == "enlarge":
            assert len(attributes["aria-label"]) > 10, (tag, attributes)
    assert parsed.elements[0] == ("html", {"lang": "en"})
    assert parsed.texts["label"].split() == ["Components", "K", "Task", "Method", "Step"]


def test_the_sentences_name_the_numbers_of_the_summary(page):
    text = page.read_text(encoding="utf-8")
    cell = json.loads((page.parent / "summary.json").read_text())["effectiveness"]["d8"]
    from tgmm.tables.render import write_number

    assert "The study in 5 sentences" in text
    for method in ("em", "em-restarts", "tgmm-components", "tgmm-components-em20", "em-oracle"):
        assert f"{write_number(cell[method]['l2_error_mean'])} (median" in text, method


def test_what_is_not_there_is_labelled(page):
    text = page.read_text(encoding="utf-8")
    assert "fig-late has not been made yet" in text
    assert "fig-paper is not made at scale laptop" in text
    assert "Not trained at this scale: isotropic-d32-n32-components" in text
    assert EMPTY not in text
    assert "&lt;b&gt;another&lt;/b&gt;" in text


def test_a_page_without_figures_tasks_or_costs_says_so(tmp_path):
    settings = write_results(tmp_path)
    results = tmp_path / "results/laptop"
    for path in [*results.glob("figures/*"), *results.glob("tables/*"), *tmp_path.glob("benchmark_logs/*/*/*")]:
        path.unlink()
    gaps = build_page(settings, tmp_path, results / "index.html")
    text = (results / "index.html").read_text(encoding="utf-8")
    assert len(gaps) == 5
    for gap in ("tab-claims, has not been made", "No tasks in the plane", "no measurements of Snakemake's"):
        assert gap in text
    assert "vegaEmbed=" not in text
    assert len(text) < 100_000


@pytest.mark.parametrize(("name", "message"), [("summary.json", "tgmm aggregate"), ("plane.json", "tgmm plane")])
def test_damaged_results_are_refused_by_name(tmp_path, name, message):
    settings = write_results(tmp_path)
    (tmp_path / "results/laptop" / name).write_text("{")
    with pytest.raises(UserError, match=f"{name}: damaged.*{message}"):
        build_page(settings, tmp_path, tmp_path / "index.html")
    assert not (tmp_path / "index.html").exists()


@pytest.mark.slow
def test_the_same_results_give_the_same_page(tmp_path):
    settings = write_results(tmp_path)
    pages = []
    for name in ("first.html", "second.html"):
        build_page(settings, tmp_path, tmp_path / name)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


def test_tasks_in_the_plane_are_consistent():
    for task in plane_tasks():
        N, K = len(task["points"]), task["K"]
        assert len(task["truth"]) == K
        assert len(task["labels"]) == N
        assert max(task["labels"]) < K
        for fit in task["fits"].values():
            assert "failure" in fit or (len(fit["components"]) == K and len(fit["responsibilities"]) == N)
            assert all(abs(sum(shares) - 100) <= K for shares in fit.get("responsibilities", []))
        path = task["paths"]["em"]
        assert len(path["steps"]) == len(path["labels"]) == len(path["errors"]) == 7
        assert all(len(labels) == N for labels in path["labels"])
    assert any("failure" in task["fits"]["spectral"] for task in plane_tasks() if task["K"] == 3)


def test_charts_are_valid_and_can_be_drawn(tasks):
    import vl_convert

    charts = specifications()
    assert set(charts) == {"fit", "em", "network", "errors"}
    points = [{"x": x, "y": y, "component": 1, "certainty": 1, "true": 1} for x, y in tasks[0]["points"]]
    rows = [dict(zip(("weight", "x", "y", "sx", "sy"), part, strict=True)) for part in tasks[0]["truth"]]
    rows = [row | {"kind": kind, "component": k + 1} for kind in ("truth", "estimate") for k, row in enumerate(rows)]
    chart = charts["fit"] | {"datasets": {"points": points, "components": rows}, "width": 200, "height": 200}
    drawn = vl_convert.vegalite_to_svg(chart)
    assert drawn.count("<path") > len(points)


def test_embedded_data_cannot_end_the_script():
    text = embedded({"a": "</script><script>alert(1)</script>"})
    assert "<" not in text
    assert json.loads(text) == {"a": "</script><script>alert(1)</script>"}


def test_durations_are_read_at_a_glance():
    assert [duration(value) for value in (7.4, 99, 125, 7200)] == ["7 s", "99 s", "2 min", "2.0 h"]


def test_the_commit_is_unknown_outside_of_git(tmp_path):
    assert commit(tmp_path) == "unknown"
    assert commit(Path(__file__).parent) != "unknown"
