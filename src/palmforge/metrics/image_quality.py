"""How much of a picture is left in a changed one: SSIM, MS-SSIM, PSNR (paper 001, Table III)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, §3.2
_WINDOW = 11  # pixels, of SSIM's Gaussian (Wang et al. 2004)
NAN = float("nan")


@dataclass(frozen=True)
class ImageQuality:
    """Of one changed picture beside its original; more is more alike.

    Attributes:
        ssim: At most 1; NaN below 11 pixels a side, SSIM's window.
        ms_ssim: In [0, 1]; NaN likewise.
        psnr: dB; infinite where nothing has changed.
        scales: Of MS-SSIM: 5, or fewer in a small picture.
    """

    ssim: float
    ms_ssim: float
    psnr: float
    scales: int = len(SCALE_WEIGHTS)


@dataclass(frozen=True)
class MeanAndDeviation:
    """As papers print it: mean ± standard deviation.

    Attributes:
        mean: Of the finite values; NaN if there is none.
        deviation: Of a sample (n - 1); NaN with fewer than two.
        count: Finite values.
        left_out: Infinite ones and NaN, which are in neither.
    """

    mean: float
    deviation: float
    count: int
    left_out: int = 0

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.deviation:.4f}"


@torch.no_grad()
def image_quality(original: Tensor, changed: Tensor) -> ImageQuality:
    """SSIM, MS-SSIM and PSNR of a picture, as it is: nothing is resized.

    All three are taken over the three colours. SSIM has the usual Gaussian window (11 pixels, sigma
    1.5). MS-SSIM halves the picture four times, and the window must still fit: 176 pixels a side. A
    smaller picture gets as many scales as fit, with their weights renormalised to a sum of 1, so
    that a set of small pictures has a figure at all; `scales` says so, and figures of different
    numbers of scales are not to be compared. The unchanged surroundings count like the palm does:
    how much of a picture is palm decides these figures more than anything.

    float32 leaves the fourth digit of SSIM uncertain where skin is perfectly even. A picture takes
    about 1 GB a megapixel while it is measured.

    Args:
        original: `[3, H, W]` uint8 RGB.
        changed: Of the same shape and type.

    Raises:
        ValueError: If they are something else.
    """
    for name, picture in (("original", original), ("changed", changed)):
        if picture.ndim != 3 or len(picture) != 3 or picture.dtype != torch.uint8:
            raise ValueError(
                f"{name}: uint8 [3, H, W] expected, got {picture.dtype} {list(picture.shape)}"
            )
    if original.shape != changed.shape or original.numel() == 0:
        raise ValueError(
            f"pictures of one size expected, got {list(original.shape)} and {list(changed.shape)}"
        )
    one, other = (picture[None].float() / 255 for picture in (original, changed))
    psnr = float(peak_signal_noise_ratio(other, one, data_range=1.0))
    scales = num_scales(*original.shape[1:])
    if scales == 0:
        return ImageQuality(NAN, NAN, psnr, scales)
    ssim = structural_similarity_index_measure(other, one, data_range=1.0)
    assert isinstance(ssim, Tensor)  # a pair only where maps are asked for
    total = sum(SCALE_WEIGHTS[:scales])
    weights = tuple(weight / total for weight in SCALE_WEIGHTS[:scales])
    ms_ssim = multiscale_structural_similarity_index_measure(
        other, one, data_range=1.0, betas=weights
    )
    return ImageQuality(float(ssim), float(ms_ssim), psnr, scales)


def num_scales(height: int, width: int) -> int:
    """Scales of MS-SSIM that fit: 5 from 176 pixels a side, 4 from 99, 3 from 44, 2 from 22, 1."""
    side = min(height, width)
    fit = 0
    for scales in range(1, len(SCALE_WEIGHTS) + 1):
        taken = side // (scales - 1) ** 2 >= _WINDOW if scales > 1 else True  # by torchmetrics
        if taken and side >= _WINDOW * 2 ** (scales - 1):
            fit = scales
    return fit


def mean_and_deviation(values: Iterable[float]) -> MeanAndDeviation:
    """Mean ± standard deviation of the finite values, and how many were not.

    Example:
        >>> mean_and_deviation([1.0, 3.0, float("inf")])
        MeanAndDeviation(mean=2.0, deviation=1.4142135623730951, count=2, left_out=1)
    """
    every = np.array(list(values), dtype=np.float64)
    some = every[np.isfinite(every)]
    return MeanAndDeviation(
        mean=float(some.mean()) if some.size else NAN,
        deviation=float(some.std(ddof=1)) if some.size > 1 else NAN,
        count=some.size,
        left_out=every.size - some.size,
    )
