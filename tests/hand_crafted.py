"""Palms and lines for the tests of the hand-crafted recognisers."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor


@cache
def rendered_palms() -> tuple[Tensor, Tensor]:
    """ROIs [18, 3, 128, 128] uint8 of 6 palms, 3 captures each, and their labels."""
    from palmforge.data.synthetic import render_roi

    rois = [render_roi(palm, capture, "IF", 128, 5)[0] for palm in range(6) for capture in range(3)]
    return torch.from_numpy(np.stack(rois)).permute(0, 3, 1, 2), torch.arange(6).repeat_interleave(
        3
    )


def dark_lines(degrees: float, spacing: float = 32.0) -> Tensor:
    """[1, 3, 128, 128] in [0, 1]: dark lines that run at so many degrees from x, y down.

    One passes through the middle of the picture.
    """
    y, x = torch.meshgrid(torch.arange(128.0) - 64, torch.arange(128.0) - 64, indexing="ij")
    angle = torch.deg2rad(torch.tensor(degrees))
    off = (-x * angle.sin() + y * angle.cos() + spacing / 2) % spacing - spacing / 2
    return (0.8 - 0.5 * torch.exp(-(off**2) / 8)).expand(1, 3, -1, -1)


def near_the_middle_line(degrees: float) -> Tensor:
    """[32, 32] bool: codes within a pixel of the line through the middle, away from the edge."""
    centre = 4.0 * torch.arange(32) + 2 - 64
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    angle = torch.deg2rad(torch.tensor(degrees))
    off = (-x * angle.sin() + y * angle.cos()).abs()
    return (off < 2.1) & (x.abs() < 40) & (y.abs() < 40)


def genuine_and_impostor(distances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of the pairs of one palm, and of two."""
    same = labels[:, None] == labels
    apart = ~torch.eye(len(labels), dtype=torch.bool)
    return distances[same & apart], distances[~same]
