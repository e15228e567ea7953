"""A report as files."""

from __future__ import annotations

from pathlib import Path

from palmforge.data.atomic import write_aside
from palmforge.report.document import Report
from palmforge.report.html import to_html
from palmforge.report.markdown import to_markdown


def write_report(report: Report, folder: str | Path, name: str = "report") -> Path:
    """Writes `<name>.html`, which needs no other file, and `<name>.md` with its `figures/`.

    Each file is there whole or not at all; an earlier report of this name is replaced.

    Args:
        report: What to write.
        folder: Made if it is not there.
        name: Of the two files, and first part of the figures' names.

    Returns:
        The HTML file.
    """
    folder = Path(folder)
    texts = {f"{name}.html": to_html(report), f"{name}.md": to_markdown(report, folder, name)}
    for file, text in texts.items():
        with write_aside(folder / file) as aside:
            aside.write_text(text, encoding="utf-8")
    return folder / f"{name}.html"
