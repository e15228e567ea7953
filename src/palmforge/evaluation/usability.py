"""What other software still finds in a changed photograph of a hand (paper 001, Tables IV, VII).

A localizer and a segmenter look at the original and at the changed photograph; usability is by how
much their answers differ, as mean absolute differences in percent, less being better. The paper
asked WiLoR and PKLNet. A detector answers with some jitter to any change of pixels: the figures of
a photograph that was merely saved again as JPEG are the floor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from palmforge.data.deidentification.crops import hand_box
from palmforge.data.deidentification.segmentation import HandSegmenter
from palmforge.errors import ConfigError
from palmforge.localization.location import Localizer, PalmLocation
from palmforge.metrics.image_quality import MeanAndDeviation, mean_and_deviation

NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Looked:
    """One hand as a localizer and a segmenter see it. Coordinates are pixels (x, y).

    Attributes:
        height: Of the photograph.
        width: Of the photograph.
        box: `[2, 2]`, top-left and bottom-right corner of the hand: of its points, as a localizer
            says no more.
        points: `[21, 2]`, or the 14 of a localizer that does not find 21.
        points3d: `[21, 3]` in any unit; None: the localizer gives none.
        quad: `[4, 2]`, corners of the ROI; NaN where the points span none.
        mask: `[H, W]` bool, the hand's pixels; None without 21 points, which segmenters need.
    """

    height: int
    width: int
    box: np.ndarray
    points: np.ndarray
    points3d: np.ndarray | None
    quad: np.ndarray
    mask: np.ndarray | None


@dataclass(frozen=True)
class Usability:
    """Differences of one hand in percent, 0 to 100; 0: nothing has changed for the detectors.

    NaN: what was found in the original is not found any more. None: the detector has no such
    answer, not even on the original.

    Attributes:
        hand_detection: Of the box's corners, in sides of the picture.
        keypoints_2d: Of the points, likewise.
        keypoints_3d: Of the points in space, in the longest side of the original's.
        roi_localization: Of the ROI's corners, in sides of the picture.
        hand_segmentation: Share of the picture's pixels at which the masks differ.
    """

    hand_detection: float
    keypoints_2d: float
    keypoints_3d: float | None
    roi_localization: float
    hand_segmentation: float | None

    @property
    def is_lost(self) -> bool:
        """Whether the hand was not found in the changed photograph."""
        return math.isnan(self.hand_detection)


@dataclass(frozen=True)
class UsabilitySummary:
    """A row of Table IV.

    Attributes:
        figures: Field of `Usability` → mean ± deviation of the hands that were found again; None
            where no hand has that answer.
        hands: In the originals.
        lost: Share of them, in [0, 1], that were not found again. They are in none of the means:
            a method that hides every other hand shows here alone.
    """

    figures: dict[str, MeanAndDeviation | None]
    hands: int
    lost: float


def look(image: np.ndarray, localizer: Localizer, segmenter: HandSegmenter) -> list[Looked]:
    """All hands in a photograph, the surest first.

    A localizer that knows points in space gives locations with a further attribute `keypoints3d`,
    `[21, 3]`. The segmenter sees each hand as it does when palms are masked: with a little around.

    Args:
        image: `[H, W, 3]` uint8 RGB.
        localizer: Of `load_localizer`.
        segmenter: Of `load_segmenter`.

    Raises:
        ConfigError: If the segmenter gives something else than a mask.
    """
    return [_looked(image, palm, segmenter) for palm in localizer.locate_all(image)]


def matched(
    originals: Sequence[Looked], changed: Sequence[Looked]
) -> list[tuple[Looked, Looked | None]]:
    """Each hand of the original with what was found of it in the changed photograph.

    The nearest boxes first, each taken once, and only where they overlap: a hand found elsewhere is
    another one. Hands that were found in the changed photograph alone are no loss.
    """
    pairs = [
        (_difference(one.box, other.box, _sides(one)), i, j)
        for i, one in enumerate(originals)
        for j, other in enumerate(changed)
        if _overlap(one.box, other.box)
    ]
    found: dict[int, int] = {}
    for _, i, j in sorted(pairs):
        if i not in found and j not in found.values():
            found[i] = j
    return [(one, changed[found[i]] if i in found else None) for i, one in enumerate(originals)]


def usability(original: Looked, changed: Looked | None) -> Usability:
    """How far the answers are apart.

    Each is the mean of absolute differences over points and both coordinates, x in widths and y in
    heights of the picture; what is further off than a side counts as a side. They are shares of the
    *picture*, as the paper's seem to be (masking changes 10 % of its masks): a hand that is small
    in its photograph has small figures.

    Args:
        original: A hand.
        changed: The same in the changed photograph; None: not found, and every value is NaN.

    Raises:
        ValueError: If the photographs differ in size, or the localizers in the number of points.
    """
    has3d, has_mask = original.points3d is not None, original.mask is not None
    if changed is None:
        return Usability(NAN, NAN, NAN if has3d else None, NAN, NAN if has_mask else None)
    if _sides(original).tolist() != _sides(changed).tolist():
        raise ValueError(
            f"photographs of one size expected, got {original.width} × {original.height} and "
            f"{changed.width} × {changed.height}"
        )
    if original.points.shape != changed.points.shape:
        raise ValueError(
            f"{len(original.points)} points in the original, {len(changed.points)} in the changed"
        )
    sides = _sides(original)
    return Usability(
        _difference(original.box, changed.box, sides),
        _difference(original.points, changed.points, sides),
        _difference3d(original.points3d, changed.points3d),
        _difference(original.quad, changed.quad, sides),
        _mask_difference(original.mask, changed.mask),
    )


def usability_of(originals: Sequence[Looked], changed: Sequence[Looked]) -> list[Usability]:
    """Of every hand of one photograph, in the order of `originals`."""
    return [usability(one, other) for one, other in matched(originals, changed)]


def summarize(found: Sequence[Usability]) -> UsabilitySummary:
    """Of all hands of all photographs.

    Raises:
        ValueError: If there is none.
    """
    if not found:
        raise ValueError("no hand was found in any original: there is no usability to speak of")
    figures: dict[str, MeanAndDeviation | None] = {}
    for name in (field.name for field in fields(Usability)):
        values = [value for one in found if (value := getattr(one, name)) is not None]
        figures[name] = mean_and_deviation(values) if values else None
    return UsabilitySummary(figures, len(found), sum(one.is_lost for one in found) / len(found))


def _looked(image: np.ndarray, palm: PalmLocation, segmenter: HandSegmenter) -> Looked:
    height, width = image.shape[:2]
    points = palm.keypoints14 if palm.keypoints21 is None else palm.keypoints21
    points = np.asarray(points, dtype=np.float64)
    try:
        quad = np.asarray(palm.quad, dtype=np.float64)
    except ValueError:  # points on one line
        quad = np.full((4, 2), NAN)
    space = getattr(palm, "keypoints3d", None)
    return Looked(
        height, width, np.stack([points.min(axis=0), points.max(axis=0)]), points,
        None if space is None else np.asarray(space, dtype=np.float64), quad,
        None if palm.keypoints21 is None else _hand_mask(image, points, segmenter),
    )  # fmt: skip


def _hand_mask(image: np.ndarray, points: np.ndarray, segmenter: HandSegmenter) -> np.ndarray:
    """Of the whole photograph, by what the segmenter says of the hand's square in it."""
    mask = np.zeros(image.shape[:2], bool)
    if not np.isfinite(points).all():
        return mask
    rows, columns = hand_box(points).inside(*image.shape[:2])
    part = np.ascontiguousarray(image[rows, columns])
    if part.size == 0:
        return mask
    found = np.asarray(segmenter(part, points - [columns.start, rows.start]))
    if found.shape != part.shape[:2] or found.dtype != np.bool_:
        raise ConfigError(
            f"segmenter: bool {list(part.shape[:2])} expected, got {found.dtype} "
            f"{list(found.shape)}"
        )
    mask[rows, columns] = found
    return mask


def _difference(a: np.ndarray, b: np.ndarray, sides: np.ndarray) -> float:
    """Mean absolute difference in percent of the sides; NaN if anything is not finite."""
    apart = np.minimum(np.abs(a - b) / sides, 1.0)
    value = 100.0 * float(apart.mean())
    return value if math.isfinite(value) else NAN


def _difference3d(a: np.ndarray | None, b: np.ndarray | None) -> float | None:
    if a is None:
        return None
    return NAN if b is None else _difference(a, b, np.ptp(a, axis=0).max())


def _mask_difference(a: np.ndarray | None, b: np.ndarray | None) -> float | None:
    if a is None:
        return None
    return NAN if b is None else 100.0 * float(np.mean(a != b))


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.maximum(a[0], b[0]) < np.minimum(a[1], b[1])).all())


def _sides(one: Looked) -> np.ndarray:
    return np.array([one.width, one.height], dtype=np.float64)
