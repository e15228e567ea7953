"""From any detector of 21 hand points (WiLoR, MediaPipe, …) to the 14 XJTU points and the ROI.

Each of the 14 points is a fixed weighted mean of the 21, with weights that may be negative and sum
to 1. Such a map commutes with every affine map of the picture: moving, turning, scaling, mirroring
and the foreshortening of a tilted, flat hand need no normalisation and cost no accuracy, and one
matrix serves both hands. The weights are fitted by least squares on rendered hands
(`palmforge.localization.fit_hand_points`), where both sets of points are known.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike

from palmforge.data.records import NUM_KEYPOINTS
from palmforge.localization.location import PalmLocation

NUM_HAND_POINTS = 21
COEFFICIENTS = Path(__file__).parents[1] / "assets" / "hand_points" / "coefficients.json"

# What says most about the palm and is found most surely: wrist, thumb roots, MCP and PIP joints.
# Finger tips move without the palm.
USED = (0, 1, 2, 5, 6, 9, 10, 13, 14, 17, 18)


class HandPointsDetector(Protocol):
    """What a detector of 21 points must do to be used here: one call.

    A wrapper of a detector of your own is a few lines:

        class MyDetector:
            def __call__(self, image):
                hands = self.model(image)  # pixels (x, y) of `image`
                return [(hand.points, hand.side, hand.score) for hand in hands]

    Beware: MediaPipe names the hand as if the picture were a selfie, mirrored; swap its names for
    any other picture.
    """

    def __call__(self, image: np.ndarray) -> list[tuple[np.ndarray, Literal["L", "R"], float]]:
        """Finds hands.

        Args:
            image: [H, W, 3] uint8 RGB.

        Returns:
            For each hand its points [21, 2] in pixels (wrist, then thumb to little finger from root
            to tip), which hand it is, and a score in 0..1.
        """
        ...


def keypoints14_from_21(points21: ArrayLike) -> np.ndarray:
    """The 14 XJTU points of a hand of which the 21 usual ones are known.

    Left and right need not be told: see the module.

    Args:
        points21: [..., 21, 2] pixels.

    Returns:
        [..., 14, 2] pixels.

    Raises:
        ValueError: If there are not 21 points.
    """
    points = np.asarray(points21, dtype=np.float64)
    if points.shape[-2:] != (NUM_HAND_POINTS, 2):
        raise ValueError(f"{NUM_HAND_POINTS} (x, y) points are needed, got shape {points.shape}")
    return _weights() @ points


def fit_weights(points21: ArrayLike, points14: ArrayLike, noise: float = 0.02) -> np.ndarray:
    """The weights that give 14 points from 21, by trimmed least squares.

    The tenth of the hands that fits worst is left out of a second round: where closed fingers merge
    in a small picture, a renderer's valley points may slip to the next valley.

    Args:
        points21: [N, 21, 2] of N hands, in any frame and scale.
        points14: [N, 14, 2] of the same hands.
        noise: Standard deviation of a detector's error, in palm widths, against which the weights
            are made robust: it is the ridge of the regression.

    Returns:
        [14, 21]; rows sum to 1.
    """
    sources, targets = np.asarray(points21, dtype=np.float64), np.asarray(points14, np.float64)
    weights = _least_squares(sources, targets, noise)
    worst = residuals(weights, sources, targets).max(axis=1)
    kept = worst <= np.quantile(worst, 0.9)
    return _least_squares(sources[kept], targets[kept], noise)


def residuals(weights: np.ndarray, points21: ArrayLike, points14: ArrayLike) -> np.ndarray:
    """Distances [N, 14] of mapped from true points, in palm widths."""
    targets = np.asarray(points14, dtype=np.float64)
    width = np.linalg.norm(targets[:, 12] - targets[:, 0], axis=-1)
    return np.linalg.norm(weights @ np.asarray(points21) - targets, axis=-1) / width[:, None]


def shows_palm(points21: ArrayLike, handedness: Literal["L", "R"]) -> bool:
    """Whether a hand turns its palm, not its back, to the camera.

    Seen from the palm, fingers up, the thumb of a right hand is on the right.
    """
    points = np.asarray(points21, dtype=np.float64)
    up = points[[5, 9, 13, 17]].mean(axis=0) - points[0]
    towards_index = points[5] - points[17]
    clockwise = up[0] * towards_index[1] - up[1] * towards_index[0] > 0  # y points down
    return bool(clockwise) == (handedness == "R")


class HandPointsLocalizer:
    """A `Localizer` made of a 21-point detector.

    Args:
        detector: Finds hands.
        palms_only: Leave out hands that show their back. Needs a detector whose handedness can be
            trusted; with false, the hand is named by the order of its points instead.
    """

    def __init__(self, detector: HandPointsDetector, palms_only: bool = True) -> None:
        self.detector = detector
        self.palms_only = palms_only

    def locate_all(self, image: np.ndarray) -> list[PalmLocation]:
        """All palms in a picture, the surest first (see `Localizer`)."""
        palms = []
        for points, named, score in self.detector(image):
            points21 = np.asarray(points, dtype=np.float64)
            palm = shows_palm(points21, named)
            if self.palms_only and not palm:
                continue
            handedness: Literal["L", "R"] = named if palm else ("L" if named == "R" else "R")
            confidence = float(np.clip(score, 0, 1))
            location = PalmLocation(keypoints14_from_21(points21), points21, handedness, confidence)
            palms.append(location)
        return sorted(palms, key=lambda palm: -palm.confidence)

    def locate(self, image: np.ndarray) -> PalmLocation | None:
        """The surest palm, or None."""
        return next(iter(self.locate_all(image)), None)


def _least_squares(sources: np.ndarray, targets: np.ndarray, noise: float) -> np.ndarray:
    width = np.linalg.norm(targets[:, 12] - targets[:, 0], axis=-1)[:, None, None]
    # Relative to the wrist, the weight of which is what the others leave of 1.
    origin = sources[:, :1]
    inputs = ((sources[:, USED[1:]] - origin) / width).transpose(0, 2, 1).reshape(-1, len(USED) - 1)
    outputs = ((targets - origin) / width).transpose(0, 2, 1).reshape(-1, NUM_KEYPOINTS)
    # The noise of the points and, as all are relative to it, of the wrist.
    ridge = len(inputs) * noise**2 * (np.eye(inputs.shape[1]) + 1)
    solved = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ outputs)
    weights = np.zeros((NUM_KEYPOINTS, NUM_HAND_POINTS))
    weights[:, USED[1:]] = solved.T
    weights[:, 0] = 1 - weights.sum(axis=1)
    return weights


@cache
def _weights() -> np.ndarray:
    content = json.loads(COEFFICIENTS.read_text(encoding="utf-8"))
    return np.array(content["weights"], dtype=np.float64)
