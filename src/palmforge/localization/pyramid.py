"""One picture at the scales at which it is looked at."""

from __future__ import annotations

import math

import cv2
import numpy as np


class Pyramid:
    """A picture and its halves, made when first asked for.

    A crop of 160 pixels out of 30 megapixels would alias if it were sampled from the full picture;
    the halves are averages, and are shared by all crops.

    Args:
        image: [H, W, 3] uint8.
    """

    def __init__(self, image: np.ndarray) -> None:
        self._levels = [image]

    def warp(self, matrix: np.ndarray, width: int, height: int) -> np.ndarray:
        """Cuts a view out.

        Args:
            matrix: Full picture → view, `[3, 3]` affine.
            width: Of the view.
            height: Of the view.

        Returns:
            `[height, width, 3]` uint8; black outside the picture.
        """
        scale = math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))
        # Bilinear sampling of a picture 1 to 1.6 times as fine hardly aliases.
        wanted = max(0, math.ceil(math.log2(max(1 / (1.6 * scale), 1e-9))))
        level = self._level(wanted)
        factor = 2.0**level
        # Pixel centres are integers: the corner of the picture stays at −0.5.
        up = np.array([[factor, 0, (factor - 1) / 2], [0, factor, (factor - 1) / 2], [0, 0, 1]])
        to_view = (matrix @ up)[:2]
        return cv2.warpAffine(self._levels[level], to_view, (width, height), flags=cv2.INTER_LINEAR)

    def _level(self, wanted: int) -> int:
        while len(self._levels) <= wanted:
            last = self._levels[-1]
            height, width = last.shape[0] // 2, last.shape[1] // 2
            if min(height, width) < 16:
                break
            even = last[: 2 * height, : 2 * width]
            self._levels.append(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA))
        return min(wanted, len(self._levels) - 1)
