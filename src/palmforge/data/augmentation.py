"""Training augmentation by preset. Geometry has a switch of its own."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Literal

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else importing it asks PyPI, each time

import albumentations as A
import cv2
import numpy as np

from palmforge.data import wild_augmentation

Preset = Literal["none", "mild", "strong", "wild", "wild_light"]

_VERSION = 2  # of how a seed becomes a picture

# Half-widths of what a capture of the same palm varies by. "mild" is a cooperative user and a
# good localiser, "strong" what contactless pictures show.
_GEOMETRY = {
    "mild": {"degrees": 6.0, "scale": 0.06, "shift": 0.03, "corners": 0.02},
    "strong": {"degrees": 12.0, "scale": 0.12, "shift": 0.06, "corners": 0.05},
}
_PHOTOMETRY: dict[str, dict[str, Any]] = {
    "mild": {"light": 0.15, "gamma": 15, "hue": 4, "blur": 3, "noise": 0.02, "jpeg": 70, "p": 0.2},
    "strong": {"light": 0.3, "gamma": 35, "hue": 8, "blur": 5, "noise": 0.05, "jpeg": 40, "p": 0.4},
}

_WILD = {"wild": 1.0, "wild_light": 0.5}  # strength


class RoiAugmentation:
    """`[S', S', 3]` uint8 ROI and a seed → `[S, S, 3]` uint8; the same for the same seed.

    Args:
        preset: How far captures of one palm differ. `"none"` only resizes; `"mild"` and `"strong"`
            are albumentations; `"wild"` is all that photographs in the wild show
            (`palmforge.data.wild_augmentation`), `"wild_light"` half as much of it, for ROIs that
            show it already.
        geometric: Rotation, scale, shift and perspective.
        image_size: S.
    """

    def __init__(self, preset: Preset, geometric: bool, image_size: int) -> None:
        if preset not in ("none", *_WILD, *_GEOMETRY):
            raise ValueError(
                f"augmentation must be none, mild, strong, wild or wild_light, got {preset!r}"
            )
        self.image_size = image_size
        self._wild = (image_size, geometric, _WILD[preset]) if preset in _WILD else None
        transforms: list[A.BasicTransform] = []
        if preset in _GEOMETRY and geometric:
            transforms += _geometric(**_GEOMETRY[preset])
        transforms.append(A.Resize(image_size, image_size, interpolation=cv2.INTER_AREA))
        if preset in _PHOTOMETRY:
            transforms += _photometric(**_PHOTOMETRY[preset])
        self._compose = A.Compose(transforms)
        self.is_random = preset != "none"
        content: list[Any] = [_VERSION, self._compose.to_dict(), image_size]
        if self._wild is not None:
            content += [wild_augmentation.VERSION, self._wild]
        self.fingerprint = hashlib.sha256(
            json.dumps(content, sort_keys=True, default=str).encode()
        ).hexdigest()[:16]

    def __call__(self, roi: np.ndarray, seed: int, strength: float = 1.0) -> np.ndarray:
        """See the class. `strength` in [0, 1] is how much of the preset's own `wild` shows."""
        if self._wild is not None:
            size, geometric, full = self._wild
            return wild_augmentation.recapture(roi, seed, size, geometric, full * strength)
        if self.is_random:
            # albumentations draws from generators of its own; global seeds do not reach them.
            # Compose.set_random_seed would give all of them one seed: then the same first number
            # decides everywhere, and noise, blur and JPEG come all together or not at all.
            transforms = self._compose.transforms
            seeds = np.random.SeedSequence(seed).generate_state(len(transforms)).tolist()
            for transform, own in zip(transforms, seeds, strict=True):
                transform.set_random_seed(own)
        return self._compose(image=roi)["image"]


def _geometric(
    degrees: float, scale: float, shift: float, corners: float
) -> list[A.BasicTransform]:
    return [
        A.Affine(
            rotate=(-degrees, degrees),
            keep_ratio=True,
            scale=(1 - scale, 1 + scale),
            translate_percent=(-shift, shift),
            border_mode=cv2.BORDER_REFLECT_101,
            p=1.0,
        ),
        A.Perspective(scale=(0.0, corners), border_mode=cv2.BORDER_REFLECT_101, p=0.5),
    ]


def _photometric(
    light: float, gamma: int, hue: int, blur: int, noise: float, jpeg: int, p: float
) -> list[A.BasicTransform]:
    return [
        A.RandomBrightnessContrast(brightness_limit=light, contrast_limit=light, p=2 * p),
        A.RandomGamma(gamma_limit=(100 - gamma, 100 + gamma), p=p),
        A.HueSaturationValue(
            hue_shift_limit=hue, sat_shift_limit=3 * hue, val_shift_limit=0, p=2 * p
        ),
        A.GaussianBlur(blur_limit=(3, blur), p=p),
        A.GaussNoise(std_range=(0.005, noise), p=p),
        A.ImageCompression(quality_range=(jpeg, 95), p=p),
    ]
