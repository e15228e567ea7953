"""How a hand is held before the camera, and where every point of it lands in the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from palmforge.data.synthetic.anatomy import Hand
from palmforge.data.synthetic.streams import truncated_normal

CAMERA_DISTANCE = 5.0  # hand units: a phone some 40 cm away
_CENTRE = np.array([0.09, 0.20])  # the point of the hand frame that is aimed at
# How much each finger turns, towards the thumb, when the hand closes by one radian.
_SPREAD = np.array([0.0, -1.0, -0.15, 0.65, 1.4])
_GRID_STEP = 4  # pixels between the nodes at which the warp is computed; it is smooth in between


@dataclass(frozen=True)
class Pose:
    """One way of holding the hand.

    Attributes:
        angles: [5] radians by which the digits turn about their root joint, positive towards the
            thumb.
        reach: [5] apparent length of the digits, 1 = straight, less = bent towards the camera.
        cupping: how much the sides of the palm rise towards the camera, in 1 / hand units.
        ripples: [2, 3, 4] smooth skin deformation: per axis three waves (amplitude, kx, ky, phase).
        plane_to_image: [3, 3] homography from the posed hand plane to pixels (mirrored for left
            hands).
    """

    angles: np.ndarray
    reach: np.ndarray
    cupping: float
    ripples: np.ndarray
    plane_to_image: np.ndarray

    def to_image(self, hand: Hand, points: np.ndarray) -> np.ndarray:
        """Points [N, 2] of the hand frame -> pixels [N, 2], float64, pixel centres at integers."""
        posed = _invert(lambda q: self._unpose(hand, q), points, self._first_guess(hand, points))
        return _project(self.plane_to_image, posed)

    def to_hand(self, hand: Hand, pixels: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] -> points [N, 2] of the hand frame."""
        return self._unpose(hand, _project(np.linalg.inv(self.plane_to_image), pixels))

    def map_to_hand(self, hand: Hand, size: int) -> np.ndarray:
        """Hand-frame coordinates of every pixel.

        Args:
            hand: anatomy.
            size: side of the picture.

        Returns:
            [size, size, 2] float32.
        """
        step = _GRID_STEP
        nodes = -(-size // step) + 2  # one more on each side, so that resize never extrapolates
        centre = (np.arange(nodes) - 0.5) * step - 0.5
        pixels = np.stack(np.meshgrid(centre, centre), axis=-1).reshape(-1, 2)
        coarse = self.to_hand(hand, pixels).reshape(nodes, nodes, 2).astype(np.float32)
        full = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
        return full[step : step + size, step : step + size]

    def _unpose(self, hand: Hand, posed: np.ndarray) -> np.ndarray:
        """Posed plane [N, 2] -> hand frame [N, 2]: inverse skinning, then ripples."""
        points = posed.copy()
        for weight, moved in self._digits(hand, posed):
            points += weight[:, None] * (moved - posed)
        for axis in range(2):
            for amplitude, kx, ky, phase in self.ripples[axis]:
                points[:, axis] += amplitude * np.sin(kx * posed[:, 0] + ky * posed[:, 1] + phase)
        return points

    def _digits(self, hand: Hand, posed: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per digit: how far each point [N] follows it, and where it would come from [N, 2]."""
        roots = hand.joints[:, 0]
        local, straightened = [], []
        for digit in range(5):
            forward = _turn(hand.directions[digit], self.angles[digit])
            offset = posed - roots[digit]
            t, lateral = offset @ forward, offset @ np.array([-forward[1], forward[0]])
            local.append((t, lateral))
            rest = hand.directions[digit]
            stretched = np.where(t > 0.2, 0.2 + (t - 0.2) / self.reach[digit], t)
            straightened.append(
                roots[digit]
                + stretched[:, None] * rest
                + lateral[:, None] * np.array([-rest[1], rest[0]])
            )
        # The thumb takes the thenar with it, but not the index side of the palm above its web.
        t, lateral = local[0]
        beyond_web = posed[:, 0] - 0.475 + 0.9 * np.maximum(posed[:, 1] - 0.36, 0)
        thumb = _smoothstep(t, 0.05, 0.5) * (1 - _smoothstep(-lateral, 0.14, 0.32))
        thumb *= _smoothstep(beyond_web, 0.0, 0.12)
        # Fingers: the nearest axis rules beyond the knuckles. Webs follow half-way only: skin
        # stretches.
        aside = np.abs(np.stack([lateral for _, lateral in local[1:]]))
        closeness = np.exp(-(aside - aside.min(0)) / 0.025)
        closeness /= closeness.sum(0)
        fingers = [
            (1 - thumb) * _smoothstep(local[k][0], 0.06, 0.38) * closeness[k - 1]
            for k in range(1, 5)
        ]
        return list(zip([thumb, *fingers], straightened, strict=True))

    def _first_guess(self, hand: Hand, points: np.ndarray) -> np.ndarray:
        """Rigid digits: close enough to the solution for the iteration to converge."""
        guess = points.copy()
        for digit in range(5):
            root, rest = hand.joints[digit, 0], hand.directions[digit]
            offset = points - root
            t, lateral = offset @ rest, offset @ np.array([-rest[1], rest[0]])
            own = (t > 0.25) & (np.abs(lateral) < 0.13 + 0.03 * (digit == 0))
            turned = root + _turn(offset, self.angles[digit])
            guess[own] = turned[own]
        return guess


def sample_pose(rng: np.random.Generator, size: int, left: bool) -> Pose:
    """Hold the hand before a phone, without a stand or pegs.

    Args:
        rng: the capture's generator.
        size: side of the picture in pixels.
        left: whether it is a left hand, whose picture is mirrored.

    Returns:
        The pose.
    """
    closing = np.deg2rad(np.clip(rng.normal(2.0, 1.9), -0.5, 5.5))
    angles = closing * _SPREAD + np.deg2rad(0.9) * truncated_normal(rng, 5)
    angles[0] = np.deg2rad(np.clip(rng.normal(-7.0, 5.0), -17.0, 2.0))
    reach = 1 - 0.10 * rng.beta(1.2, 3.0) - 0.015 * rng.random(5)
    cupping = rng.normal(0.08, 0.09)
    ripples = np.stack(
        [
            rng.normal(0, 0.0045, (2, 3)),
            rng.normal(0, 4.0, (2, 3)),
            rng.normal(0, 4.0, (2, 3)),
            rng.uniform(0, 2 * np.pi, (2, 3)),
        ],
        axis=-1,
    )
    roll = float(np.deg2rad(8.0) * truncated_normal(rng))
    tilt = np.deg2rad(7.0) * truncated_normal(rng, 2)
    scale = size * 0.452 * float(np.exp(0.06 * truncated_normal(rng)))
    shift = (size - 1) / 2 + size * 0.025 * truncated_normal(rng, 2)
    mirror = -1.0 if left else 1.0
    return Pose(angles, reach, cupping, ripples, _homography(roll, tilt, scale, shift, mirror))


def _homography(
    roll: float, tilt: np.ndarray, scale: float, shift: np.ndarray, mirror: float
) -> np.ndarray:
    """Pin-hole picture [3, 3] of the tilted hand plane."""
    (cr, cx, cy), (sr, sx, sy) = np.cos([roll, *tilt]), np.sin([roll, *tilt])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rotation = about_x @ about_y @ about_z
    extrinsic = np.column_stack([rotation[:, :2], [0, 0, CAMERA_DISTANCE]])
    focal = scale * CAMERA_DISTANCE
    intrinsic = np.array([[focal, 0, shift[0]], [0, focal, shift[1]], [0, 0, 1]])
    centred = np.array([[mirror, 0, -mirror * _CENTRE[0]], [0, 1, -_CENTRE[1]], [0, 0, 1]])
    return intrinsic @ extrinsic @ centred


def _project(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply a homography [3, 3] to points [N, 2]."""
    mapped = points @ homography[:, :2].T + homography[:, 2]
    return mapped[:, :2] / mapped[:, 2:]


def _turn(vectors: np.ndarray, angle: float) -> np.ndarray:
    """Rotate vectors [..., 2] clockwise as seen (y down), from up towards the thumb."""
    cos, sin = np.cos(angle), np.sin(angle)
    return vectors @ np.array([[cos, sin], [-sin, cos]])


def _smoothstep(value: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 before `start`, 1 after `end`, smooth in between."""
    t = np.clip((value - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def _invert(
    function: Callable, values: np.ndarray, guess: np.ndarray, steps: int = 25
) -> np.ndarray:
    """Solve function(q) = values for q [N, 2], where function is near the identity."""
    for _ in range(steps):
        guess = guess + (values - function(guess))
    return guess
