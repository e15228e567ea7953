"""A hand out of a photograph of any size into a square of one, and its palm back again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike

from palmforge.data.deidentification.segmentation import PALM_POINTS

Around = Literal["hand", "palm"]


@dataclass(frozen=True)
class Box:
    """A square of whole pixels, which may reach beyond the picture.

    Attributes:
        left: First column.
        top: First row.
        side: In pixels, >= 1.
    """

    left: int
    top: int
    side: int

    def inside(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a picture that it covers; they may be none."""
        rows = slice(min(max(self.top, 0), height), min(max(self.top + self.side, 0), height))
        columns = slice(min(max(self.left, 0), width), min(max(self.left + self.side, 0), width))
        return rows, columns

    def is_cut(self, height: int, width: int) -> bool:
        """Whether it reaches beyond a picture."""
        rows, columns = self.inside(height, width)
        return (rows.stop - rows.start, columns.stop - columns.start) != (self.side, self.side)


def hand_box(keypoints21: ArrayLike, margin: float = 0.15) -> Box:
    """The square around a hand.

    Args:
        keypoints21: `[21, 2]` pixels (x, y).
        margin: On each side, as a share of the hand's longer side: finger tips and the edge of the
            hand lie beyond the points.
    """
    points = np.asarray(keypoints21, dtype=np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    side = max(8, int(np.ceil((1 + 2 * margin) * float((high - low).max()))))
    left, top = np.floor((low + high) / 2 - side / 2).astype(int).tolist()
    return Box(left, top, side)


def crop_box(keypoints21: ArrayLike, around: Around, margin: float) -> Box:
    """What a model is shown of a photograph: the hand, or the palm with what is next to it.

    Args:
        keypoints21: `[21, 2]` pixels (x, y).
        around: `hand`, as the paper crops; `palm`: its seven points, for a model of few pixels.
        margin: On each side, as a share of the longer side of what is in it.
    """
    points = np.asarray(keypoints21, dtype=np.float64)
    return hand_box(points if around == "hand" else points[list(PALM_POINTS)], margin)


def cut(image: np.ndarray, box: Box) -> np.ndarray:
    """`[side, side, 3]`; beyond the picture its border goes on.

    Raises:
        ValueError: If the box lies beside the picture.
    """
    height, width = image.shape[:2]
    rows, columns = box.inside(height, width)
    part = image[rows, columns]
    if part.size == 0:
        raise ValueError(f"{box} lies beside a picture of {width} × {height} pixels")
    before = rows.start - box.top, columns.start - box.left
    after = box.side - part.shape[0] - before[0], box.side - part.shape[1] - before[1]
    return cv2.copyMakeBorder(part, before[0], after[0], before[1], after[1], cv2.BORDER_REPLICATE)


def resized(crop: np.ndarray, size: int) -> np.ndarray:
    """A square picture at another size, `[size, size, 3]` uint8."""
    smaller = size < len(crop)
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(crop, (size, size), interpolation=how)


def resized_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A square mask at another size: a pixel is masked if any part of it is.

    Args:
        mask: `[side, side]` bool.
        size: In pixels.
    """
    if size >= len(mask):
        found = cv2.resize(mask.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)
        return found.astype(bool)
    shares = cv2.resize(mask.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return shares > 0


def feathered(mask: np.ndarray, feather: float) -> np.ndarray:
    """Weights in [0, 1] that grow from the mask's edge inwards; 0 wherever nothing is masked.

    Args:
        mask: `[H, W]` bool. The picture's own border is no edge.
        feather: Pixels until the weight is 1; at most 1: a hard edge.

    Returns:
        `[H, W]` float32.
    """
    if feather <= 1 or mask.all():
        return mask.astype(np.float32)
    inwards = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    return np.clip(inwards / feather, 0, 1).astype(np.float32)


def paste(
    image: np.ndarray, repainted: np.ndarray, box: Box, mask: np.ndarray, feather: float
) -> None:
    """Puts a repainted hand into its photograph, in place; outside the mask nothing changes.

    Args:
        image: `[H, W, 3]` uint8.
        repainted: `[S, S, 3]` uint8: `box` at any size.
        box: Where it was cut.
        mask: `[h, w]` bool: of the part of the box that lies in the picture, at full size.
        feather: See `feathered`, in pixels of the photograph.
    """
    rows, columns = box.inside(*image.shape[:2])
    whole = resized(repainted, box.side)
    part = whole[rows.start - box.top :, columns.start - box.left :][: mask.shape[0]]
    part = part[:, : mask.shape[1]]
    weights = feathered(mask, feather)[mask][:, None]
    target = image[rows, columns]
    mixed = weights * part[mask] + (1 - weights) * target[mask]
    target[mask] = np.rint(mixed).astype(np.uint8)
