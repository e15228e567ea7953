"""Palms that train besides a data set's own: folders of ROIs, such as a generator writes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from palmforge.data.layouts import scan
from palmforge.data.records import PalmRecord
from palmforge.data.roi_cache import RoiCache, RoiSettings
from palmforge.errors import ConfigError, DataError
from palmforge.localization.point_cache import PointCache

ADDED = "added"  # the domain of their records


@dataclass
class AddedPalms:
    """What folders of ROIs hold.

    Attributes:
        records: In the order of the folders; of domain `ADDED`, their identities `FOLDER/name`.
        problems: Path → what is wrong with it.
        notes: One a folder: how many images of how many identities.
    """

    records: list[PalmRecord] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_added(folders: Sequence[str], most: int | None = None) -> AddedPalms:
    """Reads folders `identity/image`. Each identity is one of its own, whatever its name.

    Args:
        folders: The same folder means the same identities: its name is part of theirs.
        most: Identities of each folder, the first by name; None: all.

    Raises:
        ConfigError: If a folder is missing, empty or given twice.
    """
    added = AddedPalms()
    for folder in folders:
        if not Path(folder).expanduser().is_dir():
            raise ConfigError(
                f"data.added: no directory {folder!r}. Give folders of ROIs, identity/image, such "
                "as `train.py predict` of a generator writes"
            )
        if folders.count(folder) > 1:
            raise ConfigError(f"data.added: {folder!r} is given twice")
        try:
            found = scan(folder, "folder")
        except DataError as error:
            raise ConfigError(f"data.added: {error}") from error
        names = sorted({record.identity for record in found.records})[:most]
        chosen = set(names)
        own = [
            replace(record, identity=f"{folder}/{record.identity}", domain=ADDED, keypoints=None)
            for record in found.records
            if record.identity in chosen
        ]
        added.records += own
        added.problems |= found.problems
        added.notes.append(f"added: {len(own)} images of {len(names)} identities from {folder}")
    return added


def check_apart(added: Iterable[PalmRecord], records: Iterable[PalmRecord]) -> None:
    """Raises ConfigError where an added picture is one of the data set's, which may be a test's."""

    @cache  # a look at the disk for each folder, not for each picture
    def real(folder: str) -> str:
        return os.path.realpath(folder)

    def place(record: PalmRecord) -> tuple[str, str]:
        folder, name = os.path.split(record.path)
        return real(folder), name

    own = {place(record) for record in records}
    for record in added:
        if place(record) in own:
            raise ConfigError(
                f"data.added: {record.path} is a picture of data.root too: it might be tested on"
            )


class AddedRoiCache(RoiCache):
    """As `RoiCache`; pictures of the domain `ADDED` are ROIs already, whatever `source` says."""

    def __init__(
        self, directory: str, settings: RoiSettings, points: PointCache | None = None
    ) -> None:
        super().__init__(directory, settings, points)
        whole = replace(settings, source="whole", mirror_left_crops=False)
        self._whole = RoiCache(directory, whole)

    def key(self, record: PalmRecord) -> str:
        """See `RoiCache`."""
        return self._whole.key(record) if record.domain == ADDED else super().key(record)

    def fill(self, records: Sequence[PalmRecord], num_threads: int = 1) -> None:
        """See `RoiCache`."""
        super().fill([record for record in records if record.domain != ADDED], num_threads)
        self._whole.fill([record for record in records if record.domain == ADDED], num_threads)
