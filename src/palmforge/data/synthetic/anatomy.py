"""What a hand is: its skeleton and its outline, in one frame for every palm.

The *hand frame* is the palm seen from the front, middle finger up, thumb on the right, y down; its
unit is one palm width, about 85 mm. Left hands are the same anatomy, mirrored by the pose.
The proportions are those of adult hands: palm 1.25 long, middle finger 0.92, wrist 0.75 wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palmforge.data.synthetic.streams import Stream, stream, truncated_normal

DIGITS = ("thumb", "index", "middle", "ring", "little")

# First joint of each digit: CMC for the thumb, MCP (in the palm) for the fingers.
_ROOTS = np.array([[0.24, 0.98], [0.33, 0.27], [0.11, 0.22], [-0.115, 0.25], [-0.325, 0.35]])
# Degrees from straight up, positive towards the thumb, for an open hand: a pose closes it, never
# opens it further, because what it uncovers has to be there.
_DIRECTIONS = np.array([50.0, 10.0, 1.5, -7.5, -20.0])
# Root joint -> crease at the digit's base (thumb: MCP), then visible length beyond it.
_BASE_OFFSETS = np.array([0.43, 0.26, 0.27, 0.26, 0.245])
_LENGTHS = np.array([0.65, 0.80, 0.92, 0.85, 0.65])
_HALF_WIDTHS = np.array([0.128, 0.113, 0.116, 0.109, 0.096])
# Creases at the joints, as fractions of the visible length.
_FIRST_JOINT = np.array([0.50, 0.34, 0.345, 0.345, 0.34])
_SECOND_JOINT = np.array([0.50, 0.645, 0.65, 0.655, 0.64])
# Degrees that a digit bends sideways from base to tip; fingers lean towards the middle one.
_BOW = np.array([-12.0, -3.5, 0.0, 2.5, 6.0])

# Half width along a finger, as (fraction of the visible length, fraction of the base half width).
_FINGER_PROFILE = np.array(
    [[-0.5, 0.95], [0.0, 0.99], [0.17, 0.985], [0.34, 1.0], [0.5, 0.935], [0.65, 0.925], [0.8,
    0.885],
     [0.89, 0.80], [0.945, 0.65], [0.98, 0.44], [1.0, 0.0]]
)  # fmt: skip
_THUMB_PROFILE = np.array(
    [[-0.62, 1.15], [-0.3, 1.2], [0.0, 1.08], [0.25, 0.95], [0.5, 1.0], [0.7, 0.97], [0.84, 0.84],
     [0.925, 0.66], [0.975, 0.42], [1.0, 0.0]]
)  # fmt: skip

# Palm and forearm, clockwise from the index base. The digits' polygons are laid over it.
_PALM_OUTLINE = np.array(
    [[0.470, 0.06], [0.476, 0.20], [0.484, 0.32], [0.512, 0.43], [0.575, 0.500], [0.670, 0.540],
     [0.720, 0.68], [0.668, 0.830], [0.565, 0.96], [0.440, 1.10], [0.385, 1.25], [0.380, 1.45],
     [0.400, 2.30], [0.440, 3.60], [-0.430, 3.60], [-0.390, 2.30], [-0.368, 1.45],
     [-0.362, 1.24], [-0.405, 1.07], [-0.465, 0.88],
     [-0.500, 0.64], [-0.502, 0.42], [-0.488, 0.25], [-0.470, 0.14], [-0.30, 0.10], [-0.265, 0.075],
     [-0.13, 0.06], [-0.012, 0.010], [0.11, 0.04], [0.238, 0.025], [0.34, 0.05]]
)  # fmt: skip
WRIST_Y = 1.20


@dataclass(frozen=True, eq=False)  # compared, and cached, by identity
class Hand:
    """Anatomy of one hand in the hand frame.

    Attributes:
        joints: [5, 4, 2] joints of each digit, root to tip (thumb: CMC, MCP, IP, tip; fingers:
            MCP, PIP, DIP, tip).
        bases: [5, 2] middle of the crease at the base of each digit.
        directions: [5, 2] unit vectors along the digits at their base.
        axes: [5, 24, 2] centre lines from inside the palm to the tip.
        half_widths: [5, 24] half widths along `axes`.
        lengths: [5] visible length of each digit.
        palm: [N, 2] outline of palm and forearm.
        relief: [4] heights of thenar, hypothenar, finger pads and palm hollow, 1 = average.
    """

    joints: np.ndarray
    bases: np.ndarray
    directions: np.ndarray
    axes: np.ndarray
    half_widths: np.ndarray
    lengths: np.ndarray
    palm: np.ndarray
    relief: np.ndarray

    @property
    def keypoints21(self) -> np.ndarray:
        """[21, 2] the usual 21 points (0 wrist, then thumb to little finger, root to tip)."""
        wrist = np.array([[0.01, WRIST_Y - 0.04]])
        return np.concatenate([wrist, self.joints.reshape(20, 2)])


def build_hand(subject: int, identity: int, seed: int) -> Hand:
    """Draw the anatomy of one hand: mostly the subject's build, a little its own.

    Args:
        subject: index of the person.
        identity: index of the palm.
        seed: seed of the data set.

    Returns:
        The hand, thumb on the right whichever hand it is.
    """
    person, own = stream(seed, Stream.SUBJECT, subject, 0), stream(seed, Stream.HAND, identity)

    def vary(size: int, common: float, each: float, side: float = 0.3) -> np.ndarray:
        """Deviations: shared by all digits, per digit, and (`side` times that) per hand."""
        shared = common * truncated_normal(person) + each * truncated_normal(person, size)
        return shared + side * each * truncated_normal(own, size)

    lengths = _LENGTHS * (1 + vary(5, 0.05, 0.03))
    widths = _HALF_WIDTHS * (1 + vary(5, 0.05, 0.025))
    angles = np.deg2rad(_DIRECTIONS + vary(5, 0.0, 1.0, side=0.6) * [4, 1, 1, 1, 2])
    bow = np.deg2rad(_BOW + vary(5, 0.0, 1.6))
    stretch = np.array([1.0, 1 + vary(1, 0.0, 0.04)[0]])  # long and short palms
    relief = np.clip(1 + vary(4, 0.0, 0.3), 0.3, 1.8)
    wobble = vary(len(_PALM_OUTLINE), 0.0, 0.010)

    directions = _unit(angles)
    roots = _ROOTS * stretch
    bases = roots + _BASE_OFFSETS[:, None] * directions
    widths = _apart(widths, bases, directions)
    axes, half_widths = zip(
        *(_digit(d, bases[d], angles[d], lengths[d], widths[d], bow[d]) for d in range(5)),
        strict=True,
    )
    joints = np.stack(
        [
            _joints(
                roots[d], bases[d], angles[d], lengths[d], bow[d], _FIRST_JOINT[d], _SECOND_JOINT[d]
            )
            for d in range(5)
        ]
    )
    joints[0, 1] = bases[0]  # a thumb has one joint fewer: its base is its MCP joint
    palm = closed_curve(_PALM_OUTLINE * stretch * (1 + wobble[:, None] * [1, 0]))
    return Hand(
        joints, bases, directions, np.stack(axes), np.stack(half_widths), lengths, palm, relief
    )


def _apart(widths: np.ndarray, bases: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Half widths [5] of digits that part at their webs: fingers that touch are made thinner."""
    beyond = bases + 0.04 * directions  # at the webs, whose rounding fills narrow gaps
    room = np.full(5, np.inf)
    for k in range(1, 4):
        between = np.linalg.norm(beyond[k + 1] - beyond[k])
        share = (between - 0.05) / (widths[k] + widths[k + 1])
        room[k : k + 2] = np.minimum(room[k : k + 2], share)
    return widths * np.minimum(room, 1.0)


def _unit(angle: np.ndarray) -> np.ndarray:
    """Unit vectors [..., 2] at an angle in radians from straight up, positive to the right."""
    return np.stack([np.sin(angle), -np.cos(angle)], axis=-1)


def _along(base: np.ndarray, angle: float, length: float, bow: float, at: np.ndarray) -> np.ndarray:
    """Points [N, 2] at the fractions `at` of a digit that turns by `bow` from base to tip."""
    at = np.asarray(at, dtype=float)
    forward = np.maximum(at, 0.0)
    # Integral of a direction that turns linearly, to second order: exact enough for a few degrees.
    straight = _unit(np.asarray(angle)) * (at * length)[:, None]
    sideways = _unit(np.asarray(angle) + np.pi / 2) * (0.5 * bow * forward**2 * length)[:, None]
    return base + straight + sideways


def _digit(
    digit: int, base: np.ndarray, angle: float, length: float, half_width: float, bow: float
) -> tuple[np.ndarray, np.ndarray]:
    """Centre line [24, 2] and half widths [24] of a digit, crowded at its round tip."""
    profile = _THUMB_PROFILE if digit == 0 else _FINGER_PROFILE
    # sin spacing crowds the stations at the tip, where the outline turns.
    at = profile[0, 0] + (1 - profile[0, 0]) * np.sin(np.linspace(0, np.pi / 2, 24))
    return _along(base, angle, length, bow, at), half_width * np.interp(at, *profile.T)


def _joints(
    root: np.ndarray, base: np.ndarray, angle: float, length: float, bow: float, *fractions: float
) -> np.ndarray:
    """Root, joints and tip [4, 2] of one digit."""
    # The tip point of hand detectors is the pad's end, a little inside the outline.
    return np.vstack([root[None], _along(base, angle, length, bow, np.array([*fractions, 0.96]))])


def closed_curve(points: np.ndarray, steps: int = 8) -> np.ndarray:
    """Catmull-Rom curve through a closed polygon.

    Args:
        points: [N, 2] polygon.
        steps: points per side of the result.

    Returns:
        [N * steps, 2] smooth polygon through the same points.
    """
    before, after, beyond = (np.roll(points, k, axis=0) for k in (1, -1, -2))
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (p[:, None] for p in (before, points, after, beyond))
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    return curve.reshape(-1, 2)
