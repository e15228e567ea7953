"""One photograph: where its palms are, which of them can be used, and why not the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from palmforge.data.images import read_image, scale_points
from palmforge.data.roi import quad_side
from palmforge.errors import ConfigError
from palmforge.localization.location import Localizer, PalmLocation
from palmforge.metrics.localization import intersection_area, polygon_area

_LOOK_AT = 1024  # pixels: a JPEG is decoded no larger than needed to look for palms


@dataclass(frozen=True)
class Acceptance:
    """Which palms can be used.

    Attributes:
        min_confidence: Of the method, 0..1.
        min_side: Side of the ROI in the picture, in pixels.
        max_outside: Share of the ROI that may lie outside the picture, at most 1.

    Raises:
        ConfigError: A number out of its range.
    """

    min_confidence: float = 0.5
    min_side: float = 32.0
    max_outside: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"accept.min_confidence: {self.min_confidence} is not in 0 … 1")
        if self.max_outside > 1:
            raise ConfigError(f"accept.max_outside: {self.max_outside} is more than all of a ROI")
        if self.min_side < 1:
            raise ConfigError(f"accept.min_side: {self.min_side} pixels are less than one")


@dataclass(frozen=True)
class Palms:
    """What was found in a photograph.

    Attributes:
        accepted: Palms that can be used, the surest first, in pixels of the upright picture at full
            size (EXIF rotation applied).
        reasons: Why the others cannot; `["no palm found"]` if there are none at all.
        image: [H, W, 3] uint8 RGB, as decoded.
        scale: Of `image`; points times it are those of `image` (`scale_points`).
    """

    accepted: list[PalmLocation]
    reasons: list[str]
    image: np.ndarray
    scale: float


def find_palms(path: str, localizer: Localizer, acceptance: Acceptance, roi_size: int) -> Palms:
    """Reads a photograph and looks for palms.

    Args:
        path: The picture.
        localizer: Looks.
        acceptance: Judges.
        roi_size: Side of the ROIs that will be cut out of `Palms.image`, in pixels; large JPEGs are
            decoded at 1/2, 1/4 or 1/8 where that leaves more pixels than are asked for.

    Raises:
        BadImage: If it cannot be read.
    """
    image, scale = read_image(path, min_scale=_scale_to_look(path))
    found = localizer.locate_all(image)
    usable: list[PalmLocation] = []
    reasons: list[str] = []
    for palm in found:
        at_full_size = _rescaled(palm, scale)
        height, width = (round(length / scale) for length in image.shape[:2])
        reason = why_not(at_full_size, height, width, acceptance)
        if reason is None:
            usable.append(at_full_size)
        else:
            reasons.append(reason)
    if not found:
        reasons = ["no palm found"]
    smallest = min((quad_side(palm.quad) for palm in usable), default=np.inf)
    if scale < 1 and smallest * scale < 2 * roi_size:
        image, scale = read_image(path, min_scale=min(1.0, 2 * roi_size / smallest))
    return Palms(usable, reasons, image, scale)


def why_not(palm: PalmLocation, height: int, width: int, acceptance: Acceptance) -> str | None:
    """Why a palm cannot be used, in words, or None if it can.

    Args:
        palm: In pixels of the picture.
        height: Of the picture.
        width: Of the picture.
        acceptance: The limits.
    """
    try:
        quad = palm.quad
    except ValueError as error:
        return f"the points do not span a palm ({error})"
    if not palm.confidence >= acceptance.min_confidence:
        return f"low confidence: {palm.confidence:.2f} < {acceptance.min_confidence:g}"
    side = quad_side(quad)
    if side < acceptance.min_side:
        return f"palm too small: its ROI is {side:.0f} pixels wide, {acceptance.min_side:g} needed"
    outside = outside_share(quad, height, width)
    if outside > acceptance.max_outside:
        most = f"{100 * acceptance.max_outside:g} %"
        return f"the ROI leaves the picture: {100 * outside:.0f} % of it is outside, {most} may be"
    return None


def outside_share(quad: np.ndarray, height: int, width: int) -> float:
    """Share of a quad's area that lies outside a picture."""
    right, bottom = width - 0.5, height - 0.5
    picture = np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]])
    area = abs(polygon_area(quad))
    return 1 - intersection_area(quad, picture) / area if area > 0 else 1.0


def _scale_to_look(path: str) -> float:
    try:
        with Image.open(path) as picture:
            return min(1.0, _LOOK_AT / max(picture.size))
    except Exception:  # read_image says what is wrong with it
        return 1.0


def _rescaled(palm: PalmLocation, scale: float) -> PalmLocation:
    """In pixels of the full picture."""
    if scale == 1:
        return palm
    # scale_points with the inverse: (p + 0.5) / scale − 0.5.
    hand = palm.keypoints21
    return PalmLocation(
        scale_points(palm.keypoints14, 1 / scale),
        None if hand is None else scale_points(hand, 1 / scale),
        palm.handedness,
        palm.confidence,
    )
