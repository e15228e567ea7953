"""What `predict` repaints: groups of pictures that never change, whoever does them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from torch.utils.data import Dataset

from palmforge.data.deidentification.photographs import Preparation, look_at
from palmforge.data.deidentification.segmentation import HandSegmenter, load_segmenter
from palmforge.data.generation.plan import left_over
from palmforge.errors import ConfigError
from palmforge.localization.location import Localizer
from palmforge.localization.methods import load_localizer, localizer_identity


class DeidentificationPlan(Dataset[dict[str, Any]]):
    """Groups of pictures, looked at, for a DataLoader with `batch_size=None`.

    Group g holds the pictures g · B … (g + 1) · B − 1 of the list, whatever the number of processes
    and whatever is done already: what a kernel gives for one picture may depend, in the last
    digits, on the others of its batch. A picture is done by one process, with all its hands.

    An item is `{"photographs": B Photograph, "batch_size": B, "exemplars": …}`: they may have more
    than B hands.

    Attributes:
        groups: Those that are left to do, by number.
        is_kept: Whether somebody writes what comes of them.
        exemplars: Which of those that are cut are shown; a method of `test` may have others.

    Args:
        root: Folder of the pictures.
        sources: Their paths in it.
        group_size: B.
        localizer: Of `load_localizer`.
        segmenter: Of `load_segmenter`.
        preparation: How hands are cut.
    """

    def __init__(
        self,
        root: str,
        sources: Sequence[str],
        group_size: int,
        localizer: str,
        segmenter: str,
        preparation: Preparation,
    ) -> None:
        if group_size < 1:
            raise ConfigError(f"data.batch_size: {group_size} is less than 1")
        self.root = root
        self.sources = list(sources)
        self.group_size = group_size
        self.localizer_name = localizer
        self.segmenter_name = segmenter
        self.preparation = preparation
        self.exemplars: Sequence[str] = preparation.exemplars
        self.is_kept = False
        self.groups = list(range(math.ceil(len(self.sources) / group_size)))

    @cached_property
    def localizer(self) -> Localizer:
        """Loaded in each process that looks for hands."""
        return load_localizer(self.localizer_name)

    @cached_property
    def segmenter(self) -> HandSegmenter:
        """By its name."""
        return load_segmenter(self.segmenter_name)

    def leave_out(self, done: set[str], at_least: int = 1) -> None:
        """Drops the groups whose pictures are all done.

        Args:
            done: Sources.
            at_least: Processes. Where fewer groups are left, but any, they are repeated up to this
                number: Lightning wants a batch for each process.
        """
        every = range(math.ceil(len(self.sources) / self.group_size))
        self.groups = left_over(map(self.members, every), done, at_least)

    def members(self, group: int) -> list[str]:
        """Sources of a group."""
        return self.sources[group * self.group_size : (group + 1) * self.group_size]

    def settings(self) -> dict[str, Any]:
        """What decides the results: not which pictures there are."""
        return {
            **asdict(self.preparation),
            "batch_size": self.group_size,
            "localizer": localizer_identity(self.localizer_name),
            "segmenter": self.segmenter_name,
        }

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, place: int) -> dict[str, Any]:
        tools = self.localizer, self.segmenter, self.preparation
        found = [look_at(self.root, name, *tools) for name in self.members(self.groups[place])]
        return {
            "photographs": found, "batch_size": self.group_size, "exemplars": list(self.exemplars)
        }  # fmt: skip
