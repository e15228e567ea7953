"""What can be said of a generated palm without knowing whose it is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.functional import gaussian_blur

from palmforge.networks.line_filters import LineFilters
from palmforge.networks.preparation import GREY_WEIGHTS, as_float

_SIDE = 64  # pixels
_BLURS = ((7, 0.8), (33, 4.0))  # kernel and deviation in these pixels
_DARKEST = 0.03  # added before the logarithm: below it a camera sees noise, not skin


@torch.no_grad()
def palm_quality(images: Tensor) -> dict[str, Tensor]:
    """Brightness, contrast, relief and lines: none knows a palm, each knows some that are none.

    An empty picture has no contrast; a palm out of focus, or a wall, no relief and no lines; a
    picture of something else or of noise, more lines than a hand has.

    Args:
        images: `[N, 3, H, W]` RGB, uint8 or float in [0, 1].

    Returns:
        `[N]` float32 each: `brightness`, mean grey in [0, 1]; `contrast`, standard deviation of
        grey in [0, 0.5]; `relief`, >= 0, how deep creases are: standard deviation of the logarithm
        of grey between the scales of 0.0125 and 0.0625 of the side; `lines`, mean of the soft line
        map (`LineFilters`) in [0, 1].
    """
    pictures = as_float(images)
    weights = pictures.new_tensor(GREY_WEIGHTS).view(3, 1, 1)
    grey_pictures = (pictures * weights).sum(1, keepdim=True)
    grey = grey_pictures.flatten(1)
    return {
        "brightness": grey.mean(1),
        "contrast": grey.std(1, correction=0),
        "relief": _relief(grey_pictures),
        "lines": torch.cat([_line_share(part) for part in pictures.split(16)]),
    }


def _relief(grey: Tensor) -> Tensor:
    """Of `[N, 1, H, W]`; of the logarithm, since light multiplies; all at one size."""
    sized = interpolate(grey, (_SIDE, _SIDE), mode="bilinear", align_corners=False, antialias=True)
    logarithm = (sized + _DARKEST).log()
    fine, coarse = (gaussian_blur(logarithm, [size, size], [s, s]) for size, s in _BLURS)
    return (fine - coarse).flatten(1).std(1, correction=0)


def _line_share(pictures: Tensor) -> Tensor:
    filters = LineFilters().to(pictures.device)
    share: Tensor = filters(pictures).flatten(1).mean(1)
    return share
