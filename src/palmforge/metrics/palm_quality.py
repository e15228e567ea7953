"""What can be said of a generated palm without knowing whose it is."""

from __future__ import annotations

import torch
from torch import Tensor

from palmforge.networks.line_filters import LineFilters
from palmforge.networks.preparation import GREY_WEIGHTS, as_float


@torch.no_grad()
def palm_quality(images: Tensor) -> dict[str, Tensor]:
    """Brightness, contrast and lines: none of them knows a palm, each knows some that are none.

    An empty picture has no contrast; a palm out of focus, or a wall, no lines; a picture of
    something else or of noise, more lines than a hand has.

    Args:
        images: `[N, 3, H, W]` RGB, uint8 or float in [0, 1].

    Returns:
        `[N]` float32 each: `brightness`, mean grey in [0, 1]; `contrast`, standard deviation of
        grey in [0, 0.5]; `lines`, mean of the soft line map (`LineFilters`) in [0, 1].
    """
    pictures = as_float(images)
    weights = pictures.new_tensor(GREY_WEIGHTS).view(3, 1, 1)
    grey = (pictures * weights).sum(1).flatten(1)
    return {
        "brightness": grey.mean(1),
        "contrast": grey.std(1, correction=0),
        "lines": torch.cat([_line_share(part) for part in pictures.split(16)]),
    }


def _line_share(pictures: Tensor) -> Tensor:
    filters = LineFilters().to(pictures.device)
    share: Tensor = filters(pictures).flatten(1).mean(1)
    return share
