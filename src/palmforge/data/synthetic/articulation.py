"""How a hand is held: the angles of its joints, and where they put every point of its skin."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from palmforge.data.synthetic.anatomy import WRIST_Y, Hand
from palmforge.data.synthetic.mesh import FOREARM, NUM_BONES, skin_weights
from palmforge.data.synthetic.streams import truncated_normal

# How much each digit turns, towards the thumb, when the hand closes by one degree.
_CLOSING = np.array([0.0, -1.0, -0.15, 0.65, 1.4])
_WRIST = np.array([0.01, WRIST_Y])


@dataclass(frozen=True, eq=False)  # compared, and cached, by identity
class Pose:
    """One way of holding the hand. Angles are degrees.

    Attributes:
        spread: [5] how far the digits turn in the plane of the palm, positive towards the thumb.
        flexion: [5, 3] how far the three joints of each digit bend towards the camera, root first.
        opposition: how far the thumb's root turns out of the plane, towards the camera.
        wrist: [2] how far the forearm bends, away from the camera and sideways.
        cupping: how much the sides of the palm rise towards the camera, in 1 / hand units.
        ripples: [2, 3, 4] smooth displacement of the skin: per axis three waves (amplitude,
            kx, ky, phase).
    """

    spread: np.ndarray
    flexion: np.ndarray
    opposition: float
    wrist: np.ndarray
    cupping: float
    ripples: np.ndarray

    @property
    def folding(self) -> float:
        """How far the palm is closed, 0 (flat) to 1: it deepens the flexion creases."""
        bent = float(self.flexion[1:, 0].mean()) / 60 + self.cupping + self.opposition / 90
        return float(np.clip(bent, 0, 1))

    def place(self, hand: Hand, xy: np.ndarray, z: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Where points of the hand are when it is held so.

        Args:
            hand: anatomy.
            xy: [N, 2] places in the hand frame.
            z: [N] heights above its plane.
            weights: [N, 17] of :func:`palmforge.data.synthetic.mesh.skin_weights`.

        Returns:
            [N, 3] in hand units: x right, y down, z towards the camera. A left hand is not mirrored
            yet.
        """
        rest = np.column_stack([self._ripple(xy), z, np.ones(len(z))])
        blended = weights @ _bones(self, hand).reshape(NUM_BONES, 12)
        posed = np.einsum("nij,nj->ni", blended.reshape(-1, 3, 4), rest)
        posed[:, 2] += self.cupping * np.square(np.clip(posed[:, 0], -0.7, 0.8))
        return posed

    def place_skin(self, hand: Hand, xy: np.ndarray, z: float | np.ndarray = 0.0) -> np.ndarray:
        """:meth:`place` for any points [N, 2], whose weights are looked up."""
        xy = np.asarray(xy, dtype=float)
        height = np.broadcast_to(np.asarray(z, dtype=float), len(xy))
        return self.place(hand, xy, height, skin_weights(hand, xy))

    def _ripple(self, xy: np.ndarray) -> np.ndarray:
        """Points [N, 2] displaced a little: no skin lies twice in the same way."""
        amplitude, kx, ky, phase = np.moveaxis(self.ripples, -1, 0)[..., None]
        waves = amplitude * np.sin(kx * xy[:, 0] + ky * xy[:, 1] + phase)
        return xy + waves.sum(1).T


@lru_cache(maxsize=4)  # skin and key points of a capture share them
def _bones(pose: Pose, hand: Hand) -> np.ndarray:
    """[17, 3, 4] transforms of the bones."""
    bones = np.zeros((NUM_BONES, 3, 4))
    bones[:, range(3), range(3)] = 1.0
    outwards = np.array([0.0, 0.0, 1.0])
    for digit in range(5):
        right, down = hand.directions[digit]
        sideways = np.array([down, -right, 0.0])  # turning about it lifts the digit
        turn = rotation(outwards, pose.spread[digit])
        if digit == 0:
            turn = rotation(hand_axis(hand), pose.opposition) @ turn
        matrix = np.eye(4)
        for joint in range(3):
            bend = rotation(sideways, pose.flexion[digit, joint])
            local = about(np.append(hand.joints[digit, joint], 0.0), bend)
            if joint == 0:
                local = about(np.append(hand.joints[digit, 0], 0.0), turn) @ local
            matrix = matrix @ local
            bones[1 + 3 * digit + joint] = matrix[:3]
    back, side = pose.wrist
    bend = rotation(np.array([-1.0, 0.0, 0.0]), back) @ rotation(outwards, side)
    bones[FOREARM] = about(np.append(_WRIST, 0.0), bend)[:3]
    return bones


def hand_axis(hand: Hand) -> np.ndarray:
    """Unit vector [3] from the middle finger's root to the wrist: the thumb opposes about it."""
    axis = np.append(_WRIST - hand.joints[2, 0], 0.0)
    return axis / np.linalg.norm(axis)


def rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    """Rotation matrix [3, 3] about a unit axis (Rodrigues)."""
    x, y, z = axis
    angle = math.radians(degrees)
    s, c = math.sin(angle), math.cos(angle)
    d = 1 - c
    return np.array(
        [
            [c + x * x * d, x * y * d - z * s, x * z * d + y * s],
            [y * x * d + z * s, c + y * y * d, y * z * d - x * s],
            [z * x * d - y * s, z * y * d + x * s, c + z * z * d],
        ]
    )


def about(centre: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Transform [4, 4] that turns about a point [3]."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = centre - turn @ centre
    return matrix


def sample_pose(rng: np.random.Generator, wild: bool) -> Pose:
    """Hold the hand before a camera, without a stand or pegs.

    Args:
        rng: the capture's generator.
        wild: any way a palm is shown; else open towards a phone, as users of XJTU-UP were told to.

    Returns:
        The pose.
    """
    ripples = np.stack(
        [
            rng.normal(0, 0.0045, (2, 3)),
            rng.normal(0, 4.0, (2, 3)),
            rng.normal(0, 4.0, (2, 3)),
            rng.uniform(0, 2 * np.pi, (2, 3)),
        ],
        axis=-1,
    )
    if wild:
        closing = rng.uniform(-2.0, 9.5)
        spread = closing * _CLOSING + 1.6 * truncated_normal(rng, 5)
        spread[0] = rng.uniform(-24.0, 6.0)
        curl = 55.0 * rng.beta(1.0, 3.2) - 5.0
        each = curl + 0.35 * (abs(curl) + 8) * truncated_normal(rng, (5, 1))
        flexion = each * np.array([0.55, 1.0, 0.6]) + 3.0 * truncated_normal(rng, (5, 3))
        if rng.random() < 0.06:  # one or two fingers folded in
            folded = rng.choice(5, rng.integers(1, 3), replace=False)
            flexion[folded] = np.array([45.0, 85.0, 45.0]) * rng.uniform(0.5, 1.0)
        flexion = np.maximum(flexion, np.array([-14.0, -2.0, -6.0]))
        flexion[0] = np.array([0.0, 12.0, 18.0]) * truncated_normal(rng, 3)
        opposition = 42.0 * rng.beta(1.1, 2.0)
        wrist = np.array([8.0, 0.0]) + np.array([14.0, 9.0]) * truncated_normal(rng, 2)
        cupping = rng.normal(0.12, 0.16)
    else:
        closing = np.clip(rng.normal(2.0, 1.9), -0.5, 5.5)
        spread = closing * _CLOSING + 0.9 * truncated_normal(rng, 5)
        spread[0] = np.clip(rng.normal(-7.0, 5.0), -17.0, 2.0)
        flexion = 16.0 * rng.beta(1.2, 3.0) * np.array([0.5, 1.0, 0.7]) * np.ones((5, 1))
        flexion = flexion + 2.0 * truncated_normal(rng, (5, 3))
        flexion[0] *= [0.0, 0.6, 1.0]
        opposition = 9.0 * float(abs(truncated_normal(rng)))
        wrist = np.array([6.0, 3.0]) * truncated_normal(rng, 2)
        cupping = rng.normal(0.08, 0.09)
    return Pose(spread, flexion, float(opposition), wrist, float(cupping), ripples)
