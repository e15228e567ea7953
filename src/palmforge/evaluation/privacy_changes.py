"""Changed copies of pictures, for an audit to find: what it cannot find, it cannot rule out."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

Change = Callable[[np.ndarray], np.ndarray]  # [S, S, 3] uint8 RGB → the same


def jpeg(image: np.ndarray) -> np.ndarray:
    """Through a JPEG of quality 50."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=50)
    return np.asarray(Image.open(file).convert("RGB"))


def halved(image: np.ndarray) -> np.ndarray:
    """Through half its size."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((width // 2, height // 2), Image.Resampling.LANCZOS)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def brighter(image: np.ndarray) -> np.ndarray:
    """By 15 %."""
    return np.asarray(ImageEnhance.Brightness(Image.fromarray(image)).enhance(1.15))


def cropped(image: np.ndarray) -> np.ndarray:
    """Without 3 % at the left and at the bottom."""
    height, width = image.shape[:2]
    cut = round(0.03 * width)
    part = Image.fromarray(image).crop((cut, 0, width, height - cut))
    return np.asarray(part.resize((width, height), Image.Resampling.BICUBIC))


def mirrored(image: np.ndarray) -> np.ndarray:
    """Left and right exchanged."""
    return np.ascontiguousarray(image[:, ::-1])


CHANGES: dict[str, Change] = {
    "JPEG of quality 50": jpeg,
    "half the size": halved,
    "15 % brighter": brighter,
    "3 % cropped on two sides": cropped,
    "mirrored": mirrored,
}
