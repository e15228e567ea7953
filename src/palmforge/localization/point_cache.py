"""Key points that a localizer found, kept beside the ROIs that are cut by them.

An entry's name is a digest of the picture (path, size, time of change) and of the localizer's
weights: another localizer, other entries, and a ROI of another size needs no second search.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.progress import progress_bar
from palmforge.data.records import PalmRecord
from palmforge.errors import BadImage
from palmforge.localization.location import Localizer
from palmforge.localization.methods import localizer_identity
from palmforge.localization.photographs import Acceptance, find_palms
from palmforge.localization.pool import map_with_localizer

_VERSION = 1  # of what _search does: raise it, and old entries are never read again


class PointCache:
    """A directory of key points.

    Args:
        directory: Made if needed.
        method: The localizer (`palmforge.localization.methods`).
        acceptance: Which palms can be used.
    """

    def __init__(
        self,
        directory: str,
        method: str,
        acceptance: Acceptance = Acceptance(),  # noqa: B008  (frozen)
    ) -> None:
        self.directory = Path(directory).expanduser()
        self.method = method
        self.acceptance = acceptance

    @cached_property
    def identity(self) -> str:
        """What decides the points of a picture, apart from the picture."""
        content = [_VERSION, localizer_identity(self.method), asdict(self.acceptance)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def fill(self, records: Sequence[PalmRecord], num_workers: int = 1) -> None:
        """Looks for the palms of pictures that are not there yet.

        Raises:
            DataError: If the directory cannot be written to, or a process was killed.
        """
        missing = [record for record in records if not self._path(record).exists()]
        if not missing:
            return
        check_writable(self.directory, "data.cache_dir", 4096 * len(missing))
        search = partial(_search, self.acceptance)
        found = map_with_localizer(search, missing, self.method, min(num_workers, len(missing)))
        bar = progress_bar(found, "locating palms", len(missing))
        for record, entry in zip(missing, bar, strict=True):
            with write_aside(self._path(record)) as aside:
                aside.write_text(json.dumps(entry), encoding="utf-8")

    def located(self, record: PalmRecord) -> PalmRecord:
        """The record with the key points that were found.

        Raises:
            BadImage: If there is no usable palm, and why.
            FileNotFoundError: If `fill` has not seen the record.
        """
        entry = json.loads(self._path(record).read_text(encoding="utf-8"))
        if entry["keypoints14"] is None:
            raise BadImage(record.path, entry["reason"])
        points = tuple((float(x), float(y)) for x, y in entry["keypoints14"])
        return replace(record, keypoints=points)

    def _path(self, record: PalmRecord) -> Path:
        try:
            stat = os.stat(record.path)
            source = [os.path.abspath(record.path), stat.st_size, stat.st_mtime_ns]
        except OSError:
            source = [os.path.abspath(record.path), -1, -1]
        content = json.dumps([self.identity, source, record.hand]).encode()
        key = hashlib.sha256(content).hexdigest()[:32]
        return self.directory / key[:2] / f"{key[2:]}.points"


def _search(acceptance: Acceptance, localizer: Localizer, record: PalmRecord) -> dict:
    """An entry: the points of the surest palm of the right hand, or the reason for none."""
    try:
        found = find_palms(record.path, localizer, acceptance, roi_size=1)
    except BadImage as bad:
        return {"keypoints14": None, "reason": bad.reason}
    palms = [palm for palm in found.accepted if record.hand in ("", palm.handedness)]
    if palms:
        return {"keypoints14": np.round(palms[0].keypoints14, 2).tolist()}
    reasons = "; ".join(found.reasons)
    if found.accepted:  # its ROI would be mirrored
        other = found.accepted[0].handedness
        reasons = f"a palm of the hand {other} was found, its folder says {record.hand}"
    return {"keypoints14": None, "reason": f"{reasons} (data.localizer)"}
