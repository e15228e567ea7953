"""What the hand-crafted recognisers read of a ROI."""

from __future__ import annotations

import torch
from torch import Tensor

from palmforge.errors import ConfigError
from palmforge.networks.preparation import as_float, prepare


def texture(rois: Tensor, size: int) -> Tensor:
    """One grey channel of mean 0 and deviation about 1, as the networks read it (`prepare`).

    An even ROI becomes exactly 0 everywhere, so that its code is that of nothing, not of rounding.

    Args:
        rois: [N, 3, H, W] RGB, uint8 or float in [0, 1].
        size: S; ROIs of another size are resized.

    Returns:
        [N, 1, S, S] float32.

    Raises:
        ValueError: Not [N, 3, H, W], neither uint8 nor floats, or not finite.
    """
    if rois.ndim == 4 and len(rois) == 0:
        return torch.zeros(0, 1, size, size, device=rois.device)
    grey = prepare(as_float(rois), size, grey=True, standardize="image").float()
    if not bool(torch.isfinite(grey).all()):
        raise ValueError("ROIs hold NaN or infinity")
    # prepare divides by the deviation + 0.001: half or less is left of a quarter of a grey level.
    even = grey.std((2, 3), keepdim=True) < 0.5
    return grey.masked_fill(even, 0.0)


def sampling_step(image_size: int, grid: int) -> int:
    """Pixels from one code to the next; the first is half a step from the edge.

    Raises:
        ConfigError: If the grid does not fit the picture, or cannot be packed into rows of bytes.
    """
    if grid < 8 or grid % 8 or grid > 64 or image_size % grid:
        raise ConfigError(
            f"a grid of {grid} × {grid} codes on {image_size} pixels: it must be 8, 16, … 64, and "
            "divide image_size"
        )
    return image_size // grid
