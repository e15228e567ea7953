"""The page: one file, safe, the same bytes each time."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from reports import PROVENANCE, example_report, palm, scores

from palmforge.plots import COLOURS, det_figure
from palmforge.report import (
    Details,
    Heading,
    HeatMap,
    Pair,
    PairList,
    Paragraph,
    Plot,
    Rate,
    Report,
    Table,
    to_html,
)

NASTY = "<script>alert('x')</script> & \"quoted\""
VOID = {"meta", "link", "img", "br"}


class _Page(HTMLParser):
    """Collects the page, and fails at a tag that is closed out of turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(key, value or "") for key, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(" ".join(data.split()))

    def values(self, *names: str) -> list[str]:
        return [value for key, value in self.attributes if key in names]


@pytest.fixture(scope="module")
def page() -> str:
    return to_html(example_report())


def test_every_tag_is_closed_and_every_anchor_leads_somewhere(page):
    parsed = _Page(page)
    ids = parsed.values("id")
    assert len(ids) == len(set(ids))
    anchors = [link[1:] for link in parsed.values("href") if link.startswith("#")]
    anchors += re.findall(r"url\(#([^)]+)\)", page)
    assert anchors and set(anchors) <= set(ids)
    headings = {"Verification", "Distances", "Across domains", "Pairs", "Provenance"}
    assert headings <= set(parsed.text)
    assert parsed.tags.count("svg") == 4


def test_nothing_comes_from_elsewhere_and_nothing_runs(page):
    parsed = _Page(page)
    links = parsed.values("href", "src")
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "script" not in parsed.tags and "http" not in page.replace("http-equiv", "")
    assert "@import" not in page and not re.search(r"url\((?!#)", page)


def test_equal_reports_give_equal_bytes(page):
    assert to_html(example_report()) == page
    assert len(page) < 300_000


def test_text_is_text_wherever_it_stands():
    figure = Figure(figsize=(2, 2))
    figure.add_subplot().set_title(NASTY)
    pair = Pair(palm(0), palm(1), NASTY)
    blocks = [
        Heading(NASTY), Paragraph(NASTY), Plot(NASTY, figure, NASTY),
        PairList(NASTY, [pair], NASTY),
        Table(NASTY, [NASTY, "b"], [[NASTY, 1]], NASTY), Details(NASTY, [Paragraph(NASTY)]),
        HeatMap(NASTY, [NASTY], [NASTY], [[1.0]], NASTY, NASTY),
    ]  # fmt: skip
    page = to_html(Report(NASTY, NASTY, blocks, {NASTY: NASTY}, NASTY))
    parsed = _Page(page)
    assert "script" not in parsed.tags
    assert "alert" in page and "<script" not in page
    assert parsed.text.count(NASTY) >= 15


def test_rates_have_intervals_and_missing_values_a_dash():
    rows = [
        ["a", Rate(0.03512, 0.0301, 0.0412), 1234567, 0.5, True],
        ["b", Rate(0.5), None, math.nan, False],
        ["c", Rate(math.nan, 0.1, 0.2), np.int64(12), -math.inf, None],
        ["d", Rate(1e-5, 0.0, math.nan, digits=3), 0, np.float32(-2.5), None],
    ]
    parsed = _Page(to_html(Report("t", blocks=[Table("t", list("abcde"), rows, align="lrrrc")])))
    said = [text for text in parsed.text if text]
    assert said[said.index("3.51 %") + 1] == "3.01–4.12"
    for words in ("50.00 %", "1,234,567", "0.5000", "yes", "0.001 %", "−2.500", "−∞", "12", "no"):
        assert words in said
    assert said.count("–") == 5
    assert parsed.values("class").count("center") == 5


def test_columns_of_numbers_are_set_right():
    table = Table("t", ["a", "b", "c"], [["x", 1, "y"], ["z", None, Rate(0.1)]])
    assert table.alignment == "lrl"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Table("t", ["a", "b"], [[1, 2], [1]]), "row 2 has 1 cells, there are 2"),
        (lambda: Table("t", ["a", "b"], [], align="lx"), "align must be 2 letters"),
        (lambda: HeatMap("h", ["a"], ["b"], [[1.0, 2.0]]), "rows of 1 values"),
        (lambda: Heading("h", 1), "level must be 2 or 3"),
        (lambda: Pair(palm(0)[..., 0], palm(0), "p"), r"left must be \[H, W, 3\] uint8"),
        (lambda: Pair(palm(0), palm(0) / 255, "p"), "right must be .* float64"),
    ],
)
def test_blocks_that_cannot_be_shown_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_what_is_no_block_is_refused():
    with pytest.raises(TypeError, match="no blocks of type str"):
        to_html(Report("t", blocks=["text"]))  # type: ignore[list-item]


def test_palms_are_there_only_if_put_in_small_and_no_more_than_the_limit():
    plain = to_html(Report("t", blocks=[Paragraph("p")], provenance=PROVENANCE))
    assert "<img" not in plain and "data:image" not in plain
    pairs = [Pair(palm(0, 300), palm(1, 60), f"pair {i}") for i in range(5)]
    page = to_html(Report("t", blocks=[PairList("pairs", pairs, "A note.", limit=2)]))
    assert page.count("<img") == 4
    assert "A note. 2 of 5 pairs." in page and "pair 2" not in page
    assert max(len(uri) for uri in _Page(page).values("src")) < 20_000


def test_figures_speak_in_the_colours_of_the_page_and_are_left_as_they_were():
    figure = Figure(figsize=(3, 2))
    axes = figure.add_subplot()
    for colour in (*COLOURS, "0.9", "#123456"):
        axes.plot([0, 1], [0, 1], color=colour)
    page = to_html(Report("t", blocks=[Plot("p", figure), Plot("p", figure)]))
    svg = page[page.index("<svg") : page.index("</svg>")]
    for name in ("blue", "vermilion", "green", "purple", "orange", "sky", "ink", "rule"):
        assert f"stroke: var(--{name})" in svg
        assert page.count(f"--{name}: #") == 2  # light and dark
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == {"#123456"}
    assert "matplotlib" not in svg.lower() and "DejaVu" not in svg
    assert figure.get_facecolor() == (1, 1, 1, 1)


def test_a_curve_of_many_pairs_stays_small():
    counts = scores(0.3, 0, pairs=200_000)
    page = to_html(Report("t", blocks=[Plot("DET", det_figure({"a": counts}, max_points=400))]))
    assert len(page) < 40_000


def test_heat_map_cells_can_be_read_and_gaps_are_empty():
    values = [[0.0, 5.0, 10.0], [None, math.nan, 20.0]]
    page = to_html(Report("t", blocks=[HeatMap("h", "ab", "xyz", values, high=10.0, digits=1)]))
    cells = re.findall(r"background-color: (#\w{6}); color: (#\w{6})\">([^<]+)<", page)
    assert [text for *_, text in cells] == ["0.0", "5.0", "10.0", "20.0"]
    assert cells[0][1] == "#ffffff" and cells[2][1] == "#000000"
    assert cells[2][0] == cells[3][0]  # beyond the scale: its last colour
    assert page.count("<td>–</td>") == 2
