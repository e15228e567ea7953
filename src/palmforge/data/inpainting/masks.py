"""What is hidden of a hand: mostly its palm, sometimes any other part (Yang et al. 2023, §3.4)."""

from __future__ import annotations

import cv2
import numpy as np

from palmforge.data.deidentification.exemplars import exemplar_square
from palmforge.data.deidentification.segmentation import palm_polygon, skeleton
from palmforge.data.roi import quad_side

_LEAST = 16  # pixels: with fewer there is nothing to learn
_TURN = 8.0  # degrees, standard deviation


def draw_mask(
    keypoints21: np.ndarray, size: int, free_form: float, rng: np.random.Generator
) -> np.ndarray:
    """A mask on a hand, `[size, size]` bool; never empty.

    Args:
        keypoints21: `[21, 2]` pixels (x, y) of the square picture; some may lie outside.
        size: Its side.
        free_form: Share of boxes and polygons anywhere on the hand; the others are like the palms
            that `palm_mask` gives.
        rng: Decides everything.
    """
    shaped = free_form_mask if rng.random() < free_form else palm_like_mask
    mask = shaped(keypoints21, size, rng)
    if mask.sum() < _LEAST:  # beside the picture, or a hand seen from its side
        mask[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = True
    return mask


def palm_like_mask(keypoints21: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The palm's polygon, grown, shifted and turned as no detector would be wrong.

    Half of them end where the hand does, as segmented palms do.
    """
    points = np.asarray(keypoints21, np.float64)
    side = _palm_side(points)
    turn = np.deg2rad(np.clip(rng.normal(0, _TURN), -2.5 * _TURN, 2.5 * _TURN))
    scale = rng.uniform(0.85, 1.3)
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = exemplar_square(points, "f").mean(0)
    moved = (points - middle) @ rotation.T + middle + rng.normal(0, 0.05, 2) * side
    mask = palm_polygon(moved, size, size, rng.random() < 0.5, rng.uniform(0, 0.12) * side)
    if rng.random() < 0.5:
        mask &= skeleton(np.empty((size, size, 3), np.uint8), points)
    return mask


def free_form_mask(keypoints21: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A box or a polygon of five to twelve corners, between any two points of the hand."""
    points = np.asarray(keypoints21, np.float64)
    side = _palm_side(points)
    one, other = points[rng.choice(len(points), 2, replace=False)]
    middle = one + rng.random() * (other - one)
    half = rng.uniform(0.15, 0.55, 2) * side
    if rng.random() < 0.5:
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 13)))
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        corners = circle * half * rng.uniform(0.6, 1.2, (len(angles), 1))
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.rint(16 * (middle + corners)).astype(np.int32)], 1, shift=4)
    return mask.astype(bool)


def _palm_side(points: np.ndarray) -> float:
    return max(4.0, quad_side(exemplar_square(points, "f")))
