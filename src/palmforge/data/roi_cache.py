"""ROIs, cut once and kept.

Cutting means decoding a photograph of many megapixels; a cached ROI is one read of raw bytes.
An entry's name is a digest of its source (path, size, time of change), its key points and the ROI
settings, so nothing is ever stale, and any number of processes or nodes may fill the same
directory at the same time: each entry is renamed into place whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.images import read_image, scale_points
from palmforge.data.progress import progress_bar
from palmforge.data.records import PalmRecord
from palmforge.data.roi import extract_roi, quad_side, xjtu_roi_quad
from palmforge.data.webdataset import file_of
from palmforge.errors import BadImage, DataError

if TYPE_CHECKING:
    from palmforge.localization.point_cache import PointCache

_VERSION = 2  # of what extract() does: raise it, and old entries are never read again


@dataclass(frozen=True)
class RoiSettings:
    """How a ROI is made of a picture.

    Attributes:
        size: Side of the cached ROI in pixels. A little more than the network's input, because
            augmentation resamples it.
        source: `"keypoints"`: cut by the 14 points, without which a picture is refused. `"whole"`:
            pictures are ROI crops already. `"auto"`: by the points where they are known, else the
            whole picture if it is square, else refused. With a localizer the points are looked for
            wherever they are not known, but under `"whole"`.
        mirror_left_crops: Mirror whole-picture ROIs of left hands. ROIs cut by key points are in
            one frame already (fingers up, thumb on the right).
    """

    size: int = 160
    source: Literal["auto", "keypoints", "whole"] = "auto"
    mirror_left_crops: bool = False

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 4096:
            raise DataError(f"data.roi.size: {self.size} is not between 16 and 4096 pixels")


def extract(
    record: PalmRecord, settings: RoiSettings, points: PointCache | None = None
) -> np.ndarray:
    """Reads a record's picture and makes its ROI, `[size, size, 3]` uint8 RGB.

    Args:
        record: The picture.
        settings: Of the ROI.
        points: Key points that a localizer has found, for records without.

    Raises:
        BadImage: If the picture or its key points cannot be used.
    """
    if points is not None and _to_locate(record, settings):
        record = points.located(record)
    if settings.source != "whole" and record.keypoints is not None:
        return _cut(record, settings)
    if settings.source == "keypoints":
        raise BadImage(record.path, "no key points (data.roi.source is 'keypoints')")
    return _whole(record, settings)


def _to_locate(record: PalmRecord, settings: RoiSettings) -> bool:
    """Whether a localizer must find this record's points."""
    return record.keypoints is None and settings.source != "whole"


def _cut(record: PalmRecord, settings: RoiSettings) -> np.ndarray:
    try:
        quad = xjtu_roi_quad(record.keypoints)  # type: ignore[arg-type]
    except ValueError as error:
        raise BadImage(record.path, str(error)) from error
    # A JPEG decoded at half size still has more pixels than a ROI of a quarter: see read_image.
    image, scale = read_image(record.path, min_scale=min(1.0, 2 * settings.size / quad_side(quad)))
    quad = scale_points(quad, scale)
    height, width = image.shape[:2]
    centre = quad.mean(axis=0)
    if not (0 <= centre[0] < width and 0 <= centre[1] < height):
        raise BadImage(record.path, "its key points put the ROI outside the picture")
    return extract_roi(image, quad, settings.size)


def _whole(record: PalmRecord, settings: RoiSettings) -> np.ndarray:
    image, _ = read_image(record.path)
    height, width = image.shape[:2]
    if settings.source == "auto" and max(height, width) > 1.05 * min(height, width):
        raise BadImage(
            record.path,
            f"{width} × {height} pixels are no square ROI, and no key points are known "
            "(add a sidecar, or set data.roi.source=whole to take the whole picture)",
        )
    # Framed by its own edge: beside the picture the warp finds black, and would mix it in.
    image = cv2.copyMakeBorder(image, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    right, bottom = width + 0.5, height + 0.5
    quad = np.array([[0.5, 0.5], [right, 0.5], [right, bottom], [0.5, bottom]])
    if settings.mirror_left_crops and record.hand == "L":
        quad = quad[[1, 0, 3, 2]]
    return extract_roi(image, quad, settings.size)


class RoiCache:
    """A directory of ROIs.

    Args:
        directory: Made if needed.
        settings: What the ROIs look like.
        points: Finds the key points of records that have none; None: nothing does.
    """

    def __init__(
        self, directory: str, settings: RoiSettings, points: PointCache | None = None
    ) -> None:
        self.directory = Path(directory).expanduser()
        self.settings = settings
        self.points = points

    def key(self, record: PalmRecord) -> str:
        """The entry's name: 32 hexadecimal digits. A missing file has a name too."""
        try:
            stat = os.stat(file_of(record.path))
            source = [os.path.abspath(record.path), stat.st_size, stat.st_mtime_ns]
        except OSError:
            source = [os.path.abspath(record.path), -1, -1]
        hand = record.hand if self.settings.mirror_left_crops else ""
        content = [_VERSION, source, record.keypoints, hand, asdict(self.settings)]
        if self.points is not None and record.keypoints is None:
            content += [self.points.identity, record.hand]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    def load(self, key: str) -> np.ndarray:
        """The ROI of an entry, `[size, size, 3]` uint8.

        Raises:
            DataError: If it is not there or not whole.
        """
        size = self.settings.size
        try:
            return np.fromfile(self._path(key), np.uint8).reshape(size, size, 3)
        except (OSError, ValueError) as error:
            raise DataError(
                f"data.cache_dir: entry {self._path(key)} cannot be read ({error}). Was the cache "
                "emptied while training ran? Start again, and it is filled."
            ) from error

    def fill(self, records: Sequence[PalmRecord], num_threads: int = 1) -> None:
        """Cuts what is missing. Threads: decoding and warping release the interpreter's lock.

        Raises:
            DataError: If the directory cannot be written to or the disk has no room.
        """
        missing = [(r, key) for r in records if self._state(key := self.key(r)) is None]
        if not missing:  # a full cache may be read-only
            return
        size = self.settings.size
        check_writable(self.directory, "data.cache_dir", len(missing) * (size * size * 3 + 4096))
        # Nodes that start together begin at different places, and so share the work.
        start = hash((socket.gethostname(), os.getpid())) % len(missing)
        missing = missing[start:] + missing[:start]
        # Our threads are the parallel part. And a process forked later (a DataLoader worker) would
        # wait for ever for OpenCV's own threads, which it does not inherit.
        cv2.setNumThreads(1)
        if self.points is not None:
            wanted = [record for record, _ in missing if _to_locate(record, self.settings)]
            self.points.fill(wanted, num_threads)
        with ThreadPoolExecutor(max(1, num_threads)) as pool:
            done = pool.map(lambda item: self._make(*item), missing)
            for _ in progress_bar(done, "cutting ROIs", len(missing)):
                pass

    def problems(self, records: Sequence[PalmRecord]) -> dict[str, str]:
        """Path → why it has no ROI, for the records of `fill` that turned out bad."""
        found = {}
        for record in records:
            key = self.key(record)
            if self._state(key) is False:
                found[record.path] = self._path(key, ".bad").read_text(encoding="utf-8")
        return found

    def _path(self, key: str, suffix: str = ".rgb") -> Path:
        return self.directory / key[:2] / f"{key[2:]}{suffix}"

    def _state(self, key: str) -> bool | None:
        """True: a whole ROI; False: known to be bad; None: not there."""
        with suppress(OSError):
            if self._path(key).stat().st_size == self.settings.size**2 * 3:
                return True
        return False if os.path.exists(self._path(key, ".bad")) else None

    def _make(self, record: PalmRecord, key: str) -> None:
        if self._state(key) is not None:  # another node was faster
            return
        try:
            roi = extract(record, self.settings, self.points)
        except BadImage as bad:
            with write_aside(self._path(key, ".bad")) as aside:
                aside.write_text(bad.reason, encoding="utf-8")
        else:
            with write_aside(self._path(key)) as aside:
                roi.tofile(aside)
