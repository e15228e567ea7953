"""What the palm detector and the landmark network are trained with."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    log_softmax,
    logsigmoid,
    softmax,
)


class PalmTargets(NamedTuple):
    """The detector's truth, cell by cell of an h × w map.

    Attributes:
        heat: `[N, h, w]` in [0, 1]: 1 in the cell of a palm's centre, a Gaussian about it.
        weight: `[N, h, w]` in [0, 1]: how much a cell has to know the palm.
        offset: `[N, 2, h, w]` from the cell's middle to the centre, in cells.
        log_side: `[N, h, w]`, of the side in cells.
        up: `[N, 2, h, w]`, unit vectors.
        left: `[N, h, w]`, 0 or 1.
    """

    heat: Tensor
    weight: Tensor
    offset: Tensor
    log_side: Tensor
    up: Tensor
    left: Tensor


def palm_targets(
    palms: Tensor,
    height: int,
    width: int,
    stride: int,
    spread: float = 0.18,
    threshold: float = 0.4,
) -> PalmTargets:
    """Paints palms on a map.

    Args:
        palms: `[N, M, 7]`: x, y, side (pixels), up x, up y, left (0 or 1), 1 (0: no palm).
        height: h, cells.
        width: w, cells.
        stride: Pixels a cell.
        spread: Standard deviation of the Gaussian in sides of the ROI; 0.6 cells at the least.
        threshold: Cells with less of the Gaussian do not have to know the palm.
    """
    there = palms[..., 6]
    centre = (palms[..., :2] + 0.5) / stride - 0.5  # in cells, middles at integers
    side = (palms[..., 2] / stride).clamp(min=0.05)
    columns = torch.arange(width, device=palms.device, dtype=palms.dtype)
    rows = torch.arange(height, device=palms.device, dtype=palms.dtype)
    dx = centre[..., 0, None, None] - columns  # [N, M, 1, w]
    dy = centre[..., 1, None, None] - rows[:, None]  # [N, M, h, 1]
    sigma = (spread * side).clamp(min=0.6)[..., None, None]
    bumps = torch.exp(-(dx.square() + dy.square()) / (2 * sigma.square()))
    own = (dx.abs() <= 0.5) & (dy.abs() <= 0.5)  # the cell that holds the centre
    bumps = torch.where(own, 1.0, bumps) * there[..., None, None]
    heat, nearest = bumps.max(dim=1)  # a cell belongs to the palm that is strongest in it

    def of_nearest(values: Tensor) -> Tensor:
        full = values.expand(-1, -1, height, width) if values.ndim == 4 else values
        return full.gather(1, nearest[:, None])[:, 0]

    def spread_out(values: Tensor) -> Tensor:
        return of_nearest(values[..., None, None])

    return PalmTargets(
        heat=heat,
        weight=torch.where(heat >= threshold, heat, 0.0),
        offset=torch.stack([of_nearest(dx), of_nearest(dy)], dim=1),
        log_side=spread_out(side.log()),
        up=torch.stack([spread_out(palms[..., 3]), spread_out(palms[..., 4])], dim=1),
        left=spread_out(palms[..., 5]),
    )


def centre_focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Focal loss of a heat map with Gaussian peaks (Law and Deng 2018, Eq. 1; α = 2, β = 4).

    Args:
        logits: `[N, h, w]`.
        heat: `[N, h, w]` in [0, 1]; exactly 1 at centres.

    Returns:
        Scalar: the sum over cells by the number of centres (1 at the least).
    """
    logits, probability = logits.float(), logits.float().sigmoid()
    centres = heat == 1
    hit = -(1 - probability).square() * logsigmoid(logits)
    miss = -(1 - heat).pow(4) * probability.square() * logsigmoid(-logits)
    return torch.where(centres, hit, miss).sum() / centres.sum().clamp(min=1)


def palm_regression_losses(
    offset: Tensor, log_side: Tensor, up: Tensor, left: Tensor, truth: PalmTargets
) -> dict[str, Tensor]:
    """What the detector says of the palms, where there are any.

    Args:
        offset: `[N, 2, h, w]`, cells.
        log_side: `[N, h, w]`.
        up: `[N, 2, h, w]`, any length.
        left: `[N, h, w]` logits.
        truth: Of the same cells.

    Returns:
        Weighted means: `offset` (L1, in sides), `side` (L1 of logarithms), `up` (L1), `left`
        (cross-entropy).
    """
    total = truth.weight.sum().clamp(min=1e-6)

    def mean(values: Tensor) -> Tensor:
        return (values * truth.weight).sum() / total

    in_sides = truth.log_side.exp().clamp(min=1.0)
    return {
        "offset": mean((offset - truth.offset).abs().sum(dim=1) / in_sides),
        "side": mean((log_side - truth.log_side).abs()),
        "up": mean((up - truth.up).abs().sum(dim=1)),
        "left": mean(binary_cross_entropy_with_logits(left, truth.left, reduction="none")),
    }


def heat_map_loss(
    heat: Tensor, points: Tensor, weight: Tensor, stride: int, sigma: float = 1.2
) -> Tensor:
    """Cross-entropy between each map, as a distribution over its cells, and a Gaussian.

    Args:
        heat: `[N, K, h, w]` logits.
        points: `[N, K, 2]` (x, y) pixels.
        weight: `[N, K]`, 0 where the point is not known or not in the crop.
        stride: Pixels a cell.
        sigma: Of the Gaussian, in cells.

    Returns:
        Scalar: the weighted mean.
    """
    logs = log_softmax(heat.float().flatten(2), dim=2).view_as(heat)
    columns = torch.arange(heat.shape[3], device=heat.device)
    rows = torch.arange(heat.shape[2], device=heat.device)
    cells = (points + 0.5) / stride - 0.5
    # The Gaussian is a product, so one axis after the other: far less memory than its h × w values.
    across = softmax(-(columns - cells[..., :1]).square() / (2 * sigma**2), dim=2)
    down = softmax(-(rows - cells[..., 1:]).square() / (2 * sigma**2), dim=2)
    entropy = -torch.einsum("nkhw,nkw,nkh->nk", logs, across, down)
    return (entropy * weight).sum() / weight.sum().clamp(min=1)


def point_loss(predicted: Tensor, points: Tensor, weight: Tensor, unit: float) -> Tensor:
    """Weighted mean L1 distance of points `[N, K, 2]`, in units of `unit` pixels."""
    distance = (predicted - points).abs().sum(dim=2) / unit
    return (distance * weight).sum() / weight.sum().clamp(min=1)


def known_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy over what is known: truth 0 or 1; −1 does not count. Any shape."""
    known = (truth >= 0).to(logits.dtype)
    values = binary_cross_entropy_with_logits(logits, truth.clamp(min=0), reduction="none")
    return (values * known).sum() / known.sum().clamp(min=1)
