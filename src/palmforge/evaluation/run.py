"""Recognisers × parts → comparisons."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from palmforge.data.progress import progress_bar
from palmforge.data.records import PalmRecord
from palmforge.errors import DataError
from palmforge.evaluation.data import PalmSet
from palmforge.evaluation.parts import Part, Protocol, has_intervals
from palmforge.metrics.comparison import Comparison
from palmforge.recognition import Recognizer


@dataclass
class Judged:
    """A recogniser with its comparisons.

    Attributes:
        name: What it is called in tables.
        comparisons: By the name of the part.
        template_bytes: Size of one template; None: not known (scores that were read again).
        embed_ms: Time of one ROI here, in milliseconds.
    """

    name: str
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    template_bytes: int | None = None
    embed_ms: float | None = None


@dataclass(frozen=True)
class Figuring:
    """How figures are made of comparisons.

    Attributes:
        fars: False accept rates to report the TAR at, in (0, 1].
        intervals: Resamples of identities for 95 % intervals; 0: none.
        seed: Of the resamples.
    """

    fars: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    intervals: int = 1000
    seed: int = 0

    def comparison(self, part: Part, templates: Tensor, distance, intervals: int) -> Comparison:
        """Of a part, with templates in the order of its records."""
        labels, roles = labels_of(part.records), np.array(part.roles, np.int64)
        return Comparison(templates, labels, roles, distance, self.fars, intervals, self.seed)


def judge(
    name: str,
    recogniser: Recognizer,
    sets: Sequence[tuple[PalmSet, Sequence[Part]]],
    figuring: Figuring,
    protocol: Protocol,
) -> Judged:
    """Embeds each palm once, whatever number of parts it is in.

    Args:
        name: What to call it.
        recogniser: Makes and compares templates.
        sets: Palms, and the parts made of them.
        figuring: How figures are made.
        protocol: Decides which figures get intervals.

    Raises:
        DataError: If a template holds NaN or infinity.
    """
    judged = Judged(name, template_bytes=recogniser.template_bytes)
    seconds, images = 0.0, 0
    for palms, parts in sets:
        used = {record.path: record for part in parts for record in part.records}
        records = list(used.values())
        templates, taken = _templates(name, recogniser, palms, records)
        seconds, images = seconds + taken, images + len(records)
        row_of = {record.path: row for row, record in enumerate(records)}
        for part in parts:
            rows = torch.tensor([row_of[record.path] for record in part.records])
            resamples = figuring.intervals if has_intervals(protocol, part.name) else 0
            judged.comparisons[part.name] = figuring.comparison(
                part, templates[rows], recogniser.distance, resamples
            )
    judged.embed_ms = 1000 * seconds / max(1, images)
    return judged


def labels_of(records: Sequence[PalmRecord]) -> np.ndarray:
    """`[N]` int64, the identities in the order of their names."""
    return np.unique([record.identity for record in records], return_inverse=True)[1].astype(
        np.int64
    )


def _templates(
    name: str, recogniser: Recognizer, palms: PalmSet, records: list[PalmRecord]
) -> tuple[Tensor, float]:
    parts, seconds = [], 0.0
    total = -(-len(records) // 64)
    for rois in progress_bar(palms.rois(records), name, total):
        start = time.perf_counter()
        parts.append(recogniser.embed(rois))
        seconds += time.perf_counter() - start
    templates = torch.cat(parts)
    finite = torch.isfinite(templates).flatten(1).all(1)
    if not bool(finite.all()):
        first = records[int((~finite).nonzero()[0])]
        raise DataError(
            f"{name} makes NaN or infinity of {int((~finite).sum())} palms, the first is "
            f"{first.path}"
        )
    return templates, seconds
