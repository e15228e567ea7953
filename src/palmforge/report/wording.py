"""What the writers share: words for a cell, lines of provenance, a short name for a title."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from numbers import Integral
from typing import Any

from palmforge.report.document import Cell, Rate

MISSING = "–"
PROVENANCE, CONFIG = "Provenance", "Configuration"


def cell_words(cell: Cell) -> tuple[str, str]:
    """What a cell says, and its interval ("" where it has none).

    Whole numbers come with commas, others with four significant digits, rates in percent.
    """
    if cell is None or isinstance(cell, str):
        return (MISSING if cell is None else cell), ""
    if isinstance(cell, Rate):
        return _rate_words(cell)
    if isinstance(cell, bool):
        return ("yes" if cell else "no"), ""
    if isinstance(cell, Integral):
        return f"{int(cell):,}", ""
    return number_words(float(cell)), ""


def number_words(value: float | None, digits: int | None = None) -> str:
    """A number with so many decimals, or with four significant digits."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    words = f"{value:#.4g}" if digits is None else f"{value:,.{digits}f}"
    return words.removesuffix(".").replace("-", "−", 1 if value < 0 else 0)


def _rate_words(rate: Rate) -> tuple[str, str]:
    if not math.isfinite(rate.value):
        return MISSING, ""
    ends = [100 * end for end in (rate.low, rate.high) if end is not None and math.isfinite(end)]
    interval = "–".join(f"{end:.{rate.digits}f}" for end in ends) if len(ends) == 2 else ""
    return f"{100 * rate.value:.{rate.digits}f} %", interval


def provenance_lines(provenance: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Name and value, nested mappings as `packages / torch`, command lines as one would type."""
    lines: list[tuple[str, str]] = []
    for key, value in provenance.items():
        if isinstance(value, Mapping):
            lines += provenance_lines(value, f"{prefix}{key} / ")
        elif isinstance(value, (list, tuple)):
            lines.append((f"{prefix}{key}", shlex.join(str(item) for item in value)))
        else:
            lines.append((f"{prefix}{key}", MISSING if value is None else str(value)))
    return lines


class Slugs:
    """Short names for titles, in letters, digits and hyphens, none given twice."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def __call__(self, title: str) -> str:
        """A name for a title; the second of the same title ends in `-2`."""
        base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60] or "untitled"
        name, count = base, 1
        while name in self._given:
            count += 1
            name = f"{base}-{count}"
        self._given.add(name)
        return name
