"""The page in headless Chromium: no error, no request, every picture loads, the live part answers mouse and keys."""

from __future__ import annotations

import shutil

import pytest

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SMALLEST_CONTRAST = 4.5  # of text to its background, by WCAG 2.1, level AA
CONTRAST = """() => {
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const found = rgb(getComputedStyle(node).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll("main *, header *")].filter((node) => !node.closest("svg") &&
    [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()));
  return Math.min(...texts.map((node) => {
    const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  }));
}"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: `apt-get install chromium` brings one")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[1280, 390])
def shown(request, browser, page):
    """The page at a width, with what went wrong: (page, messages, requests)."""
    tab = browser.new_page(viewport={"width": request.param, "height": 900})
    messages, requests = [], []
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.on("request", lambda asked: requests.append(asked.url))
    tab.goto(page.as_uri())
    tab.wait_for_selector("body[data-live=ready]", timeout=120_000)
    yield tab, messages, requests
    tab.close()


def text_of(tab, name: str) -> str:
    return tab.text_content(f"#{name}")


def test_the_page_opens_whole(shown, page):
    tab, messages, requests = shown
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.evaluate("document.querySelectorAll('img').forEach((img) => { img.loading = 'eager'; })")
    tab.wait_for_function("[...document.images].filter((img) => img.src).every((img) => img.naturalWidth > 0)")
    assert tab.evaluate(CONTRAST) >= SMALLEST_CONTRAST
    tab.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_live_part_answers(shown):
    tab, messages, _ = shown
    first = tab.inner_html("#fit svg")
    tab.focus("#task")
    tab.keyboard.press("ArrowRight")
    assert text_of(tab, "task-shown") == "2 of 2"
    tab.wait_for_function("(before) => document.querySelector('#fit svg').innerHTML !== before", arg=first)
    tab.select_option("#method", "spectral")
    assert text_of(tab, "fit-text").startswith("Spectral gives no estimate: ")
    tab.select_option("#covariance", "anisotropic")
    tab.select_option("#K", "2")
    tab.select_option("#method", "em")
    assert "ℓ2-error" in text_of(tab, "fit-text")
    tab.hover("#fit svg .mark-symbol path >> nth=0")
    tab.wait_for_function("document.querySelector('.vg-tooltip')?.textContent.includes('%')")
    assert messages == []


def test_steps_go_on_by_keys_and_buttons(shown, tasks):
    tab, messages, _ = shown
    task = next(task for task in tasks if task["covariance"] == "isotropic" and task["K"] == 3)
    errors = task["paths"]["em"]["errors"]
    for step in (1, 2):
        tab.focus("#step")
        tab.keyboard.press("ArrowRight")
        assert f"EM after {step} iterations: ℓ2-error {errors[step]:g}" in text_of(tab, "em-text")
    tab.click("#back")
    assert text_of(tab, "step-shown") == "1"
    assert "No network" in text_of(tab, "network-text")
    tab.click("#play")
    tab.wait_for_function("document.querySelector('#step').value === document.querySelector('#step').max")
    tab.wait_for_function("document.querySelector('#play').textContent === 'Play'")
    assert messages == []


def test_a_figure_is_enlarged_and_put_away(shown):
    tab, messages, _ = shown
    tab.click("#fig-effectiveness .enlarge")
    assert tab.is_visible("dialog img")
    tab.keyboard.press("Escape")
    assert not tab.is_visible("dialog img")
    tab.click("a.shows >> nth=0")
    assert tab.get_attribute("dialog img", "alt").startswith("fig-effectiveness")
    assert messages == []
