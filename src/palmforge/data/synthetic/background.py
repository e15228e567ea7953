"""What is behind the hand, and the sleeve that some people wear."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

_SCALE = 2  # backgrounds are painted at half size: they are out of focus


def paint_background(rng: np.random.Generator, size: int) -> np.ndarray:
    """One background, of a kind drawn at random.

    Args:
        rng: the capture's generator.
        size: side of the picture.

    Returns:
        [size, size, 3] float32 linear RGB in [0, 1].
    """
    kinds: tuple[Callable[[np.random.Generator, int], np.ndarray], ...]
    kinds = (_wall, _wood, _cloth, _clutter)
    small = kinds[rng.choice(4, p=[0.35, 0.15, 0.2, 0.3])](rng, -(-size // _SCALE))
    return cv2.resize(np.clip(small, 0.004, 1), (size, size), interpolation=cv2.INTER_LINEAR)


def _colour(rng: np.random.Generator, saturation: float = 0.35) -> np.ndarray:
    """A linear RGB colour [3]: mostly dull, as rooms are."""
    value = rng.beta(1.3, 1.6)
    tint = rng.normal(0, saturation * rng.random(), 3)
    return np.clip(value**1.6 * np.exp(tint), 0.005, 0.95).astype(np.float32)


def _cloud(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise [size, size] of about unit variance with `cells` bumps a side."""
    coarse = rng.standard_normal((cells + 1, cells + 1), dtype=np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _wall(rng: np.random.Generator, size: int) -> np.ndarray:
    """A wall or a table: one colour, a gradient, stains and grain."""
    base = _colour(rng) * np.exp(rng.normal(0, 0.25) * _cloud(rng, size, 1))[..., None]
    grain = 0.05 * rng.random() * rng.standard_normal((size, size), dtype=np.float32)
    return base * np.exp(0.06 * _cloud(rng, size, 7) + grain)[..., None]


def _turned(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates [size, size] in a randomly turned frame, about 0..1."""
    angle = rng.uniform(0, np.pi)
    at = np.linspace(0, 1, size, dtype=np.float32)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return cos * at[None] + sin * at[:, None], cos * at[:, None] - sin * at[None]


def _wood(rng: np.random.Generator, size: int) -> np.ndarray:
    """Planks: stretched grain and dark joints."""
    u, v = _turned(rng, size)
    grain = rng.standard_normal(512).astype(np.float32)
    grain += 3 * np.convolve(rng.standard_normal(512), np.ones(12) / 12, "same").astype(np.float32)
    wavy = v + 0.015 * _cloud(rng, size, 4)
    row = (np.abs(wavy) * rng.uniform(150, 420)).astype(np.int32) % 512
    joint = np.abs((v * rng.uniform(2, 5)) % 1 - 0.5) > 0.492
    base = np.array([0.36, 0.20, 0.10], np.float32) * np.float32(np.exp(rng.normal(0, 0.5)))
    shade = np.exp(0.13 * grain[row] - 0.8 * joint + 0.1 * np.sin(6 * u))
    return base * np.exp(rng.normal(0, 0.12, 3)).astype(np.float32) * shade[..., None]


def _cloth(rng: np.random.Generator, size: int) -> np.ndarray:
    """Cloth: a weave or checks, with folds."""
    u, v = _turned(rng, size)
    pitch = rng.uniform(8, 45)
    pattern = (
        np.sin(2 * np.pi * pitch * u) * rng.random() + np.sin(2 * np.pi * pitch * v) * rng.random()
    )
    if rng.random() < 0.5:
        pattern = np.sign(pattern)
    first, second = _colour(rng, 0.5), _colour(rng, 0.5)
    mix = (0.5 + 0.2 * rng.random() * pattern)[..., None]
    folds = np.exp(0.18 * _cloud(rng, size, 4))[..., None]
    return cv2.GaussianBlur(
        (first * mix + second * (1 - mix)) * folds, (0, 0), rng.uniform(0.5, 1.5)
    )


def _clutter(rng: np.random.Generator, size: int) -> np.ndarray:
    """A room out of focus: things of all shapes, some of them lamps and windows."""
    image = _wall(rng, size)
    for _ in range(rng.integers(8, 30)):
        lamp = 2.0 if rng.random() < 0.12 else 1.0
        colour = [float(c) for c in _colour(rng, 0.6) * lamp]
        x, y = (int(v) for v in rng.integers(0, size, 2))
        w, h = (int(v) for v in rng.integers(size // 14, size // 2, 2))
        kind = rng.random()
        if kind < 0.5:
            box = cv2.boxPoints(((x, y), (w, h), float(rng.choice([0, rng.uniform(0, 90)]))))
            cv2.fillConvexPoly(image, box.astype(np.int32), colour)
        elif kind < 0.8:
            cv2.ellipse(
                image, (x, y), (w // 2, h // 3), float(rng.uniform(0, 180)), 0, 360, colour, -1
            )
        else:
            end = tuple(int(v) for v in rng.integers(0, size, 2))
            cv2.line(image, (x, y), end, colour, int(rng.integers(2, max(3, size // 24))))
    return cv2.GaussianBlur(image, (0, 0), size * rng.uniform(0.012, 0.05))


def sleeve(rng: np.random.Generator, where: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """A cuff over the forearm, for two pictures out of five.

    Args:
        rng: the capture's generator.
        where: [S, S, 2] hand-frame coordinates of the pixels.

    Returns:
        Coverage [S, S] in [0, 1] and colour [S, S, 3] (float32 linear RGB, shaded), or None.
    """
    wears, cuff = rng.random() < 0.4, rng.uniform(1.24, 1.60)
    half, colour = rng.uniform(0.42, 0.52), _colour(rng, 0.6)
    slant, weave, pitch = rng.normal(0, 0.06), 0.12 * rng.random(), rng.uniform(60, 160)
    if not wears:
        return None
    x, y = where[..., 0], where[..., 1]
    edge = y - np.float32(cuff) - np.float32(slant) * x + 0.02 * np.sin(5 * x)
    side = np.float32(half) - np.abs(x - np.float32(0.01)) + np.float32(0.08) * edge
    coverage = np.clip(100 * np.minimum(edge, side), 0, 1)
    round_ = np.sqrt(np.clip(side / np.float32(half), 0.02, 1))
    threads = 1 + np.float32(weave) * np.sin(np.float32(pitch) * y) * np.sin(np.float32(pitch) * x)
    hem = 1 - 0.35 * np.exp(-np.square(edge - 0.05) * 8000)
    return coverage, colour * (round_ * threads * hem)[..., None]
