"""Where a palm is in a photograph, and what finds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from palmforge.data.roi import xjtu_roi_quad


@dataclass(frozen=True)
class PalmLocation:
    """One palm in a photograph. Coordinates are pixels (x, y), centres at integers, y down.

    Attributes:
        keypoints14: [14, 2] float64, the points of XJTU-UP (spec §2), P0 on the index side.
        keypoints21: [21, 2] float64: wrist, then thumb to little finger from root to tip; None from
            a method that does not find them.
        handedness: "L" or "R": which hand it is, seen from the palm.
        confidence: 0..1; how sure the method is that a palm is there and where.
        visible14: [14] float64, probability that a point is in view and not hidden; None from a
            method that does not say.
        visible21: [21] float64, the same of the hand's points.
    """

    keypoints14: np.ndarray
    keypoints21: np.ndarray | None
    handedness: Literal["L", "R"]
    confidence: float
    visible14: np.ndarray | None = None
    visible21: np.ndarray | None = None

    @property
    def quad(self) -> np.ndarray:
        """[4, 2] corners of the ROI: where its top-left, top-right, bottom-right, bottom-left are.

        Fingers up, index side on the right: the quad of a left hand runs the other way round.
        """
        return xjtu_roi_quad(self.keypoints14)


@runtime_checkable
class Localizer(Protocol):
    """Whatever finds palms in a photograph."""

    def locate_all(self, image: np.ndarray) -> list[PalmLocation]:
        """All palms in a picture, the surest first.

        Args:
            image: [H, W, 3] uint8 RGB of any size.
        """
        ...
