"""Training augmentation: albumentations presets. Geometry has a switch of its own."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

import albumentations as A
import cv2
import numpy as np

Preset = Literal["none", "mild", "strong"]

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


class RoiAugmentation:
    """`[S', S', 3]` uint8 ROI and a seed → `[S, S, 3]` uint8; the same for the same seed.

    Args:
        preset: How far captures of one palm differ; `"none"` only resizes.
        geometric: Rotation, scale, shift and perspective.
        image_size: S.
    """

    def __init__(self, preset: Preset, geometric: bool, image_size: int) -> None:
        if preset not in ("none", *_GEOMETRY):
            raise ValueError(f"augmentation must be none, mild or strong, got {preset!r}")
        transforms: list[A.BasicTransform] = []
        if preset != "none" and geometric:
            transforms += _geometric(**_GEOMETRY[preset])
        transforms.append(A.Resize(image_size, image_size, interpolation=cv2.INTER_AREA))
        if preset != "none":
            transforms += _photometric(**_PHOTOMETRY[preset])
        self._compose = A.Compose(transforms)
        self.is_random = preset != "none"
        content = [_VERSION, self._compose.to_dict(), image_size]
        self.fingerprint = hashlib.sha256(
            json.dumps(content, sort_keys=True, default=str).encode()
        ).hexdigest()[:16]

    def __call__(self, roi: np.ndarray, seed: int) -> np.ndarray:
        """See the class."""
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
