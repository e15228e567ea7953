"""A report as one HTML file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from palmforge.report.document import (
    ALIGNMENTS,
    Block,
    Details,
    Heading,
    HeatMap,
    PairList,
    Paragraph,
    Plot,
    Report,
    Table,
)
from palmforge.report.pictures import data_uri, palm_jpeg
from palmforge.report.wording import (
    CONFIG,
    PROVENANCE,
    Slugs,
    cell_words,
    number_words,
    provenance_lines,
)

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def to_html(report: Report) -> str:
    """The page. Equal reports give equal bytes.

    All text is escaped; figures are inline SVG, palms inline JPEG. A content security policy in the
    page forbids scripts and every request.
    """
    writer = _Writer()
    body = writer.blocks(report.blocks)
    closing = [PROVENANCE] * bool(report.provenance) + [CONFIG] * (report.config_yaml is not None)
    anchors = {title: writer.anchor(title, 2) for title in closing}
    page = _environment().get_template("page.html")
    return page.render(
        report=report,
        body=body,
        contents=writer.contents,
        anchors=anchors,
        provenance=provenance_lines(report.provenance),
    )


@cache
def _environment() -> Environment:
    """Templates and style sheet lie with the assets, which the wheel takes along."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("palmforge", "assets/report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(cell_words=cell_words, number_words=number_words)
    return environment


class _Writer:
    """Goes through the blocks once and keeps the table of contents."""

    def __init__(self) -> None:
        self.contents: list[tuple[int, str, str]] = []  # level, anchor, text
        self._slugs = Slugs()
        self._macros: Any = _environment().get_template("blocks.html").module

    def anchor(self, text: str, level: int) -> str:
        """Notes a heading in the contents."""
        anchor = self._slugs(text)
        self.contents.append((level, anchor, text))
        return anchor

    def blocks(self, blocks: Sequence[Block]) -> Markup:
        """Plots that follow one another share a row where there is room."""
        from markupsafe import Markup

        parts: list[Markup] = []
        for plots, group in groupby(blocks, lambda block: isinstance(block, Plot)):
            written = Markup("").join(self._block(block) for block in group)
            parts.append(self._macros.plots(written) if plots else written)
        return Markup("").join(parts)

    def _block(self, block: Block) -> Markup:
        macros = self._macros
        match block:
            case Heading():
                return macros.heading(block, self.anchor(block.text, block.level))
            case Paragraph():
                return macros.paragraph(block)
            case Table():
                sides = [ALIGNMENTS[letter] for letter in block.alignment]
                return macros.table(block, self._slugs(block.title), sides)
            case HeatMap():
                return macros.heat_map(block, self._slugs(block.title), _colours(block))
            case Plot():
                return self._plot(block)
            case PairList():
                pictures = [
                    [data_uri(palm_jpeg(i)) for i in (p.left, p.right)] for p in block.shown
                ]
                return macros.pairs(block, pictures)
            case Details():
                return macros.details(block.summary, self.blocks(block.blocks))
        raise TypeError(f"a report has no blocks of type {type(block).__name__}")

    def _plot(self, plot: Plot) -> Markup:
        from markupsafe import Markup

        from palmforge.report.svg import figure_svg  # loads matplotlib and torch

        svg = figure_svg(plot.figure, self._slugs(plot.title) + "-", plot.title)
        return self._macros.plot(plot, Markup(svg))


def _colours(heat_map: HeatMap) -> list[list[str]]:
    """CSS of each cell: a colour that grows with the value, and black or white upon it."""
    told = [v for row in heat_map.values for v in row if v is not None and math.isfinite(v)]
    low = heat_map.low if heat_map.low is not None else min(told, default=0.0)
    high = heat_map.high if heat_map.high is not None else max(told, default=1.0)
    return [[_cell_colour(value, low, high) for value in row] for row in heat_map.values]


def _cell_colour(value: float | None, low: float, high: float) -> str:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if value is None or math.isnan(value):
        return ""
    share = (value - low) / (high - low) if high > low else 0.5
    red, green, blue, _ = colormaps["cividis"](min(max(share, 0.0), 1.0))
    # WCAG 2.2, relative luminance; below 0.179 white has the greater contrast, at least 4.58.
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    text = "#ffffff" if luminance < 0.179 else "#000000"
    return f"background-color: {to_hex((red, green, blue))}; color: {text}"
