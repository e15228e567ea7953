"""An exemplar of what is masked, changed so that it cannot simply be copied (Yang et al. 2023)."""

from __future__ import annotations

import cv2
import numpy as np

from palmforge.data.roi import extract_roi

_SHARES = (0.1, 1.0)  # of the longest side that fits: sROI has a tenth of the palm's, fROI all
_TURN = 20.0  # degrees


def draw_exemplar(
    image: np.ndarray, bounds: np.ndarray, size: int, rng: np.random.Generator
) -> np.ndarray:
    """A square from within a box of a picture: turned, mirrored, blurred, lighter or darker.

    The squares are of all sizes down to a tenth, for a de-identified palm is shown by such (paper
    001, §III-B2).

    Args:
        image: `[H, W, 3]` uint8.
        bounds: `[[left, top], [right, bottom]]`, pixel centres: no pixel outside them is looked at.
            Cut by the picture's border.
        size: Of the exemplar, in pixels.
        rng: Decides everything.

    Returns:
        `[size, size, 3]` uint8.
    """
    low, high = _inside(bounds, image.shape[0], image.shape[1])
    turn = np.deg2rad(rng.uniform(-_TURN, _TURN))
    cos, sin = np.cos(turn), np.sin(turn)
    reach = float(np.exp(rng.uniform(*np.log(_SHARES)))) * float((high - low).min()) / 2
    middle = rng.uniform(low + reach, high - reach)
    right = np.array([cos, sin]) * reach / (abs(cos) + abs(sin))
    down = np.array([-right[1], right[0]])
    if rng.random() < 0.5:
        right = -right
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    quad = middle + signs[:, :1] * right + signs[:, 1:] * down
    return _changed(extract_roi(image, quad, size), rng)


def _inside(bounds: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two corners in the picture, at least a pixel apart."""
    most = np.array([width, height], np.float64) - 1
    low = np.clip(bounds[0], 0, most - 1)
    return low, np.clip(bounds[1], low + 1, most)


def _changed(exemplar: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light, contrast and sharpness; the colour of the skin stays, since it has to be told."""
    lightness, contrast = rng.uniform(0.85, 1.15, 2)
    sigma = rng.uniform(0.3, 0.02 * len(exemplar) + 0.3) if rng.random() < 0.4 else 0.0
    found = exemplar.astype(np.float32)
    mean = found.mean()
    found = (contrast * (found - mean) + mean) * lightness
    if sigma:
        found = cv2.GaussianBlur(found, (0, 0), sigma)
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)
