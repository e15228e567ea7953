"""Where the three principal lines run: a joint Gaussian fitted on 1,000 labelled palms.

Data and licence: `palmforge/assets/principal_lines/README.md` (Diff-Palm, Apache-2.0).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

import palmforge

LINES = ("life", "head", "heart")
DEGREE = 4
_OUTLIER = 3.0  # palms further than this many (root mean square) deviations are not fitted
_TYPICAL = 1.25  # sampled palms stay this close, so that no palm is a caricature
_SECOND, _BESIDE = 0.35, 0.35  # share of the second labelled palm (at most), and of Gaussian noise


@dataclass(frozen=True)
class LineModel:
    """Joint distribution of the polynomials x(t), y(t), t in [0, 1], of the three lines.

    Attributes:
        mean: [30] coefficients: line, then x and y, then powers 0..4 of t.
        factor: [30, 30] lower Cholesky factor of the covariance.
        palms: [num_palms, 30] coefficients of the labelled palms.
        num_palms: labelled palms left after cutting the outliers.
    """

    mean: np.ndarray
    factor: np.ndarray
    palms: np.ndarray
    num_palms: int

    def sample(self, rng: np.random.Generator, num_points: int = 64) -> np.ndarray:
        """Draw three lines that fit together.

        One palm in two comes from the Gaussian, the other lies between two labelled palms and a
        little beside them: what people have and a Gaussian has not, such as two kinds of endings.

        Args:
            rng: generator.
            num_points: points per line, equally spaced in t.

        Returns:
            [3, num_points, 2] in the unit square of the ROI, thumb on the right, y down; life and
            head line begin at their radial end, the heart line under the index finger.
        """
        z = rng.standard_normal(len(self.mean))
        z *= min(1.0, _TYPICAL / np.sqrt(np.mean(z**2)))
        if rng.random() < 0.5:
            return evaluate(self.mean + self.factor @ z, num_points)
        first, second = self.palms[rng.integers(len(self.palms), size=2)]
        between = first + _SECOND * rng.random() * (second - first)
        return evaluate(between + _BESIDE * self.factor @ z, num_points)


def evaluate(coefficients: np.ndarray, num_points: int) -> np.ndarray:
    """Coefficients [30] -> points [3, num_points, 2]."""
    powers = np.vander(np.linspace(0, 1, num_points), DEGREE + 1, increasing=True)
    return np.moveaxis(coefficients.reshape(3, 2, DEGREE + 1) @ powers.T, 1, 2)


def labelled_lines() -> np.ndarray:
    """The labelled lines, [1000, 3, 16, 2], turned to our convention (thumb on the right)."""
    path = Path(palmforge.__file__).parent / "assets" / "principal_lines" / "principal_lines.json"
    lines = np.array(json.loads(path.read_text())["lines"])
    lines[..., 0] = 1 - lines[..., 0]
    return lines


@lru_cache(maxsize=1)
def line_model() -> LineModel:
    """Fit the joint Gaussian: least squares per line, outliers cut by Mahalanobis distance, once.

    Returns:
        The model; about 30 ms at the first call, which is why no fitted copy is stored.
    """
    lines = labelled_lines()
    powers = np.vander(np.linspace(0, 1, lines.shape[2]), DEGREE + 1, increasing=True)
    coefficients = (np.linalg.pinv(powers) @ lines).transpose(0, 1, 3, 2).reshape(len(lines), -1)
    centred = coefficients - coefficients.mean(0)
    whitened = np.linalg.solve(np.linalg.cholesky(np.cov(centred.T)), centred.T)
    kept = coefficients[np.sqrt(np.mean(whitened**2, axis=0)) < _OUTLIER / np.sqrt(2)]
    return LineModel(kept.mean(0), np.linalg.cholesky(np.cov(kept.T)), kept, len(kept))
