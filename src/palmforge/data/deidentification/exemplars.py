"""What a repainted palm is to look like: crops of the palm itself (paper 001, §III-B2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from palmforge.data.deidentification.segmentation import PALM_POINTS
from palmforge.data.roi import extract_roi
from palmforge.errors import ConfigError

Exemplar = Literal["s", "m", "f"]
SHARES: dict[str, float] = {"s": 0.1, "m": 0.5, "f": 1.0}  # of fROI's side
SIZE = 128  # pixels, before the encoder's own preparation


def exemplar_square(keypoints21: ArrayLike, exemplar: Exemplar) -> np.ndarray:
    """Corners of sROI, mROI or fROI, `[4, 2]` pixels from the top-left clockwise.

    fROI is the smallest axis-aligned square around the palm's seven points, on their middle; mROI
    has 50 % and sROI 10 % of its side, about its centre.
    """
    points = np.asarray(keypoints21, dtype=np.float64)[list(PALM_POINTS)]
    low, high = points.min(axis=0), points.max(axis=0)
    half = SHARES[exemplar] * float((high - low).max()) / 2
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return (low + high) / 2 + half * signs


def cut_exemplars(
    image: np.ndarray, keypoints21: ArrayLike, exemplars: Sequence[Exemplar], size: int = SIZE
) -> np.ndarray:
    """Exemplars of a palm, `[E, size, size, 3]` uint8; black outside the picture.

    Args:
        image: `[H, W, 3]` uint8 RGB.
        keypoints21: `[21, 2]` pixels (x, y).
        exemplars: Which, in this order.
        size: Side in pixels.
    """
    squares = [exemplar_square(keypoints21, exemplar) for exemplar in exemplars]
    return np.stack([extract_roi(image, square, size) for square in squares])


def check_exemplars(exemplars: Sequence[str]) -> None:
    """Any of s, m, f, at least one, each once.

    Raises:
        ConfigError: If it is something else.
    """
    known = set(exemplars) <= set(SHARES)
    if not exemplars or not known or len(set(exemplars)) < len(exemplars):
        raise ConfigError(
            f"data.exemplars: {list(exemplars)} is no choice of s, m and f, each once at most"
        )
