"""The palms of an evaluation, as ROIs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from palmforge.data.embedded import SYNTHETIC, scan_root
from palmforge.data.layouts import Layout
from palmforge.data.records import PalmRecord
from palmforge.data.roi_cache import RoiCache, RoiSettings
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import DataError
from palmforge.localization.point_cache import PointCache

GREY = (0.299, 0.587, 0.114)  # luma, as a grey file would hold it


@dataclass(frozen=True)
class EvaluationData:
    """A data set to evaluate on.

    Attributes:
        root: A directory, or `synthetic`: the embedded set, rendered at first use.
        layout: How files lie under it.
        domains: Only these; null for all.
        roi: How ROIs are cut.
        localizer: Finds the palm in photographs without key points, see `PalmDataModule`.
        grey: Take the colour out first.
        cache_dir: Where cut ROIs are kept.
        num_workers: Threads that cut, processes that render.
        synthetic: The embedded set.
        synthetic_dir: Where it is rendered to.
    """

    root: str = SYNTHETIC
    layout: Layout = "auto"
    domains: list[str] | None = None
    roi: RoiSettings = RoiSettings()  # noqa: RUF009  (frozen)
    localizer: str | None = None
    grey: bool = False
    cache_dir: str = "data/cache"
    num_workers: int = 2
    synthetic: SyntheticPalms = SyntheticPalms()  # noqa: RUF009  (frozen)
    synthetic_dir: str = "data/synthetic"


class PalmSet:
    """The usable palms of a data set, and their ROIs.

    Args:
        data: Which.

    Attributes:
        records: Sorted by identity, then by path.
        problems: Path → why it is left out.

    Raises:
        DataError: If the set is missing or nothing of it can be used.
    """

    def __init__(self, data: EvaluationData) -> None:
        self.data = data
        points = None if data.localizer is None else PointCache(data.cache_dir, data.localizer)
        self.cache = RoiCache(data.cache_dir, data.roi, points)
        found = scan_root(
            data.root, data.layout, data.domains, data.synthetic, data.synthetic_dir,
            data.num_workers,
        )  # fmt: skip
        self.cache.fill(found.records, num_threads=max(1, data.num_workers))
        bad = self.cache.problems(found.records)
        self.problems = {**found.problems, **bad}
        usable = [record for record in found.records if record.path not in bad]
        if not usable:
            reason = next(iter(self.problems.items()), ("", ""))
            raise DataError(f"{found.root}: no palm can be used. First: {reason[0]}: {reason[1]}")
        self.records = sorted(usable, key=lambda record: (record.identity, record.path))

    def rois(self, records: Sequence[PalmRecord], batch_size: int = 64) -> Iterator[Tensor]:
        """`[N, 3, S, S]` uint8 RGB, in batches, in the order of the records."""
        for start in range(0, len(records), batch_size):
            batch = records[start : start + batch_size]
            stacked = np.stack([self.roi(record) for record in batch])
            yield torch.from_numpy(stacked.transpose(0, 3, 1, 2).copy())

    def roi(self, record: PalmRecord) -> np.ndarray:
        """`[S, S, 3]` uint8 RGB."""
        image = self.cache.load(self.cache.key(record))
        if not self.data.grey:
            return image
        luma = np.rint(image @ np.array(GREY)).astype(np.uint8)
        return np.repeat(luma[..., None], 3, axis=2)
