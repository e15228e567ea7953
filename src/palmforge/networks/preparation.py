"""From a palm in colour to what the first convolution of a recogniser reads."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from palmforge.errors import ConfigError

Standardize = Literal["image", "none"]

# What the channels of a colour picture are worth where only grey is read. Haemoglobin absorbs
# green and blue: creases show there, and hardly in red.
GREY_WEIGHTS = (0.25, 0.5, 0.25)


def check_standardize(standardize: str) -> None:
    """Refuses what `prepare` does not know.

    Raises:
        ConfigError: If it is neither `image` nor `none`.
    """
    if standardize not in ("image", "none"):
        raise ConfigError(f"model.standardize: {standardize!r} is neither image nor none")


def as_float(images: Tensor) -> Tensor:
    """uint8 → float32 in [0, 1]; floats stay as they are."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def as_signed(images: Tensor) -> Tensor:
    """`[N, 3, H, W]` uint8 → float32 in [-1, 1], as diffusers' autoencoders take pictures."""
    return images.float() / 127.5 - 1


def prepare(images: Tensor, size: int, grey: bool, standardize: Standardize) -> Tensor:
    """`[N, 3, H, W]` RGB in [0, 1] → `[N, 1 or 3, size, size]`.

    Args:
        images: Of any H and W.
        size: Side that they are resized to.
        grey: Keep one grey channel.
        standardize: `image`: each picture and channel has mean 0 and deviation 1; `none`: as given.

    Raises:
        ValueError: If `images` are not `[N, 3, H, W]` floats.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"images [N, 3, H, W] of floats in [0, 1] expected, got {images.dtype} "
            f"{list(images.shape)}"
        )
    if grey:
        weights = images.new_tensor(GREY_WEIGHTS).view(3, 1, 1)
        images = (images * weights).sum(1, keepdim=True)
    if tuple(images.shape[2:]) != (size, size):
        # Antialiased: else a photograph of 400 pixels would give lines that no palm has.
        images = interpolate(
            images, (size, size), mode="bilinear", align_corners=False, antialias=True
        )
    if standardize == "image":
        sd, mean = torch.std_mean(images, dim=(2, 3), keepdim=True)
        images = (images - mean) / (sd + 1e-3)  # an even picture stays even
    return images.contiguous(memory_format=torch.channels_last)
