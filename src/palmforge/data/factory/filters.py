"""Which generated palms are kept: quality, uniqueness between palms, consistency within one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from palmforge.errors import ConfigError

QUALITY = ("brightness", "contrast", "relief", "lines")
_BINS, _WIDTH = 12, 40


@dataclass(frozen=True)
class Filters:
    """Limits; a value at a limit passes. Cosines are of the recogniser that judges.

    Attributes:
        consistency: Of the cosine between a capture and its palm's reference. Below the lower it is
            another palm, above the upper a copy, which teaches a recogniser nothing.
        uniqueness: Of the cosine between a new palm's reference and those that were taken before:
            above it they are one palm. 0.5865 is where `synthetic-only-v1` accepts 0.1 % of
            impostors.
        brightness: Of the mean grey, in [0, 1].
        contrast: Of the standard deviation of grey, in [0, 0.5].
        relief: Of the depth of creases (`palm_quality`). Of rendered palms 2 % are below 0.017, of
            the embedded generator's a quarter: nobody could tell them apart.
        lines: Of the mean of the line map, in [0, 1]. Rendered palms have 0.05 to 0.14 at any size,
            those of the embedded generator 0.03 to 0.14, noise 0.17 to 0.25.
    """

    consistency: tuple[float, float] = (0.4, 0.99)
    uniqueness: float = 0.5865
    brightness: tuple[float, float] = (0.1, 0.95)
    contrast: tuple[float, float] = (0.02, 0.5)
    relief: tuple[float, float] = (0.016, 0.15)
    lines: tuple[float, float] = (0.02, 0.16)

    def __post_init__(self) -> None:
        for field in fields(self):
            limits = getattr(self, field.name)
            if field.name == "uniqueness":
                if limits == -1:
                    raise ConfigError("data.filters.uniqueness: -1 rejects all palms but the first")
                limits = (limits, 1.0)
            least = 0.0 if field.name in QUALITY else -1.0
            if len(limits) != 2 or not least <= limits[0] <= limits[1] <= 1:
                raise ConfigError(
                    f"data.filters.{field.name}: {list(limits)} must rise within [{least:g}, 1]"
                )

    def poor(self, scores: Mapping[str, float]) -> str | None:
        """Why a picture is not good enough: the name of a score of `QUALITY`; None if it is."""
        return next((name for name in QUALITY if not self._within(name, scores[name])), None)

    def inconsistent(self, cosine: float) -> str | None:
        """Why a capture is not to be kept: `consistency` (another palm, or a copy); or None."""
        return None if self._within("consistency", cosine) else "consistency"

    def _within(self, name: str, value: float) -> bool:
        least, most = getattr(self, name)
        return bool(least <= value <= most)  # NaN is not


def histogram(values: Sequence[float], limits: Sequence[float]) -> str:
    """Rows of text: how many values lie where, and where the limits are.

    Args:
        values: At least one.
        limits: Lower and upper, or an upper one alone.
    """
    finite = np.asarray(values, float)[np.isfinite(values)]
    if not len(finite):
        return "  (no value is finite)"
    low, high = (float(f([*finite, *limits])) for f in (min, max))
    counts, edges = np.histogram(finite, _BINS, (low, high if high > low else low + 1))
    rows = []
    for count, start, stop in zip(counts, edges, edges[1:], strict=False):
        bar = "#" * round(_WIDTH * count / counts.max())
        here = [f"{limit:g}" for limit in limits if start <= limit < stop or limit == stop == high]
        mark = f"   <- limit {', '.join(here)}" if here else ""
        rows.append(f"  {start:7.3f} … {stop:7.3f} {count:7,} {bar}{mark}")
    return "\n".join(rows)
