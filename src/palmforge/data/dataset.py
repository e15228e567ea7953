"""One ROI as the networks get it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from palmforge.data.augmentation import RoiAugmentation
from palmforge.data.protocols import Role
from palmforge.data.records import PalmRecord
from palmforge.data.roi_cache import RoiCache
from palmforge.data.sampler import Item
from palmforge.data.seeds import mixed


class PalmDataset(Dataset[dict[str, Any]]):
    """Rows of a split, read from the ROI cache.

    Args:
        records: The rows.
        labels: Identity → class index.
        cache: Filled for all records.
        augmentation: What happens between the cached ROI and the network's input.
        domains: The names that the `domain` index of a batch counts through.
        roles: One a record; all `Role.ALL` by default.
        views: With a number, a row has only so many different augmented views, so that what a
            frozen network makes of them can be kept (see `key`).
        seed: Decides the views.
    """

    def __init__(
        self,
        records: Sequence[PalmRecord],
        labels: Mapping[str, int],
        cache: RoiCache,
        augmentation: RoiAugmentation,
        domains: Sequence[str],
        roles: Sequence[Role] | None = None,
        views: int | None = None,
        seed: int = 0,
    ) -> None:
        self.records = list(records)
        self.labels = [labels[record.identity] for record in records]
        self.cache = cache
        self.augmentation = augmentation
        self._resize = RoiAugmentation("none", False, augmentation.image_size)
        self.roles = [int(role) for role in roles] if roles is not None else [0] * len(records)
        self.views = 1 if not augmentation.is_random else views
        self.seed = seed
        index_of = {domain: index for index, domain in enumerate(domains)}
        self.domains = [index_of[record.domain] for record in records]
        self._keys = [cache.key(record) for record in records]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: int | Item) -> dict[str, Any]:
        """Loads a row.

        Args:
            item: The row, or (row, seed of its augmentation), or these and its strength.

        Returns:
            `image` `[3, S, S]` uint8 RGB; `label`, `domain`, `index` (the row), `role`, `seed`
            (of the augmentation, for whatever noise a method adds) as int; and, where the row has
            a limited number of views, `key`: a name for this very picture.
        """
        row, seed, *strength = self._seeded(item)
        image = self.augmentation(self.cache.load(self._keys[row]), seed, *strength)
        sample = {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "label": self.labels[row],
            "domain": self.domains[row],
            "index": row,
            "role": self.roles[row],
            "seed": seed,
        }
        if self.views is not None:
            sample["key"] = self.key(item)
        return sample

    def plain(self, row: int) -> torch.Tensor:
        """The picture of a row without augmentation, `[3, S, S]` uint8."""
        image = self._resize(self.cache.load(self._keys[row]), 0)
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

    def key(self, item: int | Item) -> str:
        """A name for the very picture that an item shows, where rows have so many views."""
        row, seed, *_ = self._seeded(item)
        view = seed if self.augmentation.is_random else "plain"
        return f"{self._keys[row]}-{self.augmentation.fingerprint}-{view}"

    def _seeded(self, item: int | Item) -> Item:
        """(row, seed, …), the seed that of the view."""
        row, seed, *strength = item if isinstance(item, tuple) else (item, 0)
        if self.views is not None:
            seed = mixed(self.seed, row, seed % self.views)
        return (row, seed, *strength)  # type: ignore[return-value]


def limit_threads(worker_id: int) -> None:
    """For DataLoader workers: one thread each, or OpenCV alone would start one a core in each."""
    cv2.setNumThreads(0)
