"""The pictures that an exported file is checked on, and those that calibrate int8."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from palmforge.data.embedded import SYNTHETIC, rendered
from palmforge.data.hands.frames import crop_matrix, frame_of_points
from palmforge.data.images import read_image
from palmforge.data.layouts import scan
from palmforge.data.records import PalmRecord
from palmforge.data.roi_cache import RoiSettings, extract
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import BadImage, DataError
from palmforge.export.exportable import Role
from palmforge.export.formats import Pixels
from palmforge.localization.pyramid import Pyramid

SEED = 4711  # no config of the package has it: these palms trained nothing
_CAPTURES = 10
_HAND_SIZE = 256
_SHARE = 6  # every sixth palm calibrates


@dataclass(frozen=True)
class Palms:
    """Pictures of palms.

    Attributes:
        name: What they are, for a report.
        pixels: `[N, 3, S, S]`.
        labels: `[N]`, whose they are.
        calibration: `[M, 3, S, S]`, of other palms.
    """

    name: str
    pixels: Pixels
    labels: NDArray[np.int64]
    calibration: Pixels


def read_palms(
    root: str, role: Role, size: int, images: int, domain: str, synthetic_dir: str
) -> Palms:
    """Palms of a folder, or rendered ones, as a network of this role is shown them.

    Args:
        root: A data set of ROIs (for palm finders: of hands, with key points for `landmarks`); or
            `synthetic`: rendered at the first use, then found again.
        role: Of the network.
        size: S.
        images: To check on, at least; fewer if there are no more.
        domain: Of rendered palms; of a folder, where it has it, else its first.
        synthetic_dir: Where rendered palms are kept.

    Raises:
        DataError: Too few pictures: two palms to check on and one to calibrate with are needed.
    """
    what: Literal["hands", "rois"] = "hands" if role in ("landmarks", "detector") else "rois"
    name = Path(root).expanduser().resolve().name  # no path: cards are published
    if root == SYNTHETIC:
        palms = max(2, -(-images // _CAPTURES))
        palms += -(-palms // (_SHARE - 1))
        side = _HAND_SIZE if what == "hands" else size
        # A folder for each domain: `rendered` names sets without it, and wild ones must lie alone.
        root = rendered(
            SyntheticPalms(palms, _CAPTURES, (domain,), side, SEED, what),
            f"{synthetic_dir}/export_{domain}",
        )
        name = f"rendered {'palms' if what == 'rois' else what} of {domain}, seed {SEED}"
    found = scan(root, "auto")
    chosen = domain if domain in found.domains else found.domains[0]
    if len(found.domains) > 1:
        name += f", domain {chosen}"
    records = [record for record in found.records if record.domain == chosen]
    if role == "landmarks":
        return _read(name, records, images, partial(_crop, size=size))
    settings = RoiSettings(size=size, source="whole" if role == "detector" else "auto")
    return _read(name, records, images, partial(extract, settings=settings))


def _read(
    name: str, records: list[PalmRecord], images: int, look: Callable[[PalmRecord], Pixels]
) -> Palms:
    whose: dict[str, list[PalmRecord]] = {}
    for record in records:
        whose.setdefault(record.identity, []).append(record)
    checked: list[Pixels] = []
    calibration: list[Pixels] = []
    labels: list[int] = []
    for label, identity in enumerate(sorted(whose)):
        if len(labels) >= images:
            break
        pixels = _pixels(whose[identity], look)
        if label % _SHARE == 0:
            calibration += pixels
        else:
            checked += pixels
            labels += [label] * len(pixels)
    if len(set(labels)) < 2 or len(set(labels)) == len(labels) or not calibration:
        raise DataError(
            f"data: {name} has {len(whose)} palms; to check an export, three or more are needed, "
            "and two pictures of some"
        )
    return Palms(name, np.stack(checked), np.array(labels), np.stack(calibration))


def _pixels(records: list[PalmRecord], look: Callable[[PalmRecord], Pixels]) -> list[Pixels]:
    pixels = []
    for record in records:
        with suppress(BadImage):
            pixels.append(np.ascontiguousarray(look(record).transpose(2, 0, 1)))
    return pixels


def _crop(record: PalmRecord, size: int) -> Pixels:
    """As the localizer cuts it for the landmark network, where the palm really is."""
    image, _ = read_image(record.path)
    try:
        frame = frame_of_points(np.array(record.keypoints, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise BadImage(record.path, f"no key points that span a palm ({error})") from error
    return Pyramid(image).warp(crop_matrix(frame, size), size, size)
