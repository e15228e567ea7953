"""A palm's place in a picture as an upright square, and the way from there to a crop and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palmforge.data.roi import xjtu_roi_quad

# A whole hand in a crop: 4.2 sides of the ROI, half a side further up than it. (ROI side = 0.6
# palm widths; the wrist is about 1.4 sides below the ROI's centre, the middle finger's tip 2.4
# above it.)
CROP_SIDES = 4.2
CROP_UP = 0.45


@dataclass(frozen=True)
class PalmFrame:
    """The square ROI of one palm.

    Attributes:
        centre: [2] float64 pixels (x, y), pixel centres at integers, y down.
        side: Of the ROI in pixels, 0.6 palm widths.
        up: [2] float64 unit vector, from the wrist to the fingers.
        left: Whether it is a left hand, seen from the palm: its index side is on the left of `up`.
    """

    centre: np.ndarray
    side: float
    up: np.ndarray
    left: bool

    @property
    def right(self) -> np.ndarray:
        """[2] unit vector towards the index side: the right of the upright crop."""
        right = np.array([-self.up[1], self.up[0]])
        return -right if self.left else right

    @property
    def quad(self) -> np.ndarray:
        """[4, 2] corners, in the order of `palmforge.data.roi.xjtu_roi_quad`."""
        signs = np.array([[-1, 1], [1, 1], [1, -1], [-1, -1]]) * self.side / 2
        return self.centre + signs[:, :1] * self.right + signs[:, 1:] * self.up


def frame_of_points(keypoints14: np.ndarray) -> PalmFrame:
    """The frame of 14 points `[14, 2]`; its quad is `xjtu_roi_quad`'s.

    Which hand it is follows from the points: from the thumb's side of the index finger to the
    little finger they run one way round on a left palm, the other way round on a right one.

    Raises:
        ValueError: If the points do not span a palm.
    """
    quad = xjtu_roi_quad(keypoints14)
    up = (quad[0] + quad[1] - quad[2] - quad[3]) / 2
    right = (quad[1] + quad[2] - quad[0] - quad[3]) / 2
    side = float(np.linalg.norm(up))
    left = bool(up[0] * right[1] - up[1] * right[0] < 0)
    return PalmFrame(quad.mean(axis=0), side, up / side, left)


def crop_matrix(
    frame: PalmFrame, size: int, sides: float = CROP_SIDES, shift_up: float = CROP_UP
) -> np.ndarray:
    """Picture → upright crop, `[3, 3]`, a similarity (with a mirror for a left hand).

    Args:
        frame: The palm.
        size: Side of the crop in pixels.
        sides: Sides of the ROI that the crop spans.
        shift_up: How far the crop's middle is above the ROI's centre, in sides.
    """
    scale = size / (sides * frame.side)
    middle = frame.centre + shift_up * frame.side * frame.up
    rotation = scale * np.stack([frame.right, -frame.up])
    matrix = np.eye(3)
    matrix[:2, :2] = rotation
    matrix[:2, 2] = (size - 1) / 2 - rotation @ middle
    return matrix


def transform(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Applies a homography `[3, 3]` to points `[..., 2]`."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return mapped[..., :2] / mapped[..., 2:]
