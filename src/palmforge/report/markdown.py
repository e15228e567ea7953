"""A report as Markdown, as GitHub reads it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from palmforge.data.atomic import write_aside
from palmforge.report.document import (
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
from palmforge.report.pictures import figure_png, palm_jpeg
from palmforge.report.wording import (
    CONFIG,
    PROVENANCE,
    Slugs,
    cell_words,
    number_words,
    provenance_lines,
)

_RULES = {"l": ":---", "r": "---:", "c": ":---:"}
_Keep = Callable[[str, Callable[[], bytes]], str | None]  # name, its content → link, or None


def to_markdown(report: Report, folder: Path | None = None, name: str = "report") -> str:
    """The text.

    Args:
        report: What to write.
        folder: Where the text will lie: plots are written to `figures/` in it as PNG, palms (if the
            report has any) as JPEG. None: no file is written, and only their captions are told.
        name: First part of the names of those files.
    """
    slugs = Slugs()

    def keep(file: str, content: Callable[[], bytes]) -> str | None:
        if folder is None:
            return None
        stem, _, suffix = file.rpartition(".")
        link = f"figures/{slugs(f'{name} {stem}')}.{suffix}"
        with write_aside(folder / link) as aside:
            aside.write_bytes(content())
        return link

    parts = [f"# {_plain(report.title)}"]
    if report.subtitle:
        parts.append(_plain(report.subtitle))
    parts += _blocks(report.blocks, keep)
    if report.provenance:
        lines = [
            f"- {_plain(key)}: {_code(said)}" for key, said in provenance_lines(report.provenance)
        ]
        parts += [f"## {PROVENANCE}", "\n".join(lines)]
    if report.config_yaml is not None:
        parts += [f"## {CONFIG}", _fenced(report.config_yaml, "yaml")]
    return "\n\n".join(parts) + "\n"


def _blocks(blocks: Sequence[Block], keep: _Keep) -> list[str]:
    return [part for block in blocks for part in _block(block, keep)]


def _block(block: Block, keep: _Keep) -> list[str]:
    match block:
        case Heading():
            return [f"{'#' * block.level} {_plain(block.text)}"]
        case Paragraph():
            return [_plain(block.text)]
        case Table():
            rows = [[_cell_text(*cell_words(cell)) for cell in row] for row in block.rows]
            return _table(block.title, block.columns, rows, block.alignment, block.note)
        case HeatMap():
            rows = [
                [name, *(number_words(value, block.digits) for value in values)]
                for name, values in zip(block.rows, block.values, strict=True)
            ]
            columns = [block.corner, *block.columns]
            return _table(block.title, columns, rows, "l" + "r" * len(block.columns), block.note)
        case Plot():
            link = keep(f"{block.title}.png", lambda: figure_png(block.figure))
            picture = [f"![{_plain(block.title)}]({link})"] if link else []
            return [f"**{_plain(block.title)}**", *picture, *_told(block.caption)]
        case PairList():
            return _pairs(block, keep)
        case Details():
            summary = f"<details><summary>{_plain(block.summary)}</summary>"
            return [summary, *_blocks(block.blocks, keep), "</details>"]
    raise TypeError(f"a report has no blocks of type {type(block).__name__}")


def _table(
    title: str, columns: Sequence[str], rows: list[list[str]], alignment: str, note: str
) -> list[str]:
    lines = [_row(columns), "|" + "|".join(_RULES[letter] for letter in alignment) + "|"]
    lines += [_row(row) for row in rows]
    return [f"**{_plain(title)}**", "\n".join(lines), *_told(note)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _cell_text(value: str, interval: str) -> str:
    return f"{value} ({interval})" if interval else value


def _pairs(block: PairList, keep: _Keep) -> list[str]:
    lines = []
    for number, pair in enumerate(block.shown, start=1):
        links = [
            keep(f"{block.title} {number} {side}.jpg", lambda image=image: palm_jpeg(image))  # type: ignore[misc]
            for side, image in (("left", pair.left), ("right", pair.right))
        ]
        shown = " ".join(f"![]({link})" for link in links if link)
        lines.append(f"{number}. {_plain(pair.caption)} {shown}".rstrip())
    return [
        f"**{_plain(block.title)}**",
        *(["\n".join(lines)] if lines else []),
        *_told(block.remark),
    ]


def _told(text: str) -> list[str]:
    return [_plain(text)] if text else []


def _plain(text: str) -> str:
    """Text that Markdown and the HTML in it take for nothing but text, on one line."""
    line = re.sub(r"([\\`*\[\]<>|&~])", r"\\\1", " ".join(text.split()))
    return re.sub(r"^([#+-]|\d+(?=[.)]\s))", r"\\\1", line)


def _code(text: str) -> str:
    """A code span; its fence is longer than any run of backticks within."""
    line = " ".join(text.split())
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"


def _fenced(text: str, language: str) -> str:
    fence = "`" * max(3, max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
