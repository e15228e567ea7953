"""What an autoencoder of palms is trained with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d


def edge_loss(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Mean absolute difference of the slopes: creases are edges, and few pixels wide.

    Args:
        reconstruction: `[N, C, H, W]`.
        image: The same shape.

    Returns:
        Scalar: the mean over horizontal and vertical differences of neighbours.
    """
    error = reconstruction - image
    across, down = error.diff(dim=3).abs().mean(), error.diff(dim=2).abs().mean()
    return 0.5 * (across + down)


def tone_loss(reconstruction: Tensor, image: Tensor, size: int = 8) -> Tensor:
    """Mean absolute difference of the colours of neighbourhoods of `size` × `size` pixels.

    A wrong tint of all skin is a small error in each pixel: beside the lines it would not count.

    Args:
        reconstruction: `[N, C, H, W]`, H and W multiples of `size`.
        image: The same shape.
        size: Of a neighbourhood.
    """
    return avg_pool2d(reconstruction - image, size).abs().mean()


def gaussian_kl(mean: Tensor, sd: Tensor) -> Tensor:
    """KL(N(mean, sd²) ‖ N(0, 1)), averaged over all entries.

    Args:
        mean: Any shape.
        sd: The same shape, > 0.
    """
    return 0.5 * (mean.square() + sd.square() - 1 - 2 * torch.log(sd)).mean()
