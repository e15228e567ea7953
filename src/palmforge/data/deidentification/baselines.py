"""What palms were concealed with before: black, a blur, blocks (paper 001, §IV-E, Part D)."""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np

from palmforge.errors import ConfigError

Baseline = Literal["masking", "blurring", "pixelating"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
# Shares of the palm's width. The paper gives none; see `conceal`.
STRENGTHS: dict[Baseline, float] = {"blurring": 0.025, "pixelating": 0.04}


def conceal(
    image: np.ndarray, mask: np.ndarray, method: Baseline, strength: float | None = None
) -> np.ndarray:
    """A picture whose palm is masked, blurred or pixelated; outside the mask nothing changes.

    The paper names the three and gives no strengths. Its PSNR for masking, 13.9 dB, is that of
    black. Its blurring and pixelating hardly protect: SSIM 0.987 and 0.979, and of two recognisers
    neither rejects more than 7 %. No one strength gives all of its figures on rendered hands; the
    defaults have that tendency (16 palms of three pictures, each against all of its palm): MTCC
    rejects none, the embedding "synthetic-only-v1" 4 % and 1 %; SSIM 0.973 and 0.974, of noise that
    the blur takes away, PSNR 43 dB. The embedding rejects all at a sigma of 0.05 and blocks of 0.1.

    Args:
        image: `[H, W, 3]` uint8.
        mask: `[H, W]` bool, the palm.
        method: `masking`: black. `blurring`: a Gaussian. `pixelating`: means of square blocks; both
            read the pixels around the palm too, as any tool does.
        strength: Sigma of the Gaussian, or side of a block, as a share of the palm's width
            (`palm_width`), > 0; None: the default. Masking has none, and looks at none.

    Returns:
        `[H, W, 3]` uint8, a new array.

    Raises:
        ConfigError: An unknown method, or a strength that is not above 0.
        ValueError: An empty mask, or arrays of other shapes or types.
    """
    if method not in BASELINES:
        raise ConfigError(f"baseline {method!r} is none of {', '.join(BASELINES)}")
    share = STRENGTHS.get(method, 1.0) if strength is None else float(strength)
    if not (share > 0 and np.isfinite(share)):
        raise ConfigError(f"{method}: a strength of {share:g} conceals nothing; give one above 0")
    _check(image, mask)
    pixels = share * palm_width(mask)
    result = image.copy()
    if method == "masking":
        result[mask] = 0
    elif method == "blurring":
        result[mask] = _blurred(image, mask, pixels)[mask]
    else:
        result[mask] = _in_blocks(image, mask, max(1, round(pixels)))[mask]
    return result


def palm_width(mask: np.ndarray) -> float:
    """Side of a square as large as the mask, in pixels: the same however the hand is turned."""
    return float(np.sqrt(np.count_nonzero(mask)))


def _blurred(image: np.ndarray, mask: np.ndarray, sigma: float) -> np.ndarray:
    """The picture, blurred where the mask is and whatever else lies in its box."""
    top, bottom, left, right = _bounds(mask, reach=int(np.ceil(4 * sigma)))
    result = image.copy()
    part = image[top:bottom, left:right]
    result[top:bottom, left:right] = cv2.GaussianBlur(
        part, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE
    )
    return result


def _in_blocks(image: np.ndarray, mask: np.ndarray, side: int) -> np.ndarray:
    """The picture in blocks, which begin where the mask's box does."""
    top, bottom, left, right = _bounds(mask)
    rows, columns = -(-(bottom - top) // side), -(-(right - left) // side)
    part = image[top : top + rows * side, left : left + columns * side]
    height, width = part.shape[:2]
    below, beside = rows * side - height, columns * side - width  # where the picture ends before
    whole = cv2.copyMakeBorder(part, 0, below, 0, beside, cv2.BORDER_REPLICATE)
    means = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    blocks = means.repeat(side, axis=0).repeat(side, axis=1)
    result = image.copy()
    result[top : top + height, left : left + width] = blocks[:height, :width]
    return result


def _bounds(mask: np.ndarray, reach: int = 0) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the mask's box, wider by `reach`, within the picture."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape
    top, bottom = max(0, rows[0] - reach), min(height, rows[-1] + 1 + reach)
    left, right = max(0, columns[0] - reach), min(width, columns[-1] + 1 + reach)
    return int(top), int(bottom), int(left), int(right)


def _check(image: np.ndarray, mask: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image: uint8 [H, W, 3] expected, got {image.dtype} {list(image.shape)}")
    if mask.shape != image.shape[:2] or mask.dtype != np.bool_:
        raise ValueError(
            f"mask: bool {list(image.shape[:2])} expected, got {mask.dtype} {list(mask.shape)}"
        )
    if not mask.any():
        raise ValueError("mask: it is empty, so there is nothing to conceal")
