"""Which pixels are the hand, and which of them the palm that is repainted (paper 001, §III-B1)."""

from __future__ import annotations

import importlib
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import ArrayLike

from palmforge.errors import ConfigError

PALM_POINTS = (0, 1, 2, 5, 9, 13, 17)  # the paper's seven; the authors' code leaves out 1
FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
_LOOK_AT = 256  # pixels a side: GrabCut sees a hand no larger
_BIT = 4  # of cv2's fixed point: sixteenths of a pixel
_TRUSTED = 0.5  # share of the palm's polygon that a segmentation must leave


class HandSegmenter(Protocol):
    """Whatever tells a hand from what is around it."""

    def __call__(self, image: np.ndarray, keypoints21: np.ndarray) -> np.ndarray:
        """The hand's pixels.

        Args:
            image: [H, W, 3] uint8 RGB: a hand and a little around it.
            keypoints21: [21, 2] pixels (x, y) of `image`; some may lie outside.

        Returns:
            [H, W] bool.
        """
        ...


def palm_polygon(
    keypoints21: ArrayLike, height: int, width: int, thumb_root: bool = True, grow: float = 0.0
) -> np.ndarray:
    """The polygon of wrist, thumb and finger roots: `[H, W]` bool.

    Args:
        keypoints21: `[21, 2]` pixels (x, y).
        height: Of the picture, which cuts the polygon.
        width: Of the picture.
        thumb_root: Whether point 1 is a corner: it is in the paper, and is not in its code.
        grow: By so many pixels on all sides; 0 is the paper, whose polygon runs through joints and
            leaves out the heel and the edges of the palm.
    """
    chosen = [point for point in PALM_POINTS if thumb_root or point != 1]
    corners = np.asarray(keypoints21, dtype=np.float64)[chosen]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [_fixed(corners)], 1, shift=_BIT)
    if grow > 0:
        cv2.polylines(mask, [_fixed(corners)], True, 1, max(1, round(2 * grow)), shift=_BIT)
    return mask.astype(bool)


def palm_mask(
    image: np.ndarray,
    keypoints21: ArrayLike,
    segmenter: HandSegmenter,
    thumb_root: bool = True,
    grow: float = 0.0,
) -> np.ndarray:
    """What is repainted: polygon ∩ hand, `[H, W]` bool.

    No gap is left in it (a glint on the skin is no background). A segmentation that leaves less
    than half of the polygon is not believed, and all of the polygon taken: the palm must not show
    because a hand was hard to tell from a table.

    Args:
        image: `[H, W, 3]` uint8 RGB.
        keypoints21: `[21, 2]` pixels (x, y).
        segmenter: Tells the hand.
        thumb_root: See `palm_polygon`.
        grow: Likewise.

    Raises:
        ConfigError: If the segmenter gives something else than it has to.
    """
    height, width = image.shape[:2]
    polygon = palm_polygon(keypoints21, height, width, thumb_root, grow)
    hand = np.asarray(segmenter(image, np.asarray(keypoints21, dtype=np.float64)))
    if hand.shape != polygon.shape or hand.dtype != np.bool_:
        raise ConfigError(
            f"data.segmenter: bool {list(polygon.shape)} expected, got {hand.dtype} "
            f"{list(hand.shape)}"
        )
    both = polygon & without_gaps(polygon & hand)
    return both if both.sum() >= _TRUSTED * polygon.sum() else polygon


def without_gaps(mask: np.ndarray) -> np.ndarray:
    """With all that it encloses, `[H, W]` bool."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED)
    return filled.astype(bool)


def skeleton(image: np.ndarray, keypoints21: np.ndarray) -> np.ndarray:
    """A hand drawn from its points alone: palm and fingers as thick as hands have them."""
    return _drawn(keypoints21, image.shape[0], image.shape[1], thickness=1.0)


def grabcut(image: np.ndarray, keypoints21: np.ndarray) -> np.ndarray:
    """Rother et al. 2004, told by the points what is surely hand and what surely is not."""
    height, width = image.shape[:2]
    scale = min(1.0, _LOOK_AT / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    ratio = np.array(size) / (width, height)
    points = (np.asarray(keypoints21) + 0.5) * ratio - 0.5
    trimap = np.full(size[::-1], cv2.GC_BGD, np.uint8)
    for thickness, known_as in ((1.8, cv2.GC_PR_BGD), (1.0, cv2.GC_PR_FGD), (0.3, cv2.GC_FGD)):
        trimap[_drawn(points, size[1], size[0], thickness)] = known_as
    known = np.unique(trimap)
    if cv2.GC_BGD not in known or cv2.GC_FGD not in known:  # GrabCut has nothing to learn from
        return skeleton(image, keypoints21)
    cv2.setRNGSeed(0)  # of its clusters: the same picture gives the same mask
    models, no_rectangle = np.zeros((2, 1, 65)), (0, 0, 1, 1)
    how = cv2.GC_INIT_WITH_MASK
    cv2.grabCut(small, trimap, no_rectangle, models[0], models[1], 3, how)
    hand = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    return cv2.resize(hand, (width, height), interpolation=cv2.INTER_LINEAR) >= 0.5


def everything(image: np.ndarray, keypoints21: np.ndarray) -> np.ndarray:
    """No segmentation: the palm is its polygon."""
    return np.ones(image.shape[:2], bool)


SEGMENTERS: dict[str, HandSegmenter] = {
    "grabcut": grabcut,
    "skeleton": skeleton,
    "everything": everything,
}


def load_segmenter(name: str) -> HandSegmenter:
    """A segmenter by its name.

    Args:
        name: `grabcut`, `skeleton`, `everything`; `sam2:NAME_OR_PATH`: SAM 2, from the hub or a
            folder; `python:module:function`: a `HandSegmenter` of your own.

    Raises:
        ConfigError: If there is none.
        CheckpointError: If SAM 2 cannot be had.
    """
    if name in SEGMENTERS:
        return SEGMENTERS[name]
    kind, _, place = name.partition(":")
    if kind == "sam2" and place:
        from palmforge.data.deidentification.sam2 import Sam2Segmenter

        return Sam2Segmenter(place)
    module, _, attribute = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute) if kind == "python" else None
    except (ImportError, ValueError, AttributeError) as error:
        raise ConfigError(f"data.segmenter: {name!r} cannot be loaded ({error})") from error
    if not callable(found):
        raise ConfigError(
            f"data.segmenter: {name!r} is none of {', '.join(SEGMENTERS)}, sam2:NAME_OR_PATH, "
            "python:module:function"
        )
    segmenter: HandSegmenter = found
    return segmenter


def _drawn(points: np.ndarray, height: int, width: int, thickness: float) -> np.ndarray:
    """Palm and fingers, `[H, W]` bool; a thickness of 1 is a hand's."""
    points = np.asarray(points, dtype=np.float64)
    mask = np.zeros((height, width), np.uint8)
    palm = np.linalg.norm(points[5] - points[17])  # three fingers and a bit
    across = max(1, round(thickness * 0.33 * float(palm)))
    for finger in FINGERS:
        cv2.polylines(mask, [_fixed(points[list(finger)])], False, 1, across, shift=_BIT)
    corners = points[list(PALM_POINTS)]
    if thickness < 1:  # the middle of the palm alone
        centre = corners.mean(axis=0)
        corners = centre + 2 * thickness * (corners - centre)
        cv2.fillPoly(mask, [_fixed(corners)], 1, shift=_BIT)
    else:
        cv2.fillPoly(mask, [_fixed(corners)], 1, shift=_BIT)
        cv2.polylines(mask, [_fixed(corners)], True, 1, across, shift=_BIT)
    return mask.astype(bool)


def _fixed(points: np.ndarray) -> np.ndarray:
    """In sixteenths of a pixel, as cv2 wants points."""
    return np.rint(points * (1 << _BIT)).astype(np.int32).reshape(-1, 1, 2)
