"""The creases of a palm: where they run, how deep and how wide they are."""

from __future__ import annotations

import numpy as np

from palmforge.data.roi import xjtu_roi_quad
from palmforge.data.synthetic.anatomy import WRIST_Y, Hand
from palmforge.data.synthetic.principal_lines import line_model
from palmforge.data.synthetic.strokes import Stroke, arc, resample, shake, taper, uneven


def palm_creases(
    hand: Hand, keypoints14: np.ndarray, rng: np.random.Generator
) -> tuple[list[Stroke], list[Stroke]]:
    """All creases of one hand.

    Args:
        hand: anatomy.
        keypoints14: [14, 2] in the hand frame; they place the ROI that the labelled lines live in.
        rng: the identity's generator.

    Returns:
        The creases that make a relief (principal, secondary, joints) and the fine ones.
    """
    count_fine = rng.integers(60, 150)
    quad = xjtu_roi_quad(keypoints14 * 1000) / 1000  # it takes pixels, and refuses tiny palms
    to_hand = np.array([quad[1] - quad[0], quad[3] - quad[0]])
    lines = [
        _extend(line, k) @ to_hand + quad[0] for k, line in enumerate(line_model().sample(rng))
    ]
    principal = [stroke for line in lines for stroke in _principal(line, rng)]
    secondary = [_secondary(lines, rng) for _ in range(rng.integers(6, 15))]
    fine: list[Stroke] = []
    while len(fine) < count_fine:
        fine += _fine(rng)
    fine += [_furrow(rng) for _ in range(rng.integers(120, 260))]
    return principal + secondary + _joint_creases(hand, rng), fine


def _extend(line: np.ndarray, which: int) -> np.ndarray:
    """Continue a labelled line [N, 2] that the ROI cut off, in ROI units.

    Labels end at the ROI's border; lines end at the palm's edge (life and head: radial; heart:
    ulnar) or at the wrist (life).
    """
    spacing = np.linalg.norm(np.diff(line, axis=0), axis=1).mean()
    head = tail = 0.0
    if which < 2:
        head = 0.34 if line[0, 0] > 0.85 else 0.1
    if which == 0 and line[-1, 1] > 0.88:
        tail = 0.40
    if which == 2 and line[-1, 0] < 0.1:
        tail = 0.30
    before = _continue(line[::-1], head, spacing, turn=0.0)[::-1]
    return np.concatenate([before, line, _continue(line, tail, spacing, turn=0.9 * (which == 0))])


def _continue(line: np.ndarray, length: float, spacing: float, turn: float) -> np.ndarray:
    """Points [M, 2] beyond the end of a line, turning clockwise by `turn` radians a unit."""
    dx, dy = line[-1] - line[-6]
    count = int(length / spacing)
    angle = np.arctan2(dy, dx) + turn * spacing * np.arange(1, count + 1)
    return line[-1] + np.cumsum(spacing * np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)


def _principal(line: np.ndarray, rng: np.random.Generator) -> list[Stroke]:
    """A principal line: uneven depth, tapered ends, sometimes a break, forks and islands."""
    line = shake(resample(line, 0.0045), 0.004, rng)
    t = np.linspace(0, 1, len(line))
    depth = rng.uniform(0.7, 1.05) * uneven(t, 0.35, rng) * taper(t, 0.04, 0.16)
    if rng.random() < 0.25:  # a break: the two ends overlap a little, side by side
        gap = rng.uniform(0.35, 0.85)
        depth *= 1 - 0.85 * np.exp(-(((t - gap) / 0.018) ** 2))
    width = rng.uniform(0.0040, 0.0064) * uneven(t, 0.2, rng) * (0.6 + 0.4 * taper(t, 0.05, 0.3))
    strokes = [
        Stroke(line, depth, width),
        Stroke(line, 0.28 * depth, 2.6 * width),
    ]  # groove, its flanks
    for _ in range(rng.integers(0, 3)):
        at = int(len(line) * rng.uniform(0.45, 0.92))
        strokes.append(_branch(line, at, depth[at], width[at], rng))
    for _ in range(rng.integers(1, 5)):  # companions: a line of a palm is often a bundle
        start, length = rng.uniform(0, 0.8), rng.uniform(0.08, 0.3)
        part = line[int(start * len(line)) : int((start + length) * len(line))]
        if len(part) > 8:
            s = np.linspace(0, 1, len(part))
            aside = rng.normal(0, 0.014) * np.sin(np.pi * s)[:, None] * [0.6, 1.0]
            faint = rng.uniform(0.15, 0.45) * np.sin(np.pi * s)
            strokes.append(
                Stroke(part + aside, faint, np.full(len(part), rng.uniform(0.003, 0.0055)))
            )
    return strokes


def _branch(
    line: np.ndarray, at: int, depth: float, width: float, rng: np.random.Generator
) -> Stroke:
    """A fork that leaves a line at point `at` under a small angle."""
    ahead = line[min(at + 6, len(line) - 1)] - line[max(at - 6, 0)]
    angle = np.arctan2(ahead[1], ahead[0]) + rng.choice([-1, 1]) * rng.uniform(0.25, 0.7)
    path = arc(line[at], angle, rng.uniform(0.05, 0.16), rng.normal(0, 2.0))
    t = np.linspace(0, 1, len(path))
    return Stroke(path, 0.75 * depth * (1 - t), 0.75 * width * (1 - 0.4 * t))


def _secondary(lines: list[np.ndarray], rng: np.random.Generator) -> Stroke:
    """A stronger crease beside the three: mostly lengthwise (fate, sun), some across the mounds."""
    centre = _place(rng)
    if rng.random() < 0.3:  # starts on a principal line
        line = lines[rng.integers(3)]
        centre = line[rng.integers(len(line))]
    length = rng.uniform(0.12, 0.45)
    path = arc(centre, _orientation(centre, rng, 0.25), length, rng.normal(0, 1.2))
    path = shake(path - (path[-1] - path[0]) / 2, 0.005, rng)
    t = np.linspace(0, 1, len(path))
    depth = rng.uniform(0.22, 0.60) * uneven(t, 0.5, rng) * taper(t, 0.2, 0.35)
    return Stroke(path, depth, rng.uniform(0.0035, 0.0062) * uneven(t, 0.2, rng))


def _fine(rng: np.random.Generator) -> list[Stroke]:
    """Hair-fine creases: one, or a few side by side as skin folds them."""
    centre, curvature = _place(rng), rng.normal(0, 2.5)
    angle = _orientation(centre, rng, 0.35)
    aside = rng.uniform(0.016, 0.034) * np.array([-np.sin(angle), np.cos(angle)])
    strokes = []
    for k in range(1 if rng.random() < 0.5 else rng.integers(2, 6)):
        start = centre + k * aside + rng.normal(0, 0.012, 2)
        path = arc(start, angle + rng.normal(0, 0.12), rng.uniform(0.03, 0.19), curvature)
        t = np.linspace(0, 1, len(path))
        depth = rng.uniform(0.2, 0.75) * uneven(t, 0.5, rng) * taper(t, 0.3, 0.4)
        strokes.append(Stroke(path, depth, np.full(len(path), rng.uniform(0.0020, 0.0036))))
    return strokes


def _furrow(rng: np.random.Generator) -> Stroke:
    """A short shallow furrow anywhere on the palm: together they make it look like skin."""
    centre = np.array([rng.uniform(-0.46, 0.46), rng.uniform(0.06, 1.10)])
    path = arc(centre, _orientation(centre, rng, 0.5), rng.uniform(0.02, 0.08), rng.normal(0, 4.0))
    t = np.linspace(0, 1, len(path))
    depth = rng.uniform(0.12, 0.42) * taper(t, 0.35, 0.35)
    return Stroke(path, depth, np.full(len(path), rng.uniform(0.0018, 0.0030)))


def _place(rng: np.random.Generator) -> np.ndarray:
    """A point [2] on the palm, denser where palms are wrinkled: the centre and the thenar."""
    kind = rng.random()
    if kind < 0.45:
        return rng.normal([0.02, 0.45], [0.20, 0.22])
    if kind < 0.75:
        return rng.normal([0.27, 0.70], [0.14, 0.17])
    return rng.normal([-0.30, 0.60], [0.12, 0.25])


def _orientation(point: np.ndarray, rng: np.random.Generator, spread: float) -> float:
    """Angle in radians (0 = to the thumb side, y down) that creases take at a place of the palm."""
    x, y = point
    if x > 0.12 and y > 0.5:  # thenar: across the life line, fanning out from the thumb's web
        mean = np.deg2rad(rng.choice([35.0, 120.0], p=[0.6, 0.4]))
    elif x < -0.2 and y > 0.35:  # hypothenar: oblique, from the edge down to the middle
        mean = np.deg2rad(rng.choice([20.0, -60.0], p=[0.55, 0.45]))
    elif y < 0.25:  # below the fingers: lengthwise
        mean = np.deg2rad(rng.choice([88.0, 10.0], p=[0.75, 0.25]))
    else:
        mean = np.deg2rad(rng.choice([100.0, 75.0, 15.0], p=[0.45, 0.3, 0.25]))
    return float(mean + rng.normal(0, spread))


def _joint_creases(hand: Hand, rng: np.random.Generator) -> list[Stroke]:
    """Flexion creases of digits and wrist: one to three arcs across each joint."""
    strokes = []
    for digit in range(5):
        base, tip = hand.bases[digit], hand.joints[digit, 3]
        # A base crease lies at the level of the webs; on the thumb, across its MCP joint.
        places = [(base, 0.95), (hand.joints[digit, 2], 0.9)]
        if digit:
            places.insert(1, (hand.joints[digit, 1], 1.0))
        along = (tip - base) / np.linalg.norm(tip - base)
        for k, (place, strength) in enumerate(places):
            count = (2, 2, 1)[k] if digit else (2, 1)[k]
            for n in range(count + int(rng.random() < 0.4)):
                shift = (n - (count - 1) / 2) * rng.uniform(0.022, 0.036) + rng.normal(0, 0.004)
                strokes.append(_across(hand, digit, place + shift * along, along, strength, rng))
    for n in range(rng.integers(1, 4)):
        y = WRIST_Y - 0.05 + 0.05 * n + rng.normal(0, 0.008)
        path = np.stack([np.linspace(-0.36, 0.38, 120), np.full(120, y)], axis=1)
        path[:, 1] += 0.03 * np.cos(np.linspace(-1.5, 1.5, 120))
        t = np.linspace(0, 1, 120)
        depth = rng.uniform(0.3, 0.7) * uneven(t, 0.5, rng)
        strokes.append(Stroke(shake(path, 0.006, rng), depth, np.full(120, 0.006)))
    return strokes


def _across(
    hand: Hand,
    digit: int,
    centre: np.ndarray,
    along: np.ndarray,
    strength: float,
    rng: np.random.Generator,
) -> Stroke:
    """One arc across a digit at `centre`, slightly bowed and tilted, fading at its ends."""
    nearest = np.argmin(np.linalg.norm(hand.axes[digit] - centre, axis=1))
    half = hand.half_widths[digit, nearest] * rng.uniform(0.75, 1.0)
    s = np.linspace(-1, 1, max(24, int(2 * half / 0.0045)))
    lateral = np.array([-along[1], along[0]])
    bow = rng.normal(0.008, 0.006) * (1 - s**2) + rng.normal(0, 0.008) * s
    path = centre + half * s[:, None] * lateral - bow[:, None] * along
    t = (s + 1) / 2
    depth = strength * rng.uniform(0.35, 0.85) * uneven(t, 0.35, rng) * taper(t, 0.15, 0.15)
    return Stroke(shake(path, 0.003, rng), depth, np.full(len(s), rng.uniform(0.0045, 0.007)))
