"""What is behind the hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from palmforge.data.synthetic import bystanders, scenery, texture

Painter = Callable[[np.random.Generator, int, int], np.ndarray]


@dataclass(frozen=True)
class Background:
    """What was painted.

    Attributes:
        kind: such as "wood"; two kinds joined by "+" where one ends and another begins.
        colour: [R, G, B] mean, linear.
        blur: standard deviation of the blur, as a share of the longer side.
    """

    kind: str
    colour: tuple[float, float, float]
    blur: float


class _Kind(NamedTuple):
    """How often a kind is chosen, how it is painted, how often it is sharp and how blurred else."""

    share: float
    paint: Painter
    sharp: float
    blur: tuple[float, float]


_XJTU = {
    "wall": _Kind(0.35, texture.wall, 0.0, (0.002, 0.002)),
    "wood": _Kind(0.15, texture.wood, 0.0, (0.002, 0.002)),
    "cloth": _Kind(0.20, texture.cloth, 0.0, (0.002, 0.006)),
    "clutter": _Kind(0.30, scenery.clutter, 0.0, (0.012, 0.05)),
}
_WILD = {
    "plain": _Kind(0.15, texture.plain, 0.5, (0.002, 0.03)),
    "surface": _Kind(0.07, texture.surface, 0.6, (0.002, 0.03)),
    "wood": _Kind(0.08, texture.wood, 0.6, (0.002, 0.015)),
    "cloth": _Kind(0.09, texture.cloth, 0.7, (0.002, 0.02)),
    "clutter": _Kind(0.13, scenery.clutter, 0.4, (0.003, 0.05)),
    "bokeh": _Kind(0.03, scenery.bokeh, 0.3, (0.002, 0.01)),
    "shelves": _Kind(0.06, scenery.shelves, 0.5, (0.003, 0.03)),
    "grid": _Kind(0.06, scenery.grid, 0.6, (0.003, 0.03)),
    "print": _Kind(0.07, scenery.print_, 0.6, (0.002, 0.02)),
    "foliage": _Kind(0.05, scenery.foliage, 0.5, (0.003, 0.04)),
    "outdoors": _Kind(0.05, scenery.outdoors, 0.3, (0.003, 0.04)),
    "room": _Kind(0.06, scenery.room, 0.3, (0.003, 0.04)),
    "people": _Kind(0.06, bystanders.people, 0.3, (0.004, 0.03)),
    "hands": _Kind(0.02, bystanders.blurred_hands, 0.0, (0.006, 0.025)),
}
_JOINED = 0.22  # of the wild: a table in front of a wall, a sheet of paper on a table, …


def paint_background(
    rng: np.random.Generator, height: int, width: int, preset: str
) -> tuple[np.ndarray, Background]:
    """One background, of a kind drawn at random.

    Args:
        rng: the capture's generator.
        height: rows of the picture.
        width: columns of the picture.
        preset: "wild": anything, sharp or not; an XJTU-UP code: what is behind hands in a room,
            out of focus.

    Returns:
        [H, W, 3] float32 linear RGB, about 0..1 (lamps more), and what it is.
    """
    kinds = _WILD if preset == "wild" else _XJTU
    image, name, blur = _paint_one(kinds, rng, height, width)
    if preset == "wild" and rng.random() < _JOINED:
        other, other_name, other_blur = _paint_one(kinds, rng, height, width)
        image = _join(image, other, rng)
        name, blur = f"{name}+{other_name}", max(blur, other_blur)
    np.maximum(image, np.float32(0.001), out=image)
    red, green, blue = (float(v) for v in image[::8, ::8].reshape(-1, 3).mean(0))
    return image, Background(name, (red, green, blue), float(blur))


def _paint_one(
    kinds: dict[str, _Kind], rng: np.random.Generator, height: int, width: int
) -> tuple[np.ndarray, str, float]:
    """A picture [H, W, 3] of one kind, its name, its blur."""
    shares = np.array([kind.share for kind in kinds.values()])
    name = list(kinds)[int(rng.choice(len(kinds), p=shares / shares.sum()))]
    kind = kinds[name]
    least, most = kind.blur
    sharp, blur = rng.random() < kind.sharp, np.exp(rng.uniform(np.log(least), np.log(most)))
    if sharp:
        return kind.paint(rng, height, width), name, 0.0
    # What is out of focus is painted small.
    sigma = float(blur) * max(height, width)
    scale = 1 if sigma < 1.2 else 2 if sigma < 5 else 4
    small = kind.paint(rng, max(16, -(-height // scale)), max(16, -(-width // scale)))
    small = cv2.GaussianBlur(small, (0, 0), max(0.4, sigma / scale))
    if scale > 1:
        small = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return small, name, float(blur)


def _join(image: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two pictures [H, W, 3], the second beyond an edge, with a shadow along it."""
    height, width = image.shape[:2]
    longer = max(height, width)
    x = np.arange(width, dtype=np.float32)[None] / np.float32(longer)
    y = np.arange(height, dtype=np.float32)[:, None] / np.float32(longer)
    angle = rng.normal(-np.pi / 2, 0.15) if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
    level = rng.normal(0, 0.2) + float(np.cos(angle)) * (x - 0.5) + float(np.sin(angle)) * (y - 0.5)
    mask = cv2.merge([np.clip(level * np.float32(longer / rng.uniform(1, 4)), 0, 1)] * 3)
    shadow = 1 - np.float32(rng.uniform(0, 0.6)) * np.exp(-np.abs(level) * np.float32(40))
    mixed = image + mask * (other - image)
    mixed *= cv2.merge([shadow.astype(np.float32)] * 3)
    return mixed
