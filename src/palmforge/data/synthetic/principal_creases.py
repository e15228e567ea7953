"""The three principal lines as skin has them: uneven, broken, split, chained, feathered."""

from __future__ import annotations

import numpy as np

from palmforge.data.synthetic.strokes import (
    SPACING,
    Stroke,
    arc,
    aside,
    course,
    resample,
    shake,
    taper,
    uneven,
)

LIFE, HEAD, HEART = 0, 1, 2


def extend(
    line: np.ndarray, which: int, rng: np.random.Generator, sydney: bool = False
) -> np.ndarray:
    """Continue a labelled line [N, 2] that the ROI cut off, in ROI units.

    Labels end at the ROI's border; lines end at the palm's edge (life and head: radial; heart:
    ulnar) or near the wrist (life). A Sydney line is a head line that crosses the whole palm.

    Args:
        line: points from the line's start on.
        which: LIFE, HEAD or HEART.
        rng: the identity's generator.
        sydney: whether a head line goes on to the little finger's edge.

    Returns:
        The longer line.
    """
    spacing = np.linalg.norm(np.diff(line, axis=0), axis=1).mean()
    head, tail, turn = 0.0, 0.0, 0.0
    if which < HEART:  # the palm's edge is 0.3 of a ROI beyond the ROI's
        head = np.clip(rng.uniform(1.18, 1.34) - line[0, 0], 0.08, 0.5)
    if which == LIFE and line[-1, 1] > 0.8:
        tail, turn = rng.uniform(0.35, 1.0), -rng.uniform(0.5, 1.5)  # round the thumb's ball
    if which == HEART and line[-1, 0] < 0.1:
        tail = 0.36
    if which == HEAD and sydney:
        tail = 0.30 + max(line[-1, 0], 0)
    # Seen from its start, a line comes from the right and a little from above.
    before = _continue(line[::-1], head, spacing, outwards=(-1.0, 0.5))[::-1]
    return np.concatenate([before, line, _continue(line, tail, spacing, turn)])


def _continue(
    line: np.ndarray,
    length: float,
    spacing: float,
    turn: float = 0.0,
    outwards: tuple[float, float] = (-10.0, 10.0),
) -> np.ndarray:
    """Points [M, 2] beyond the end of a line, turning by `turn` radians a unit of length.

    Its first direction is kept within `outwards` (radians, 0 = to the right, y down).
    """
    dx, dy = line[-1] - line[-6]
    count = int(length / spacing)
    angle = np.clip(np.arctan2(dy, dx), *outwards) + turn * spacing * np.arange(1, count + 1)
    return line[-1] + np.cumsum(spacing * np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)


def joined_or_apart(lines: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Let the head line leave the life line at their common start, as in most palms.

    Args:
        lines: life, head and heart line in the hand frame, extended.
        rng: the identity's generator.

    Returns:
        The lines; the head line may begin on the life line.
    """
    life, head, heart = (resample(line, SPACING) for line in lines)
    if rng.random() < 0.4:
        return [life, head, heart]
    leaves = life[rng.integers(1, int(0.3 * len(life)))]
    start = int(np.argmin(np.hypot(*(head - leaves).T)))
    gap = leaves - head[start]
    if np.hypot(*gap) > 0.09 or start > 0.35 * len(head):
        return [life, head, heart]
    rest = head[start:]
    ease = np.clip(1 - np.arange(len(rest)) * SPACING / rng.uniform(0.12, 0.25), 0, 1) ** 2
    return [life, rest + ease[:, None] * gap, heart]


def single_crease(lines: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Simian crease: head and heart line are one, from the head's start to the heart's end."""
    life, head, heart = (resample(line, SPACING) for line in lines)
    t = course(256)[:, None]

    def at(line: np.ndarray) -> np.ndarray:
        return line[np.round(t[:, 0] * (len(line) - 1)).astype(int)]

    # Both run from the thumb's side to the little finger's; the heart line starts further on.
    weight = np.clip((t - rng.uniform(0.2, 0.4)) / 0.35, 0, 1)
    weight = weight * weight * (3 - 2 * weight)
    return [life, resample((1 - weight) * at(head) + weight * at(heart), SPACING)]


def principal_crease(line: np.ndarray, strength: float, rng: np.random.Generator) -> list[Stroke]:
    """One principal line and all that belongs to it.

    Args:
        line: [N, 2] in the hand frame.
        strength: depth, 1 = strong.
        rng: the identity's generator.

    Returns:
        Its strokes.
    """
    line = resample(line, SPACING)
    line = shake(shake(shake(line, 0.0045, rng, 45), 0.0018, rng, 14), 0.0009, rng, 4)
    t = course(len(line))
    depth = strength * uneven(t, 0.26, rng) * uneven(t[::4], 0.2, rng).repeat(4)[: len(t)]
    depth *= taper(t, rng.uniform(0.03, 0.14), rng.uniform(0.1, 0.35))
    width = rng.uniform(0.0036, 0.0062) * (0.75 + 0.25 * strength) * uneven(t, 0.22, rng)
    width *= 0.6 + 0.4 * taper(t, 0.06, 0.4)
    strokes = []
    if rng.random() < 0.3:
        line, depth = _broken(line, depth, rng)
    for _ in range(rng.choice(3, p=[0.5, 0.35, 0.15])):
        line, sibling = _island(line, depth, width, rng)
        strokes.append(sibling)
    if rng.random() < 0.22:
        strokes.append(_chain(line, depth, width, rng))
    # A groove with a sharp bottom and soft flanks: three Gaussians make its profile.
    for part, wider in ((0.70, 1.0), (0.45, 0.45), (0.24, 2.8)):
        strokes.append(Stroke(line, part * depth, wider * width, 1.0))
    for _ in range(rng.choice(4, p=[0.35, 0.35, 0.2, 0.1])):
        at = int(len(line) * rng.uniform(0.4, 0.95))
        strokes.append(_branch(line, at, depth[at], width[at], rng))
    if rng.random() < 0.3:  # a tassel: the end frays
        for _ in range(rng.integers(2, 5)):
            at = int(len(line) * rng.uniform(0.8, 0.97))
            strokes.append(_branch(line, at, 0.45 * strength, 0.6 * width[at], rng))
    return strokes + _companions(line, strength, rng) + _feathers(line, strength, rng)


def _broken(
    line: np.ndarray, depth: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A line in two pieces whose ends overlap a little, side by side."""
    gap = int(len(line) * rng.uniform(0.3, 0.85))
    overlap = int(rng.uniform(0.0, 0.04) / SPACING)
    fade = max(4, int(0.03 / SPACING))
    step = rng.choice([-1, 1]) * rng.uniform(0.006, 0.022)
    first, second = line[: gap + overlap], line[max(gap - overlap, 0) :]
    away = step * np.exp(-np.arange(len(second)) / (0.10 / SPACING))
    d1, d2 = depth[: len(first)].copy(), depth[-len(second) :].copy()
    n1, n2 = min(fade, len(d1)), min(fade, len(d2))
    d1[-n1:] *= 1 - course(n1)
    d2[:n2] *= course(n2)
    whole, depths = np.concatenate([first, aside(second, away)]), np.concatenate([d1, d2])
    pick = np.round(np.linspace(0, len(whole) - 1, len(line))).astype(int)  # as many as before
    return whole[pick], depths[pick]


def _island(
    line: np.ndarray, depth: np.ndarray, width: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Stroke]:
    """A line that splits in two and joins again: the line moved aside, and the other half."""
    length = min(int(rng.uniform(0.05, 0.16) / SPACING), len(line) - 2)
    start = rng.integers(0, len(line) - length)
    part = slice(start, start + length)
    away = rng.uniform(0.006, 0.013) * np.sin(np.pi * course(length))
    moved = line.copy()
    moved[part] = aside(line[part], away)
    other = Stroke(aside(line[part], -away), 0.75 * depth[part], 0.85 * width[part], 1.0)
    return moved, other


def _chain(
    line: np.ndarray, depth: np.ndarray, width: np.ndarray, rng: np.random.Generator
) -> Stroke:
    """Link after link of small islands along a part of the line."""
    length = min(int(rng.uniform(0.12, 0.35) / SPACING), len(line) - 2)
    start = rng.integers(0, len(line) - length)
    part = slice(start, start + length)
    phase = np.pi * course(length) * max(2, round(length * SPACING / rng.uniform(0.03, 0.05)))
    weave = rng.uniform(0.006, 0.010) * np.sin(phase)
    return Stroke(aside(line[part], weave), 0.7 * depth[part], 0.8 * width[part], 1.0)


def _branch(
    line: np.ndarray, at: int, depth: float, width: float, rng: np.random.Generator
) -> Stroke:
    """A fork that leaves a line at point `at` under a small angle."""
    ahead = line[min(at + 6, len(line) - 1)] - line[max(at - 6, 0)]
    angle = np.arctan2(ahead[1], ahead[0]) + rng.choice([-1, 1]) * rng.uniform(0.2, 0.65)
    path = shake(arc(line[at], angle, rng.uniform(0.05, 0.2), rng.normal(0, 2.0)), 0.0015, rng, 10)
    t = course(len(path))
    return Stroke(path, 0.8 * depth * (1 - t) ** 0.7, 0.8 * width * (1 - 0.4 * t), 0.6)


def _companions(line: np.ndarray, strength: float, rng: np.random.Generator) -> list[Stroke]:
    """Faint lines beside a line, for a part of its course; rarely all along: a doubled line."""
    strokes = []
    for k in range(rng.integers(1, 5)):
        double = k == 0 and rng.random() < 0.08
        length = rng.uniform(0.5, 0.9) if double else rng.uniform(0.06, 0.28)
        start = rng.uniform(0, 1 - length)
        part = line[int(start * len(line)) : int((start + length) * len(line))]
        if len(part) < 12:
            continue
        s = course(len(part))
        distance = rng.choice([-1, 1]) * rng.uniform(0.010, 0.028)
        drift = distance * (1 + rng.normal(0, 0.4) * (s - 0.5))
        depth = strength * (rng.uniform(0.4, 0.7) if double else rng.uniform(0.12, 0.42))
        depth = depth * np.sin(np.pi * s) ** 0.6 * uneven(s, 0.3, rng)
        path = shake(aside(part, drift), 0.0016, rng, 12)
        strokes.append(Stroke(path, depth, np.full(len(part), rng.uniform(0.0022, 0.0042)), 0.8))
    return strokes


def _feathers(line: np.ndarray, strength: float, rng: np.random.Generator) -> list[Stroke]:
    """Short fine lines that run into a line at acute angles."""
    strokes = []
    for at in rng.integers(8, len(line) - 8, rng.integers(3, 15)):
        ahead = line[at + 6] - line[at - 6]
        angle = np.arctan2(ahead[1], ahead[0]) + rng.choice([-1, 1]) * rng.uniform(0.35, 1.2)
        angle += np.pi * rng.integers(0, 2)
        path = arc(line[at], angle, rng.uniform(0.02, 0.085), rng.normal(0, 4.0))
        t = course(len(path))
        depth = (0.4 + 0.6 * strength) * rng.uniform(0.15, 0.5) * (1 - t) ** 0.8
        strokes.append(Stroke(path, depth, np.full(len(path), rng.uniform(0.0018, 0.0034)), 0.3))
    return strokes
