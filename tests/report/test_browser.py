"""The page in a headless Chromium: on a phone and a desk, light and dark."""

from __future__ import annotations

import importlib.util
import io
import json

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from reports import example_report

from palmforge.report import write_report
from palmforge.report.svg import THEME

_spec = importlib.util.spec_from_file_location("shot", ROOT / "scripts/report_screenshot.py")
shot = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(shot)

pytestmark = [pytest.mark.skipif(shot.missing() is not None, reason=str(shot.missing()))]

# WCAG 2.2 contrast of every text with what lies behind it: [ratio, text], worst first.
CONTRASTS = """
const parse = c => c.match(/[\\d.]+/g).map(Number);
const luminance = c => parse(c).slice(0, 3).map(v => v / 255)
  .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = e => {
  for (; e; e = e.parentElement) {
    const [r, g, b, a = 1] = parse(getComputedStyle(e).backgroundColor);
    if (a > 0) return `rgb(${r}, ${g}, ${b})`;
  }
};
const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
const rows = [];
for (const e of document.body.querySelectorAll("*")) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  const ink = getComputedStyle(e)[e.closest("svg") ? "fill" : "color"];
  rows.push([ratio(luminance(ink), luminance(behind(e))), e.textContent]);
}
return rows.sort((a, b) => a[0] - b[0]);
"""
PICTURES = """
const done = arguments[arguments.length - 1];
const width = image => image.decode().then(() => image.naturalWidth, () => 0);
Promise.all([...document.images].map(width)).then(done);
"""


def _contrast(first: str, second: str) -> float:
    """Of two colours as `#rrggbb`, in [1, 21]."""
    rgb = np.array([[int(c[at : at + 2], 16) / 255 for at in (1, 3, 5)] for c in (first, second)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return float((high + 0.05) / (low + 0.05))


@pytest.fixture(scope="module")
def browser():
    with shot.chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_report(example_report(pairs=5000), tmp_path_factory.mktemp("report"))


@pytest.fixture(params=[(390, False), (390, True), (1200, False), (1200, True)], ids=str)
def opened(request, browser, page):
    width, dark = request.param
    for log in ("browser", "performance"):
        browser.get_log(log)  # of the page before
    shot.show(browser, page, width, dark)
    return browser, width, dark


def test_the_page_is_whole(opened, page):
    browser, width, dark = opened
    background = "getComputedStyle(document.documentElement).backgroundColor"
    assert (browser.execute_script(f"return {background}") == "rgb(20, 23, 27)") is dark
    headings = [h.text for h in browser.find_elements("css selector", "h1, h2")]
    assert headings[0] == "XJTU-UP, open set"
    assert {"Verification", "Pairs", "Provenance", "Configuration"} <= set(headings)
    browser.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    seen, inside = browser.execute_script(
        "return [innerWidth, document.documentElement.scrollWidth]"
    )
    assert seen == width and inside <= width

    texts = browser.execute_script(CONTRASTS)
    assert len(texts) > 200
    assert texts[0][0] >= 4.5, texts[:5]
    get = "return getComputedStyle(document.documentElement).getPropertyValue('--' + arguments[0])"
    page_colour, *lines = (browser.execute_script(get, name) for name in ("page", *THEME.values()))
    assert min(_contrast(page_colour, line) for line in lines) >= 3  # WCAG 2.2, 1.4.11

    widths = browser.execute_async_script(PICTURES)
    assert len(widths) == 16 and min(widths) == 128
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('.plot svg')].map(s => s.getBoundingClientRect())"
    )
    assert len(drawn) == 4
    assert all(300 < box["width"] <= 576 and box["height"] > 200 for box in drawn)

    assert browser.get_log("browser") == []  # console messages, page errors, refused requests
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    urls = [s["request"]["url"] for s in sent if not s["documentURL"].startswith("chrome:")]
    assert [url for url in urls if not url.startswith("data:")] == [page.as_uri()]


def test_the_console_log_would_have_told(browser, tmp_path):
    """So that silence above means something: this page is refused a script and a picture."""
    page = tmp_path / "bad.html"
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
    page.write_text(
        f"<!doctype html>{policy}<script>1</script><img src='http://127.0.0.1:9/x.png'>"
    )
    browser.get_log("browser")
    shot.show(browser, page, 390, dark=False)
    assert len(browser.get_log("browser")) >= 2


def test_a_photograph_shows_the_theme_and_the_width(browser, page):
    for dark, expected in ((False, (255, 255, 255)), (True, (20, 23, 27))):
        shot.show(browser, page, 390, dark)
        with Image.open(io.BytesIO(shot.photograph(browser, height=300))) as picture:
            assert picture.size == (780, 600)
            assert picture.convert("RGB").getpixel((2, 2)) == expected
