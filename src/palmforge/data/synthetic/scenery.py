"""What hands are photographed in front of in the wild: rooms, shelves, print, leaves, sky.

Painters take (rng, height, width) and return linear RGB [H, W, 3] float32.
"""

from __future__ import annotations

import cv2
import numpy as np

from palmforge.data.synthetic import texture
from palmforge.data.synthetic.canvas import Canvas, lit, nearness, tilted

_WORDS = (
    *("STOP", "HELLO", "OPEN", "2024", "no.", "palm", "EXIT", "News", "SALE", "the", "and", "of"),
    *("Hand", "50%", "love", "Vote", "free", "www.info.org", "Keep", "Out", "menu", "JUSTICE"),
    *("please", "READ", "1984", "TV", "art", "peace", "Warning", "total"),
)


def clutter(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Things of all shapes, some of them lamps and windows."""
    canvas = Canvas(texture.wall(rng, height, width))
    size = max(height, width)
    tidy = rng.random() < 0.5
    # From a few things on a table to "dead leaves": many sizes, few of them large.
    number = int(np.exp(rng.uniform(np.log(8), np.log(160))))
    least = rng.uniform(0.01, 0.05)
    for _ in range(number):
        ink = texture.colour(rng, 0.6) * (2.0 if rng.random() < 0.12 else 1.0)
        if rng.random() < 0.12:
            ink = texture.skin_colour(rng)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = size * least * np.minimum(0.5 / least, rng.uniform(0.05, 1, 2) ** -0.9)
        kind, near = rng.random(), nearness(rng)
        if kind < 0.5:
            angle = rng.choice([0, 90]) if tidy else rng.uniform(0, 90)
            corners = cv2.boxPoints(((x, y), (w, h), float(angle)))
            canvas.polygon(corners, ink, near)
            if rng.random() < 0.4:
                inner = corners.mean(0) + (corners - corners.mean(0)) * rng.uniform(0.6, 0.95)
                canvas.polygon(inner, texture.colour(rng, 0.6), near)
        elif kind < 0.72:
            canvas.ellipse((x, y), (w / 2, h / 3), rng.uniform(0, 180), ink, near)
        elif kind < 0.85:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
            spokes = np.c_[np.cos(angles), np.sin(angles)] * rng.uniform(0.3, 1, (len(angles), 1))
            canvas.polygon(np.array([x, y]) + spokes * w / 2, ink, near)
        else:
            end = (rng.uniform(0, width), rng.uniform(0, height))
            canvas.line((x, y), end, ink, 1 + rng.random() * size / 24, near)
    return lit(canvas, rng)


def foliage(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Leaves, grass, gravel or petals, the nearer ones lighter."""
    size = max(height, width)
    base = np.array([0.09, 0.15, 0.03]) * np.exp(rng.normal(0, 0.25, 3) + rng.normal(0, 0.4))
    if rng.random() < 0.3:
        base = texture.colour(rng, 0.5)
    behind = np.float32(0.5) * texture.fractal(rng, height, width, rng.uniform(4, 20), 0.7)
    canvas = Canvas(texture.tinted(0.35 * base, behind))
    length, slim = size * np.exp(rng.uniform(np.log(0.015), np.log(0.09))), rng.uniform(0.06, 0.6)
    along, spread = rng.uniform(0, 180), rng.choice([15, 90])
    lights = texture.cloud(rng, 8, 8, 4)
    for near in np.linspace(10, 250, 260):
        at = rng.uniform(0, width), rng.uniform(0, height)
        patch = lights[int(8 * at[1] / height), int(8 * at[0] / width)]
        light = np.exp(near / 250 - 0.4 + 0.4 * patch + 0.25 * rng.standard_normal())
        ink = light * base * np.exp(0.12 * rng.standard_normal(3))
        half = length * np.exp(0.35 * rng.standard_normal())
        angle = rng.normal(along, spread)
        canvas.ellipse(at, (half, slim * half), angle, ink, int(near))
    return lit(canvas, rng)


def bokeh(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Lights out of focus: discs on something dark."""
    size = max(height, width)
    canvas = Canvas(texture.wall(rng, height, width) * np.float32(0.3))
    radius = size * rng.uniform(0.015, 0.06)
    glow = np.zeros_like(canvas.image)
    for _ in range(int(rng.integers(15, 70))):
        disc = np.zeros(3) + 255 * np.clip(
            np.exp(rng.normal(-1.0, 0.5) + 0.5 * rng.standard_normal(3)), 0, 1
        )
        at = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        cv2.circle(
            glow, at, max(1, round(radius * rng.uniform(0.7, 1.1))), disc.tolist(), -1, cv2.LINE_AA
        )
    canvas.image = cv2.add(canvas.image, glow)
    return lit(canvas, rng)


def shelves(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Books, boxes or bottles side by side, in rows."""
    size = max(height, width)
    canvas = Canvas(texture.wall(rng, height, width) * np.float32(0.5))
    rows = int(rng.integers(1, 6))
    step, board = height / rows, texture.colour(rng, 0.3)
    saturation = rng.uniform(0.2, 0.9)
    for row in range(rows):
        x, floor = -rng.uniform(0, 0.05) * size, (row + 1) * step
        while x < width:
            w = size * rng.uniform(0.012, 0.07)
            h = step * rng.uniform(0.55, 0.92)
            if rng.random() < 0.92:
                ink, near = texture.colour(rng, saturation), int(rng.integers(90, 255))
                canvas.box(x, floor - h, w, h, ink, near)
                label = texture.colour(rng, saturation)
                canvas.box(
                    x + 0.2 * w, floor - h * rng.uniform(0.3, 0.9), 0.6 * w, 0.2 * h, label, near
                )
            x += w
        canvas.box(0, floor - 0.05 * step, width, 0.06 * step, board, 160)
    return tilted(lit(canvas, rng), rng)


def grid(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Tiles, bricks, keys of a keyboard, windows of a house, a grid of people's pictures."""
    size = max(height, width)
    w, h = size * np.exp(rng.uniform(np.log(0.04), np.log(0.25), 2))
    gap, brick = rng.uniform(0.03, 0.25) * min(w, h), rng.random() < 0.35
    joint, tile = texture.colour(rng), texture.colour(rng, 0.5)
    spread, lettered = rng.uniform(0.02, 0.5), rng.random() < 0.3
    canvas = Canvas(texture.tinted(joint, np.zeros((height, width), np.float32)))
    ink, font = texture.colour(rng), int(rng.integers(0, 4))
    for row in range(int(height / h) + 2):
        offset = (row % 2) * w / 2 if brick else 0
        for column in range(int(width / w) + 2):
            x, y = column * w - offset, row * h
            shade = tile * np.exp(spread * rng.standard_normal()).astype(np.float32)
            canvas.box(x, y, w - gap, h - gap, shade, 60 + int(rng.integers(0, 60)))
            if lettered:
                letter = chr(int(rng.integers(48, 91)))
                canvas.text(letter, (x + 0.2 * w, y + 0.65 * h), ink, h / 45, 1, font)
    return tilted(lit(canvas, rng, 2.0), rng)


def print_(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Text: pages, posters, screens; lines of strokes that look like words, and words."""
    size = max(height, width)
    dark = rng.random() < 0.3  # a screen, a blackboard
    paper = np.full(3, rng.uniform(0.6, 0.95)) * np.exp(0.06 * rng.standard_normal(3))
    ink = np.clip(np.abs(rng.normal(0, 0.08, 3)), 0, 1)
    if rng.random() < 0.3:
        paper, ink = texture.colour(rng, 0.8), texture.colour(rng, 0.8)
    if dark:
        paper, ink = ink, paper
    tone = np.float32(0.04) * texture.cloud(rng, height, width, 5)
    canvas = Canvas(texture.tinted(paper, tone))
    pitch, font = size * np.exp(rng.uniform(np.log(0.025), np.log(0.2))), int(rng.integers(0, 8))
    margin, y = rng.uniform(-0.1, 0.15) * size, rng.uniform(0, 0.1) * size
    real = pitch > 0.04 * size or rng.random() < 0.3
    while y < height + pitch:
        x, end = margin, width * rng.uniform(0.6, 1.0)
        line_ink = ink if rng.random() < 0.9 else texture.colour(rng, 0.9)
        while x < end:
            w = pitch * rng.uniform(0.6, 3.5)
            if real:
                word = _WORDS[int(rng.integers(len(_WORDS)))]
                canvas.text(word, (x, y), line_ink, pitch / 42, max(1, round(pitch / 16)), font)
                w = 0.45 * pitch * len(word)
            else:
                xs = np.arange(x, x + w, 0.16 * pitch)
                ys = y - pitch * rng.uniform(0, 0.45, len(xs))
                stroke = np.rint(np.c_[xs, ys]).astype(np.int32)
                byte = [float(v) for v in 255 * np.sqrt(np.clip(line_ink, 0, 1))]
                cv2.polylines(
                    canvas.image, [stroke], False, byte, max(1, round(pitch / 14)), cv2.LINE_AA
                )
            x += w + 0.35 * pitch
        y += pitch * (1.0 if rng.random() < 0.85 else 2.0)
        if rng.random() < 0.06:  # a picture on the page
            h = pitch * rng.uniform(2, 6)
            canvas.box(margin, y, width * rng.uniform(0.2, 0.7), h, texture.colour(rng, 0.8), 0)
            y += h + pitch
    return tilted(lit(canvas, rng, 0.5), rng)


def outdoors(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Sky above, ground below, hills, houses or trees between."""
    size = max(height, width)
    horizon = height * rng.uniform(0.2, 1.05)
    rows = np.arange(height, dtype=np.float32)[:, None] / height
    sky = np.array([0.35, 0.55, 0.95]) * np.exp(rng.normal(0, 0.2, 3))
    if rng.random() < 0.3:
        sky = np.full(3, rng.uniform(0.5, 1.0))
    puffs = np.clip(texture.fractal(rng, height, width, rng.uniform(1.5, 4), 0.5), -0.3, 2)
    blue = np.float32(rng.uniform(-0.3, 0.9)) * rows + np.float32(rng.uniform(0, 0.4)) * puffs
    image = texture.tinted(sky, blue.astype(np.float32))
    ground = foliage if rng.random() < 0.5 else texture.surface
    below = max(2, round(height - horizon)) if horizon < height - 2 else 0
    if below:
        image[height - below :] = ground(rng, below, width)
    canvas = Canvas(image)
    for _ in range(int(rng.integers(0, 7))):
        x, w, h = (
            rng.uniform(-0.1, 1) * width,
            rng.uniform(0.08, 0.4) * size,
            rng.uniform(0.05, 0.5) * size,
        )
        ink = texture.colour(rng, 0.3) * np.float32(0.7)
        if rng.random() < 0.6:
            canvas.box(x, horizon - h, w, h, ink, 80)
            pane = texture.colour(rng, 0.2)
            for i in range(int(rng.integers(0, 5))):
                for j in range(4):
                    canvas.box(
                        x + w * (0.1 + 0.22 * j),
                        horizon - h * (0.95 - 0.2 * i),
                        0.12 * w,
                        0.11 * h,
                        pane,
                        80,
                    )
        else:
            green = np.array([0.06, 0.10, 0.02]) * np.exp(rng.normal(0, 0.4))
            canvas.ellipse((x, horizon - h / 2), (w / 2, h / 2), 0, green, 90)
    return lit(canvas, rng, 0.6)


def room(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A corner of a room: two walls, a floor, a window or door, furniture, lamps."""
    size = max(height, width)
    canvas = Canvas(texture.wall(rng, height, width))
    corner, floor = width * rng.uniform(-0.2, 1.2), height * rng.uniform(0.55, 1.1)
    other = np.array([[corner, -1], [width + 1, -1], [width + 1, height], [corner, floor]])
    paint = texture.colour(rng, 0.2)
    canvas.polygon(other, paint, 10)
    base = np.array([[-1, floor + 0.2 * size], [corner, floor], [width, floor + 0.2 * size]])
    canvas.polygon(np.r_[base, [[width, height], [-1, height]]], texture.colour(rng, 0.4), 12)
    for _ in range(int(rng.integers(1, 4))):  # windows, doors, pictures
        x, y = rng.uniform(-0.1, 0.9) * width, rng.uniform(-0.2, 0.5) * height
        w, h = rng.uniform(0.1, 0.45, 2) * size
        canvas.box(x, y, w, h, texture.colour(rng, 0.3), 60)
        inside = np.full(3, 1.0) if rng.random() < 0.4 else texture.colour(rng, 0.6)
        canvas.box(x + 0.06 * w, y + 0.06 * h, 0.88 * w, 0.88 * h, inside, 20)
        if rng.random() < 0.5:
            canvas.line((x + w / 2, y), (x + w / 2, y + h), paint, 0.03 * w, 60)
    for _ in range(int(rng.integers(1, 8))):  # furniture stands on the floor
        w, h = rng.uniform(0.05, 0.5) * size, rng.uniform(0.05, 0.4) * size
        x, bottom = rng.uniform(-0.2, 1.0) * width, floor + rng.uniform(0, 0.25) * size
        ink, near = texture.colour(rng, 0.5), nearness(rng)
        canvas.box(x, bottom - h, w, h, ink, near)
        canvas.box(x, bottom - h, w, 0.12 * h, ink * np.float32(1.5), near)
    return lit(canvas, rng)
