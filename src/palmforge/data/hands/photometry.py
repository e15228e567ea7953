"""What a camera, a screen and a codec do to a picture of a hand; nothing here moves a point."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from palmforge.data.synthetic.background import paint_background

NUM_BACKGROUNDS = 192
_BACKGROUND_SIZE = 256
_NOISE_SIZE = 1 << 20
_GREY = np.array([[0.299, 0.587, 0.114]] * 3, np.float32)


@lru_cache(maxsize=NUM_BACKGROUNDS)
def _background(number: int) -> np.ndarray:
    """Painted once a process: `[256, 256, 3]` uint8."""
    rng, size = np.random.default_rng([number, 0xBAC]), _BACKGROUND_SIZE
    linear, _ = paint_background(rng, size, size, "wild")
    return np.rint(255 * np.clip(linear, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Something that is no hand: `[size, size, 3]` uint8."""
    if rng.random() < 0.25:  # bars of a letterbox, a studio's black or white
        grey = rng.choice([0.0, 255.0, rng.uniform(0, 255)])
        colour = np.full(3, grey) if rng.random() < 0.7 else rng.uniform(0, 255, 3)
        return np.broadcast_to(colour.astype(np.uint8), (size, size, 3)).copy()
    whole = _background(int(rng.integers(NUM_BACKGROUNDS)))
    side = int(rng.integers(_BACKGROUND_SIZE // 4, _BACKGROUND_SIZE))
    x, y = rng.integers(0, _BACKGROUND_SIZE - side, 2)
    part = cv2.resize(whole[y : y + side, x : x + side], (size, size))
    part = cv2.flip(part, int(rng.integers(-1, 2))) if rng.random() < 0.75 else part
    return part.transpose(1, 0, 2).copy() if rng.random() < 0.5 else part


def degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another camera's picture of the same: `[H, W, 3]` uint8 → the same shape.

    Resolution, blur, colour, patches over it, noise, JPEG; each with a chance of its own, so that
    plain pictures occur as well.
    """
    if rng.random() < 0.25:
        image = _lose_resolution(image, rng)
    if rng.random() < 0.25:
        image = _blur(image, rng)
    if rng.random() < 0.85:
        image = _recolour(image, rng)
    if rng.random() < 0.2:
        image = _erase(image, rng)
    if rng.random() < 0.35:
        image = _add_noise(image, rng)
    if rng.random() < 0.35:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(12, 90))]
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR))
    return image


def _lose_resolution(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    scale = rng.uniform(0.25, 0.9)
    small = cv2.resize(
        image, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.6:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2.0))
    length = int(rng.integers(3, 9))
    kernel = np.zeros((length, length), np.float32)
    angle, middle = rng.uniform(0, np.pi), (length - 1) / 2
    way = middle * np.array([np.cos(angle), np.sin(angle)])
    start, end = np.rint(middle - way).astype(int), np.rint(middle + way).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def _recolour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mixes channels (hue, saturation, grey), then a tone curve for each."""
    kind = rng.random()
    if kind < 0.12:
        image = cv2.transform(image, _GREY)
    elif kind < 0.5:
        saturation = rng.uniform(0.3, 1.6)
        mixing = saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * _GREY
        mixing += rng.normal(0, 0.05, (3, 3)).astype(np.float32)
        image = cv2.transform(image, mixing.astype(np.float32))
    level = np.linspace(0, 1, 256)[:, None]
    gain = np.exp(rng.normal(0, 0.1, 3) + rng.normal(0, 0.2))
    curve = gain * level ** np.exp(rng.normal(0, 0.3) + rng.normal(0, 0.05, 3))
    curve = 0.5 + (curve - 0.5) * np.exp(rng.normal(0, 0.15)) + rng.normal(0, 0.04)
    table = np.clip(np.rint(255 * curve), 0, 255).astype(np.uint8)
    return cv2.LUT(image, table.reshape(1, 256, 3))


def _erase(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Covers up to three rectangles: a ring, a pen, a caption, a finger before the lens."""
    image = image.copy()
    height, width = image.shape[:2]
    for _ in range(rng.integers(1, 4)):
        w, h = (rng.uniform(0.03, 0.25, 2) * (width, height)).astype(int) + 1
        x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
        if rng.random() < 0.5:
            image[y : y + h, x : x + w] = rng.integers(0, 256, 3, dtype=np.uint8)
        else:  # a piece from elsewhere, skin perhaps
            u, v = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
            image[y : y + h, x : x + w] = image[v : v + h, u : u + w].copy()
    return image


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    """A million normal numbers × 32: drawing 110,000 anew would take 1.5 ms a view."""
    numbers = np.random.default_rng(0x4015E).standard_normal(_NOISE_SIZE, np.float32)
    return np.clip(32 * numbers, -127, 127).astype(np.int16)


def _add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    count = image.size if rng.random() < 0.6 else image.size // 3
    start = int(rng.integers(0, _NOISE_SIZE - count))
    grain = _noise()[start : start + count].reshape(*image.shape[:2], -1)
    if grain.shape[2] == 1:
        grain = cv2.merge([grain] * 3)
    strength = rng.uniform(1, 14) / 32
    return cv2.addWeighted(image, 1.0, grain, strength, 0.0, dtype=cv2.CV_8U)
