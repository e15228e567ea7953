"""Key points → quadrilateral → crop: the region of interest of Shao et al. 2020, §4.1."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike

from palmforge.data.records import NUM_KEYPOINTS

SIDE_OVER_WIDTH = 3 / 5  # of L = |P0 P12|
CENTRE_OVER_WIDTH = 2 / 5  # from P6, of the same L


def xjtu_roi_quad(keypoints: ArrayLike) -> np.ndarray:
    """The ROI's four corners in the picture, from the 14 key points.

    With L = |P0 P12|, the square has sides of 3/5 L along P9→P3, and its centre lies 2/5 L from P6,
    perpendicular to P3P9, on the wrist side: the side of the line P3P9 where P0, P12 and P13 are.

    The frame is the same for every palm: fingers up, index side on the right. The quad of a left
    hand (seen from the palm) therefore runs the other way round, and its crop comes out mirrored.

    Args:
        keypoints: `[14, 2]` (x, y) pixels, pixel centres at integers, y down.

    Returns:
        `[4, 2]` float64: where the output's top-left, top-right, bottom-right and bottom-left
        corners come from.

    Raises:
        ValueError: If there are not 14 finite points, or they do not span a palm.
    """
    points = np.asarray(keypoints, dtype=np.float64)
    if points.shape != (NUM_KEYPOINTS, 2):
        raise ValueError(f"{NUM_KEYPOINTS} (x, y) key points are needed, got shape {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("key points must be finite numbers")
    index_valley, middle_valley, little_valley = points[3], points[6], points[9]
    width = float(np.linalg.norm(points[12] - points[0]))
    across = index_valley - little_valley
    if width < 1.0 or np.linalg.norm(across) < 1.0:
        raise ValueError("P0 and P12, or P3 and P9, coincide")

    right = across / np.linalg.norm(across)
    down = np.array([-right[1], right[0]])
    towards_wrist = (points[[0, 12, 13]] - index_valley) @ down
    if abs(towards_wrist.mean()) < 1e-3 * width:
        raise ValueError("P0, P12 and P13 lie on the line P3P9: the wrist side cannot be told")
    down = down * np.sign(towards_wrist.mean())

    centre = middle_valley + CENTRE_OVER_WIDTH * width * down
    half = SIDE_OVER_WIDTH * width / 2
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return centre + half * (signs[:, :1] * right + signs[:, 1:] * down)


def quad_side(quad: ArrayLike) -> float:
    """Mean side length of a quad `[4, 2]`, in pixels."""
    corners = np.asarray(quad, dtype=np.float64)
    return float(np.linalg.norm(corners - np.roll(corners, 1, axis=0), axis=1).mean())


def extract_roi(image: np.ndarray, quad: ArrayLike, size: int) -> np.ndarray:
    """Cuts a quadrilateral out of a picture.

    The quad's corners are mapped to the outer corners of the output, which lie half a pixel outside
    the centres of its corner pixels: crops of one quad at two sizes show exactly the same skin.
    What lies outside the picture is black. In a crop smaller than its source each pixel is the
    mean of several samples, so that fine ridges do not alias.

    Args:
        image: `[H, W, 3]` (or `[H, W]`, then repeated) uint8.
        quad: `[4, 2]` source points of the output's top-left, top-right, bottom-right and
            bottom-left corners.
        size: Side of the output in pixels.

    Returns:
        `[size, size, 3]` uint8.

    Raises:
        ValueError: If the quad is not four finite points, or `size` is not positive.
    """
    source = np.asarray(quad, dtype=np.float64)
    if source.shape != (4, 2) or not np.isfinite(source).all():
        raise ValueError(f"a quad is four finite (x, y) points, got {source.tolist()}")
    if size < 1:
        raise ValueError(f"size must be positive, got {size}")
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)

    # A whole number of samples a pixel, no further apart than the source's pixels, then their mean.
    samples = max(1, math.ceil(quad_side(source) / size - 0.01))
    side = samples * size
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], dtype=np.float64) - 0.5
    matrix = cv2.getPerspectiveTransform(source.astype(np.float32), corners.astype(np.float32))
    crop = cv2.warpPerspective(image, matrix, (side, side), flags=cv2.INTER_LINEAR)
    if samples > 1:
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
    return crop
