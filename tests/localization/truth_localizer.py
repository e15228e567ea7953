"""A localizer for tests: it knows the answers, by the mean colour of a patch in the corner.

Pictures of `photograph` carry a code in their upper left corner that says which palms are on them.
"""

from __future__ import annotations

import cv2
import numpy as np
from pictures import RIGHT_HAND, noise

from palmforge.localization.location import PalmLocation

HEIGHT, WIDTH = 200, 240  # of the picture in which RIGHT_HAND is given
_CODES = {"none": 20, "right": 70, "left": 120, "both": 170, "unsure": 220}


def photograph(kind: str, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """[H, W, 3] uint8 with a code for `kind`."""
    image = cv2.resize(noise(HEIGHT, WIDTH, seed), (width, height))
    image[: height // 8, : width // 8] = _CODES[kind]
    return image


def truth(kind: str, height: int = HEIGHT, width: int = WIDTH) -> list[PalmLocation]:
    """The palms on a photograph."""
    scale = np.array([width / WIDTH, height / HEIGHT])
    right = (RIGHT_HAND + 0.5) * scale - 0.5
    left = np.stack([width - 1 - right[:, 0], right[:, 1]], axis=1)
    small = 0.4 * left + [0.02 * width, 0.5 * height]
    return {
        "none": [],
        "right": [PalmLocation(right, np.tile(right[:1], (21, 1)), "R", 0.9)],
        "left": [PalmLocation(left, None, "L", 0.9)],
        "both": [PalmLocation(right, None, "R", 0.9), PalmLocation(small, None, "L", 0.8)],
        "unsure": [PalmLocation(right, None, "R", 0.2)],
    }[kind]


class TruthLocalizer:
    def locate_all(self, image: np.ndarray) -> list[PalmLocation]:
        height, width = image.shape[:2]
        seen = image[: max(1, height // 10), : max(1, width // 10)].mean()
        kind = min(_CODES, key=lambda name: abs(_CODES[name] - seen))
        return truth(kind, height, width)
