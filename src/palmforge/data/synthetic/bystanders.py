"""Other people behind the hand: skin that is no palm."""

from __future__ import annotations

import numpy as np

from palmforge.data.synthetic import texture
from palmforge.data.synthetic.canvas import Canvas, lit, nearness
from palmforge.data.synthetic.scenery import clutter, foliage, outdoors, room


def people(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Faces, shoulders and arms: skin that is no palm. One person, or a crowd."""
    size = max(height, width)
    behind = (texture.wall, clutter, foliage, outdoors)[int(rng.integers(4))]
    canvas = Canvas(behind(rng, height, width))
    many = rng.random() < 0.4
    number = int(rng.integers(8, 30)) if many else int(rng.integers(1, 4))
    heads = size * (rng.uniform(0.03, 0.09) if many else rng.uniform(0.1, 0.32))
    for y in np.sort(rng.uniform(0.05, 0.95 if many else 0.6, number)):
        at = np.array([rng.uniform(0, 1) * width, y * height])
        _person(canvas, rng, at, heads * rng.uniform(0.8, 1.2), nearness(rng))
    return lit(canvas, rng, 0.7)


def _person(
    canvas: Canvas, rng: np.random.Generator, at: np.ndarray, head: float, near: int
) -> None:
    """Clothes, neck, face and hair; an arm now and then. `head`: half the height of the face."""
    skin, shirt = texture.skin_colour(rng), texture.colour(rng, 0.8)
    hair = np.array([0.02, 0.013, 0.008]) * np.exp(rng.uniform(0, 3))
    x, y = at
    lean = rng.normal(0, 12)
    shoulders = np.array([[-2.1, 5], [-1.9, 2.2], [-0.6, 1.5], [0.6, 1.5], [1.9, 2.2], [2.1, 5]])
    canvas.polygon(at + head * shoulders, shirt, near)
    canvas.line((x, y), (x, y + 1.5 * head), 0.8 * skin, 0.75 * head, near)
    canvas.ellipse((x, y - 0.25 * head), (0.88 * head, 1.05 * head), lean, hair, near)
    canvas.ellipse((x, y + 0.1 * head), (0.70 * head, 0.95 * head), lean, skin, near)
    canvas.ellipse(
        (x + 0.2 * head, y + 0.1 * head), (0.45 * head, 0.8 * head), lean, 1.12 * skin, near
    )
    for side in (-1, 1):
        eye = (x + side * 0.28 * head, y)
        canvas.ellipse(eye, (0.12 * head, 0.05 * head), lean, np.full(3, 0.02), near)
        brow = (eye[0], y - 0.18 * head)
        canvas.ellipse(brow, (0.17 * head, 0.035 * head), lean + 6 * side, hair, near)
    canvas.line(
        (x, y + 0.1 * head), (x + 0.05 * head, y + 0.32 * head), 0.7 * skin, 0.06 * head, near
    )
    mouth = skin * np.array([0.85, 0.5, 0.5])
    canvas.ellipse((x, y + 0.6 * head), (0.25 * head, 0.06 * head), lean, mouth, near)
    if rng.random() < 0.5:
        side = rng.choice([-1, 1])
        elbow = at + head * np.array([side * rng.uniform(2, 3.5), rng.uniform(2.5, 4.5)])
        fist = elbow + head * rng.uniform(-2.5, 2.5, 2)
        canvas.line(at + head * np.array([side * 1.6, 2.5]), elbow, shirt, 0.8 * head, near)
        canvas.line(elbow, fist, skin, 0.55 * head, near)
        canvas.ellipse(fist, (0.45 * head, 0.4 * head), rng.uniform(0, 180), skin, near)


def blurred_hands(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Shapes of hands, fists and arms, without the creases of a palm: for out-of-focus use."""
    size = max(height, width)
    behind = (texture.wall, clutter, room)[int(rng.integers(3))]
    canvas = Canvas(behind(rng, height, width))
    for _ in range(int(rng.integers(1, 4))):
        skin, near = texture.skin_colour(rng), nearness(rng)
        at = np.array([rng.uniform(0, width), rng.uniform(0, height)])
        palm, turn = size * rng.uniform(0.06, 0.16), rng.uniform(0, 2 * np.pi)
        away = np.array([np.cos(turn), np.sin(turn)])
        canvas.line(at, at - 6 * palm * away, skin, 1.25 * palm, near)
        for k, angle in enumerate([-0.9, -0.33, -0.1, 0.12, 0.36]):
            reach = palm * (1.7 if k == 0 else 2.2) * (1 if rng.random() < 0.8 else 0.55)
            where = turn + angle * rng.uniform(0.7, 1.5)
            root = at + 0.55 * palm * np.array(
                [np.cos(turn + 1.9 * angle), np.sin(turn + 1.9 * angle)]
            )
            tip = root + reach * np.array([np.cos(where), np.sin(where)])
            canvas.line(root, tip, 0.6 * skin, 0.50 * palm, near)
            canvas.line(root, tip, skin, 0.42 * palm, near)
        canvas.ellipse(at, (1.0 * palm, 0.85 * palm), np.rad2deg(turn), skin, near)
    return lit(canvas, rng, 0.7)
