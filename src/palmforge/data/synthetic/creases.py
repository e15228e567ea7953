"""The creases of a palm: where they run, how deep and how wide they are."""

from __future__ import annotations

import numpy as np

from palmforge.data.roi import xjtu_roi_quad
from palmforge.data.synthetic.anatomy import WRIST_Y, Hand
from palmforge.data.synthetic.principal_creases import (
    extend,
    joined_or_apart,
    principal_crease,
    single_crease,
)
from palmforge.data.synthetic.principal_lines import line_model
from palmforge.data.synthetic.strokes import (
    Stroke,
    arc,
    aside,
    bezier,
    course,
    shake,
    taper,
    uneven,
)
from palmforge.data.synthetic.wrinkles import (
    Field,
    crease_field,
    digit_wrinkles,
    fine_creases,
    spread,
)

_SIMIAN, _SYDNEY = 0.03, 0.04  # shares of palms with a single crease, and with a long head line


def palm_creases(
    hand: Hand, keypoints14: np.ndarray, rng: np.random.Generator, wrinkled: float = 0.0
) -> tuple[list[Stroke], list[Stroke]]:
    """All creases of one hand.

    Args:
        hand: anatomy.
        keypoints14: [14, 2] in the hand frame; they place the ROI that the labelled lines live in.
        rng: the identity's generator.
        wrinkled: 0 for an average hand, about -2 (smooth) to 2 (densely wrinkled).

    Returns:
        The creases that make a relief (principal, secondary, joints) and the fine ones.
    """
    lines = _principal_lines(keypoints14, rng)
    depth = float(np.clip(rng.normal(0.86, 0.17), 0.40, 1.15))  # of all three: people differ
    strong: list[Stroke] = []
    for line in lines:
        own = np.clip(depth * rng.uniform(0.72, 1.15), 0.25, 1.15)
        strong += principal_crease(line, float(own), rng)
    field = crease_field(lines, rng)
    strong += _secondary_lines(field, rng, wrinkled) + _at_the_edges(hand, keypoints14, rng)
    strong += _closing_folds(lines[0], rng) + _joint_creases(hand, rng) + _wrist_creases(rng)
    return strong, [fine_creases(field, wrinkled, rng), digit_wrinkles(hand, wrinkled, rng)]


def _principal_lines(keypoints14: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """The three lines (two, if head and heart are one), [N, 2] each, in the hand frame."""
    quad = xjtu_roi_quad(keypoints14 * 1000) / 1000  # it takes pixels, and refuses tiny palms
    to_hand = np.array([quad[1] - quad[0], quad[3] - quad[0]])
    sydney = bool(rng.random() < _SYDNEY)
    sampled = line_model().sample(rng)
    lines = [extend(line, k, rng, sydney) @ to_hand + quad[0] for k, line in enumerate(sampled)]
    lines = joined_or_apart(lines, rng)
    return single_crease(lines, rng) if rng.random() < _SIMIAN else lines


def _line(
    path: np.ndarray, depth: float, rng: np.random.Generator, fold: float = 0.2
) -> list[Stroke]:
    """A secondary crease along a path: wavering, uneven, often in pieces, sometimes doubled."""
    path = shake(shake(path, 0.006, rng, 36), 0.0012, rng, 6)
    t = course(len(path))
    depths = depth * uneven(t, 0.45, rng) * taper(t, 0.15, 0.3)
    if rng.random() < 0.4:
        depths *= 1 - 0.95 * np.exp(-(((t - rng.uniform(0.2, 0.8)) / 0.05) ** 2))
    width = rng.uniform(0.0024, 0.0046) * (0.7 + 0.5 * depth) * uneven(t, 0.2, rng)
    strokes = [Stroke(path, depths, width, fold)]
    if rng.random() < 0.25:
        beside = aside(path, rng.choice([-1, 1]) * rng.uniform(0.008, 0.02) * (0.4 + t))
        strokes.append(Stroke(beside, 0.6 * depths[::-1], 0.85 * width, fold))
    return strokes


def _secondary_lines(field: Field, rng: np.random.Generator, wrinkled: float) -> list[Stroke]:
    """Fate, sun, mercury, girdle, Mars, hypothenar and free lines: few in a smooth hand."""
    more = float(np.exp(0.25 * wrinkled))

    def near(x: float, y: float, spread: float = 0.04) -> np.ndarray:
        return rng.normal([x, y], spread)

    def deep(low: float = 0.2, high: float = 0.65) -> float:
        return float(np.clip(more * rng.uniform(low, high), 0.1, 0.85))

    paths = []  # (chance, control points)
    low = rng.uniform(0.55, 1.05)  # where the lines that climb to the fingers begin
    paths.append((0.65, [near(0.03, low), near(0.05, 0.55), near(0.10, rng.uniform(0.1, 0.4))]))
    paths.append((0.50, [near(-0.05, rng.uniform(0.3, 0.8)), near(-0.1, 0.4), near(-0.12, 0.13)]))
    paths.append((0.45, [near(0.0, 0.98, 0.06), near(-0.16, 0.7), near(-0.31, 0.36, 0.06)]))
    paths.append((0.18, [near(0.20, 0.07, 0.02), near(0.0, 0.22, 0.03), near(-0.21, 0.09, 0.02)]))
    paths.append((0.35, [near(0.36, 0.38, 0.03), near(0.22, 0.58), near(0.20, 0.85)]))  # Mars
    for _ in range(rng.poisson(2.5 * more)):  # hypothenar, oblique from the edge
        y = rng.uniform(0.4, 1.0)
        stop = near(-0.2, y + rng.normal(0.10, 0.08), 0.05)
        paths.append((1.0, [near(-0.45, y, 0.02), near(-0.33, y + 0.02, 0.03), stop]))
    for _ in range(rng.poisson(3.0 * more)):  # across the thenar, from the life line to the web
        start = near(0.12 + rng.uniform(0, 0.1), rng.uniform(0.45, 0.95), 0.03)
        stop = start + rng.uniform(0.08, 0.3) * np.array([0.85, rng.normal(-0.25, 0.4)])
        paths.append((1.0, [start, (start + stop) / 2 + rng.normal(0, 0.02, 2), stop]))
    for _ in range(rng.poisson(2.5 * more)):  # anywhere, with the others or across them
        start = rng.normal([0.0, 0.5], [0.22, 0.25])
        angle = field.angle(start[None])[0] + rng.choice([0.0, 1.35]) + rng.normal(0, 0.25)
        path = arc(start, angle, rng.uniform(0.08, 0.3), rng.normal(0, 2.0))
        paths.append((1.0, [path[0], path[len(path) // 2], path[-1]]))
    strokes = []
    for chance, control in paths:
        if rng.random() < chance * min(more, 1.2):
            strokes += _line(bezier(*control), deep(), rng)
    return strokes


def _at_the_edges(hand: Hand, keypoints14: np.ndarray, rng: np.random.Generator) -> list[Stroke]:
    """Folds that fan out from the webs and below the fingers, and lines on the ulnar edge."""
    strokes = []
    for web in keypoints14[[3, 6, 9]]:
        for _ in range(rng.integers(1, 6)):
            angle = np.pi / 2 + rng.normal(0, 0.45)
            start = web + rng.uniform([-0.04, 0.015], [0.04, 0.05])
            path = arc(start, angle, rng.uniform(0.04, 0.16), rng.normal(0, 2.5))
            strokes += _line(path, rng.uniform(0.12, 0.5), rng, 0.35)
    for finger in range(1, 5):
        for _ in range(rng.poisson(1.2)):
            start = hand.bases[finger] + rng.uniform([-0.05, 0.04], [0.05, 0.1])
            path = arc(start, np.pi / 2 + rng.normal(0, 0.2), rng.uniform(0.05, 0.2), rng.normal())
            strokes += _line(path, rng.uniform(0.12, 0.4), rng, 0.1)
    top = hand.bases[4, 1] + 0.06
    for _ in range(rng.integers(1, 4)):  # marriage lines
        start = np.array([-0.51, rng.uniform(top, top + 0.12)])
        path = arc(start, rng.normal(0.05, 0.12), rng.uniform(0.05, 0.12), 0.0)
        strokes += _line(path, rng.uniform(0.25, 0.6), rng, 0.3)
    return strokes


def _closing_folds(life: np.ndarray, rng: np.random.Generator) -> list[Stroke]:
    """Folds that hardly show on a flat hand, and come when thumb and fingers close."""
    strokes = []
    for _ in range(rng.integers(4, 10)):
        first = rng.uniform(0.1, 0.6)
        at = first + rng.uniform(0.15, 0.35) * np.array([0.0, 0.5, 1.0])
        path = bezier(*life[(at * (len(life) - 1)).astype(int)])
        beside = np.array([rng.uniform(0.02, 0.22), rng.normal(0, 0.03)])
        path = shake(path + beside, 0.004, rng)
        t = course(len(path))
        depth = 0.06 * np.sin(np.pi * t)
        strokes.append(Stroke(path, depth, np.full(len(t), rng.uniform(0.004, 0.008)), 6.0))
    return strokes


def _joint_creases(hand: Hand, rng: np.random.Generator) -> list[Stroke]:
    """Flexion creases of the digits: one to three arcs across each joint, fine ones beside them."""
    digits, centres, strengths = [], [], []
    for digit in range(5):
        base, tip = hand.bases[digit], hand.joints[digit, 3]
        along = (tip - base) / np.linalg.norm(tip - base)
        # A base crease lies at the level of the webs; on the thumb, across its MCP joint. It is
        # double below the two middle fingers, the second joint's always, the third's never.
        double = 2 if digit in (0, 2, 3) else 1 + int(rng.random() < 0.35)
        places = [(base, 0.95 if digit else 0.6, double), (hand.joints[digit, 2], 0.9, 1)]
        if digit:
            places.insert(1, (hand.joints[digit, 1], 1.0, 2))
        for place, strength, usual in places:
            strong, fine = usual + int(rng.random() < 0.4), rng.integers(1, 5)
            shift = (np.arange(strong) - (usual - 1) / 2) * rng.uniform(0.022, 0.036)
            beside = rng.normal(0, 0.035, fine)
            shift = np.append(shift + rng.normal(0, 0.004, strong), beside)
            digits += [digit] * len(shift)
            centres.append(place + shift[:, None] * along)
            strengths += [strength] * strong + [0.3 * strength] * fine
    return _across(hand, np.array(digits), np.concatenate(centres), np.array(strengths), rng)


def _across(
    hand: Hand,
    digit: np.ndarray,
    centres: np.ndarray,
    strength: np.ndarray,
    rng: np.random.Generator,
) -> list[Stroke]:
    """Arcs across digits [N] at centres [N, 2], slightly bowed and tilted, fading at their ends."""
    along = hand.joints[digit, 3] - hand.bases[digit]
    along /= np.hypot(*along.T)[:, None]
    lateral = np.stack([-along[:, 1], along[:, 0]], axis=1)
    off = np.linalg.norm(hand.axes[digit] - centres[:, None], axis=2)
    count, s = len(digit), 2 * course(31) - 1

    def each(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, count)

    half = hand.half_widths[digit, off.argmin(axis=1)] * each(0.6, 1.0) * np.where(digit, 1.0, 1.2)
    # Two waves and a little noise instead of a ruler; the middle sags towards the palm.
    bow = rng.normal(0.008, 0.006, (count, 1)) * (1 - s**2) + rng.normal(0, 0.008, (count, 1)) * s
    bow += rng.normal(0, 0.002, (count, 1)) * np.sin(5 * s + each(0, 6.28)[:, None])
    bow += rng.normal(0, 0.0008, (count, len(s)))
    across = half[:, None] * (s + rng.normal(0, 0.08, (count, 1)))
    nodes = (
        centres[:, None] + across[..., None] * lateral[:, None] - bow[..., None] * along[:, None]
    )
    rough = 1 + 0.3 * np.sin(each(2, 6)[:, None] * s + each(0, 6.28)[:, None])
    depth = (strength * each(0.35, 0.85))[:, None] * rough * np.minimum(1, 2.2 * (1 - np.abs(s)))
    width = each(0.0026, 0.0055) * (0.6 + 0.4 * strength)
    groove = spread(nodes, depth, width, 2 * half)
    flanks = Stroke(groove.points, 0.25 * groove.depth, 2.8 * groove.width, 1.0)
    return [Stroke(groove.points, groove.depth, groove.width, 1.0), flanks]


def _wrist_creases(rng: np.random.Generator) -> list[Stroke]:
    """Rascettes: one to three lines across the wrist, in pieces."""
    strokes = []
    for n in range(rng.integers(1, 4)):
        y = WRIST_Y - 0.05 + 0.055 * n + rng.normal(0, 0.01)
        start, stop = rng.uniform(-0.37, -0.25), rng.uniform(0.22, 0.38)
        bend = np.array([0.0, y + rng.normal(0.05, 0.03)])
        strokes += _line(bezier((start, y), bend, (stop, y)), rng.uniform(0.3, 0.75), rng, 0.8)
    return strokes
