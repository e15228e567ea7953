"""Surfaces without things on them: noise, walls, wood, cloth, foliage. Linear RGB."""

from __future__ import annotations

import cv2
import numpy as np

# The darkest and the lightest skin that other people's faces and arms have, linear RGB.
_SKIN = np.log(np.array([[0.085, 0.040, 0.024], [0.30, 0.165, 0.10], [0.68, 0.44, 0.33]]))


def colour(rng: np.random.Generator, saturation: float = 0.35) -> np.ndarray:
    """A linear RGB colour [3]: mostly dull, as rooms are."""
    value = rng.beta(1.3, 1.6)
    tint = rng.normal(0, saturation * rng.random(), 3)
    return np.clip(value**1.6 * np.exp(tint), 0.005, 0.95).astype(np.float32)


def skin_colour(rng: np.random.Generator) -> np.ndarray:
    """Colour [3] of somebody's skin."""
    tone = rng.uniform(0, 2)
    low = min(int(tone), 1)
    mixed = _SKIN[low] + (tone - low) * (_SKIN[low + 1] - _SKIN[low])
    return np.exp(mixed + 0.08 * rng.standard_normal(3)).astype(np.float32)


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """White normal noise [H, W] float32, four times as fast as NumPy's."""
    cv2.setRNGSeed(int(rng.integers(1, 2**31 - 1)))  # of this thread
    out: np.ndarray = np.empty((height, width), np.float32)
    cv2.randn(out, 0.0, 1.0)  # type: ignore[call-overload]
    return out


def cloud(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise [H, W] of about unit variance with `cells` bumps along the longer side."""
    longer = max(height, width)
    rows, columns = (max(2, round(cells * side / longer) + 1) for side in (height, width))
    coarse = rng.standard_normal((rows, columns), dtype=np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def fractal(
    rng: np.random.Generator, height: int, width: int, cells: float, gain: float
) -> np.ndarray:
    """Noise [H, W] of several octaves and about unit variance, from `cells` bumps upwards.

    Args:
        rng: the capture's generator.
        height: rows.
        width: columns.
        cells: bumps of the coarsest octave along the longer side.
        gain: how strong each octave is against the one before: 0.3 clouds, 0.9 sand.

    Returns:
        [H, W] float32.
    """
    total, strength, power = np.zeros((height, width), np.float32), 1.0, 0.0
    while cells < max(height, width):
        octave = cloud(rng, height, width, round(cells))
        cv2.scaleAdd(octave, strength, total, dst=total)
        power += strength**2
        strength, cells = strength * gain, cells * 2.2
    return total * np.float32(1 / np.sqrt(max(power, 1e-6)))


def turned(
    rng: np.random.Generator, height: int, width: int, upright: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates [H, W] in a turned frame, 1 = the longer side; `upright`: share of unturned."""
    angle = 0.0 if rng.random() < upright else rng.uniform(0, np.pi)
    unit = 1 / max(height, width)
    x = np.arange(width, dtype=np.float32) * np.float32(unit)
    y = np.arange(height, dtype=np.float32) * np.float32(unit)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return cos * x[None] + sin * y[:, None], cos * y[:, None] - sin * x[None]


def tinted(base: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """One colour [3] in the tones [H, W] (logarithms): [H, W, 3]."""
    return cv2.transform(cv2.exp(tone), np.asarray(base, np.float64)[:, None])


def wall(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A wall or a table: one colour, a gradient, stains and grain."""
    tone = np.float32(rng.normal(0, 0.25)) * cloud(rng, height, width, 1)
    tone += np.float32(0.06) * cloud(rng, height, width, 7)
    cv2.scaleAdd(noise(rng, height, width), 0.05 * rng.random(), tone, dst=tone)
    return tinted(colour(rng), tone)


def plain(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Black, white, grey or coloured, with a gradient: studios, walls, coloured paper."""
    kind = rng.random()
    if kind < 0.25:
        base = np.full(3, rng.uniform(0.001, 0.02))
    elif kind < 0.50:
        base = np.full(3, rng.uniform(0.55, 1.0)) * np.exp(0.03 * rng.standard_normal(3))
    elif kind < 0.65:
        base = np.full(3, rng.uniform(0.05, 0.5)) * np.exp(0.05 * rng.standard_normal(3))
    elif kind < 0.75:
        base = skin_colour(rng)
    else:
        base = np.exp(rng.normal(-1.5, 1.0, 3))
    u, v = turned(rng, height, width)
    slope, bowl = rng.normal(0, 0.5), abs(rng.normal(0, 0.5)) * (rng.random() < 0.4)
    tone = np.float32(slope) * u - np.float32(bowl) * (np.square(u - 0.5) + np.square(v - 0.3))
    cv2.scaleAdd(noise(rng, height, width), 0.02 * rng.random(), tone, dst=tone)
    return tinted(base, tone)


def surface(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Plaster, concrete, stone, sand, carpet, leather, water."""
    tone = fractal(rng, height, width, rng.uniform(1.5, 30), rng.uniform(0.4, 0.95))
    depth = rng.uniform(0.05, 0.6)
    if rng.random() < 0.4:  # veins, cracks, wrinkles: where the noise changes sign
        tone = 1.5 * np.exp(-np.abs(tone) * np.float32(rng.uniform(3, 9))) * rng.choice([-1, 1])
        tone = tone.astype(np.float32)
    if rng.random() < 0.35:  # raised, and lit from one side
        tone = cv2.Sobel(tone, cv2.CV_32F, 1, int(rng.random() < 0.3), ksize=3) * np.float32(0.7)
    base, other = colour(rng, 0.6), colour(rng, 0.6)
    if rng.random() < 0.6:
        return tinted(base, np.float32(depth) * tone)
    mix = np.clip(0.5 + 0.4 * tone, 0, 1)
    return cv2.transform(mix, np.c_[base - other, other].astype(np.float64))


def wood(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Planks: stretched grain and dark joints."""
    u, v = turned(rng, height, width, upright=0.4)
    grain = rng.standard_normal(512).astype(np.float32)
    grain += 3 * np.convolve(rng.standard_normal(512), np.ones(12) / 12, "same").astype(np.float32)
    wavy = v + np.float32(0.015) * cloud(rng, height, width, 4)
    row = (np.abs(wavy) * np.float32(rng.uniform(150, 420))).astype(np.int32) % 512
    pitch = np.float32(rng.uniform(2, 5))
    joint = np.abs((v * pitch) % 1 - np.float32(0.5)) > 0.492
    tone = np.float32(0.13) * np.take(grain, row) + np.float32(0.1) * np.sin(6 * u)
    tone -= np.float32(0.8) * joint
    base = np.array([0.36, 0.20, 0.10]) * np.exp(rng.normal(0, 0.5) + rng.normal(0, 0.12, 3))
    return tinted(base, tone.astype(np.float32))


def cloth(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Cloth: a weave, stripes or checks, with folds."""
    u, v = turned(rng, height, width)
    bend = np.float32(0.01) * cloud(rng, height, width, 5)
    pitch = np.float32(2 * np.pi * np.exp(rng.uniform(np.log(4), np.log(60))))
    across, along = rng.random(), rng.random() * (rng.random() < 0.6)
    pattern = np.sin(pitch * (u + bend)) * np.float32(across)
    if along:
        pattern += np.sin(pitch * (v - bend)) * np.float32(along)
    if rng.random() < 0.5:
        pattern = np.clip(pattern * np.float32(8), -1, 1)
    mix = np.float32(0.5) + np.float32(0.5 * rng.random()) * pattern
    first, second = colour(rng, 0.5), colour(rng, 0.5)
    if rng.random() < 0.1:
        second = skin_colour(rng)
    image = cv2.transform(mix, np.c_[first - second, second].astype(np.float64))
    folds = fractal(rng, height, width, rng.uniform(2, 5), 0.45)
    folds *= np.float32(rng.uniform(0.05, 0.4))
    cv2.scaleAdd(noise(rng, height, width), 0.08 * rng.random(), folds, dst=folds)
    image *= cv2.merge([cv2.exp(folds)] * 3)
    return image
