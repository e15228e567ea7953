"""The fine creases of a palm: a thousand short folds, drawn at once along a field of directions.

Long ones are few and deep, short ones many and shallow; most come in families of near-parallel
folds, crossing others. Their field follows the principal lines, since the same motion of the hand
made both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palmforge.data.synthetic.anatomy import Hand
from palmforge.data.synthetic.strokes import SPACING, Stroke, course

_LEFT, _TOP, _STEP, _COLUMNS, _ROWS = -0.75, -0.15, 0.07, 22, 24  # the field's nodes
_NODES = 25  # points that carry the shape of a fold, from end to end
# Where palms are wrinkled: (centre, spread, share): thenar, its upper part, centre, hypothenar,
# below the fingers, heel, anywhere.
_REGIONS = (
    ((0.28, 0.72), (0.13, 0.19), 0.24),
    ((0.36, 0.46), (0.08, 0.08), 0.08),
    ((0.02, 0.48), (0.17, 0.20), 0.24),
    ((-0.32, 0.68), (0.11, 0.25), 0.16),
    ((-0.02, 0.16), (0.24, 0.07), 0.13),
    ((0.00, 1.02), (0.20, 0.10), 0.07),
    ((0.00, 0.55), (0.40, 0.40), 0.08),
)


@dataclass(frozen=True)
class Field:
    """Directions in which the palm folds.

    Attributes:
        double: [ROWS, COLUMNS, 2] cosine and sine of twice the angle at the nodes.
    """

    double: np.ndarray

    def angle(self, points: np.ndarray) -> np.ndarray:
        """Angle [N] of the field at points [N, 2] of the hand frame, modulo pi."""
        at = (points - [_LEFT, _TOP]) / _STEP
        at = np.clip(at, 0, [_COLUMNS - 1.001, _ROWS - 1.001])
        whole = at.astype(np.int64)
        right, below = (at - whole).T[:, :, None]
        flat = self.double.reshape(-1, 2)
        first = whole[:, 1] * _COLUMNS + whole[:, 0]
        upper = flat[first] * (1 - right) + flat[first + 1] * right
        lower = flat[first + _COLUMNS] * (1 - right) + flat[first + _COLUMNS + 1] * right
        cos, sin = (upper * (1 - below) + lower * below).T
        return 0.5 * np.arctan2(sin, cos)


def crease_field(lines: list[np.ndarray], rng: np.random.Generator) -> Field:
    """Directions that follow the principal lines, turned a little differently in every palm.

    Args:
        lines: the three principal lines, [N, 2] each, in the hand frame.
        rng: the identity's generator.

    Returns:
        The field.
    """
    x, y = np.meshgrid(_LEFT + _STEP * np.arange(_COLUMNS), _TOP + _STEP * np.arange(_ROWS))
    nodes = np.stack([x, y], axis=-1).reshape(-1, 1, 2)
    points, turned = [], []
    for line in lines:
        some = line[:: max(1, len(line) // 24)]
        step = np.gradient(some, axis=0)
        points.append(some)
        turned.append(2 * np.arctan2(step[:, 1], step[:, 0]))
    twice = np.concatenate(turned)
    away = nodes - np.concatenate(points)[None]
    squared = away[..., 0] ** 2 + away[..., 1] ** 2 + 0.06**2
    weight = 1 / (squared * np.sqrt(squared))
    double = weight @ np.stack([np.cos(twice), np.sin(twice)], axis=1)
    double /= np.hypot(*double.T)[:, None] + 1e-9
    # Waves of a few degrees to a few tens of degrees, a third of a palm long.
    turn = np.zeros(len(double))
    for amplitude, kx, ky, phase in zip(
        rng.normal(0, 0.30, 4), *rng.normal(0, 7.0, (2, 4)), rng.uniform(0, 6.28, 4), strict=True
    ):
        turn += 2 * amplitude * np.sin(kx * nodes[:, 0, 0] + ky * nodes[:, 0, 1] + phase)
    cos, sin = np.cos(turn), np.sin(turn)
    double = np.stack(
        [cos * double[:, 0] - sin * double[:, 1], sin * double[:, 0] + cos * double[:, 1]], axis=1
    )
    return Field(double.reshape(_ROWS, _COLUMNS, 2))


def fine_creases(field: Field, wrinkled: float, rng: np.random.Generator) -> Stroke:
    """All fine creases of the palm.

    Args:
        field: directions.
        wrinkled: 0 for an average hand, about -2 (smooth) to 2 (densely wrinkled).
        rng: the identity's generator.

    Returns:
        One stroke that holds them all.
    """
    families = _families(rng, round(125 * np.exp(0.40 * wrinkled)))
    centres, offset, lengths = _seeds(field, families, rng)
    count = len(lengths)
    middle = field.angle(centres) + offset
    bend = np.repeat(rng.normal(0, 1.3, (len(families),)), families.sizes)
    bend += rng.normal(0, 1.0, count)
    nodes = _stream(field, centres, middle, lengths, bend)
    nodes += rng.normal(0, 1, nodes.shape) * np.minimum(0.0010, 0.02 * lengths)[:, None, None]
    depth = 0.62 * (lengths / 0.25) ** 0.50 * np.exp(rng.normal(0, 0.42, count) + 0.28 * wrinkled)
    depth = np.minimum(depth, 0.85)
    width = (0.0014 + 0.0019 * depth) * np.exp(rng.normal(0, 0.18, count))
    profile = np.clip(1 + rng.normal(0, 0.45, (count, _NODES)), 0.05, 1.8)
    t = course(_NODES)
    profile *= np.minimum(1, np.minimum(t / 0.35, (1 - t) / 0.35))
    return spread(nodes, profile * depth[:, None], width, lengths)


@dataclass(frozen=True)
class _Families:
    """Groups of near-parallel folds: [F] sizes, [F, 2] centres, [F] offsets, lengths, gaps."""

    sizes: np.ndarray
    centres: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    gaps: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)


def _families(rng: np.random.Generator, count: int) -> _Families:
    """Draw the groups: where, across or along the field, how long, how close."""
    mean, spreads = (np.array([region[k] for region in _REGIONS]) for k in range(2))
    share = rng.dirichlet(6.0 * np.array([region[2] for region in _REGIONS]) * len(_REGIONS))
    region = rng.choice(len(_REGIONS), count, p=share)
    centres = rng.normal(mean[region], spreads[region])
    # Along the field, across it, or obliquely: in each region of a palm one way prevails.
    mixture = np.cumsum(rng.dirichlet([2.2, 1.5, 0.9], len(_REGIONS)), axis=1)
    kind = (rng.random(count)[:, None] > mixture[region]).sum(axis=1)
    side = rng.choice([-1.0, 1.0], len(_REGIONS))[region]
    offsets = side * np.array([0.0, 1.35, 0.7, 0.7])[kind] + rng.normal(0, 0.17, count)
    # Pareto: half the families have folds under 3.5 mm, one in twenty has folds over 20 mm.
    lengths = np.minimum(0.030 * (1 - rng.random(count)) ** (-1 / 1.35), 0.45)
    sizes = 1 + rng.geometric(0.16, count)
    sizes[lengths > 0.16] = np.minimum(sizes[lengths > 0.16], rng.integers(1, 5))
    gaps = rng.uniform(0.010, 0.026, count) * (lengths / 0.06) ** 0.25
    return _Families(sizes, centres, offsets, lengths, gaps)


def _seeds(
    field: Field, families: _Families, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres [N, 2], angles to the field [N] and lengths [N] of all the folds."""
    member = np.repeat(np.arange(len(families)), families.sizes)
    first = np.cumsum(families.sizes) - families.sizes
    rank = np.arange(len(member)) - first[member] - (families.sizes[member] - 1) / 2
    angle = field.angle(families.centres) + families.offsets
    normal = np.stack([-np.sin(angle), np.cos(angle)], axis=1)[member]
    ranked = rank * families.gaps[member] * np.exp(rng.normal(0, 0.25, len(member)))
    scatter = 0.35 * families.lengths[member] + 0.006
    centres = families.centres[member] + ranked[:, None] * normal
    centres += rng.normal(0, 1, centres.shape) * scatter[:, None]
    offset = families.offsets[member] + rng.normal(0, 0.11, len(member))
    lengths = families.lengths[member] * np.exp(rng.normal(0, 0.35, len(member)))
    return centres, offset, np.clip(lengths, 0.015, 0.5)


def _stream(
    field: Field, centres: np.ndarray, middle: np.ndarray, lengths: np.ndarray, bend: np.ndarray
) -> np.ndarray:
    """Follow the field both ways from the centres, [N, NODES, 2]."""
    half = _NODES // 2
    nodes = np.empty((len(centres), _NODES, 2))
    nodes[:, half] = centres
    step = lengths / (_NODES - 1)
    offset = middle - field.angle(centres)
    for way in (1, -1):
        heading = middle.copy()
        at = centres
        for k in range(1, half + 1):
            wanted = field.angle(at) + offset + way * bend * step * k
            # The field has no sense of direction: take the one that goes on.
            heading += 0.6 * ((wanted - heading + np.pi / 2) % np.pi - np.pi / 2)
            at = at + way * step[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=1)
            nodes[:, half + way * k] = at
    return nodes


def spread(nodes: np.ndarray, depth: np.ndarray, width: np.ndarray, lengths: np.ndarray) -> Stroke:
    """Folds given by nodes [N, K, 2] and depths [N, K] -> points `SPACING` apart, in one stroke."""
    counts = np.maximum((lengths / SPACING).astype(np.int64), 3)
    owner = np.repeat(np.arange(len(counts)), counts)
    rank = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
    at = rank / (counts[owner] - 1) * (nodes.shape[1] - 1.001)
    low = at.astype(np.int64)
    rest = at - low
    points = nodes[owner, low] * (1 - rest)[:, None] + nodes[owner, low + 1] * rest[:, None]
    depths = depth[owner, low] * (1 - rest) + depth[owner, low + 1] * rest
    return Stroke(points, depths, width[owner])


def digit_wrinkles(hand: Hand, wrinkled: float, rng: np.random.Generator) -> Stroke:
    """Short folds on the digits: across near the joints, lengthwise on the pads."""
    count = round(330 * np.exp(0.3 * wrinkled))
    digit = rng.integers(0, 5, count)
    at = rng.uniform(0.3, 0.97, count) * (hand.axes.shape[1] - 1)
    low = np.minimum(at.astype(np.int64), hand.axes.shape[1] - 2)
    start, stop = hand.axes[digit, low], hand.axes[digit, low + 1]
    axis = (stop - start) / (np.linalg.norm(stop - start, axis=1, keepdims=True) + 1e-9)
    lateral = np.stack([-axis[:, 1], axis[:, 0]], axis=1)
    across = rng.uniform(-0.85, 0.85, count) * hand.half_widths[digit, low]
    centres = start + (at - low)[:, None] * (stop - start) + across[:, None] * lateral
    lengthwise = rng.random(count) < 0.45
    angle = np.arctan2(axis[:, 1], axis[:, 0]) + np.where(lengthwise, 0.0, np.pi / 2)
    angle += rng.normal(0, 0.28, count)
    lengths = np.minimum(0.02 * (1 - rng.random(count)) ** (-1 / 2.2), 0.13)
    t = course(7) - 0.5
    turned = angle[:, None] + rng.normal(0, 0.5, count)[:, None] * t
    way = np.stack([np.cos(turned), np.sin(turned)], axis=-1)
    nodes = centres[:, None] + (lengths[:, None] * t)[..., None] * way
    depth = 0.6 * (lengths / 0.12) ** 0.5 * np.exp(rng.normal(0, 0.35, count))
    profile = depth[:, None] * np.clip(1.15 - 2.3 * np.abs(t), 0, 1)
    return spread(nodes, profile, rng.uniform(0.0018, 0.0034, count), lengths)
