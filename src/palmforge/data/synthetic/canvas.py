"""A canvas to draw things on, and the light that falls on them.

Things are drawn with OpenCV on bytes that hold the root of the light, as files do, together with a
map of how near each thing is; :func:`lit` makes shadows, grain and an uneven light from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

from palmforge.data.synthetic import texture

Point = Sequence[float] | np.ndarray


def _ink(colour: np.ndarray) -> list[float]:
    """Bytes [3] of a linear colour [3]."""
    return [float(v) for v in 255 * np.sqrt(np.clip(colour, 0, 1))]


class Canvas:
    """A picture [H, W, 3] of bytes, and the nearness [H, W] of what is on it.

    Colours are linear RGB [3], `near` is 0..255, places are (x, y) in pixels.
    """

    def __init__(self, background: np.ndarray) -> None:
        root = cv2.sqrt(np.clip(background, 0, 1))
        self.image = cv2.convertScaleAbs(root, alpha=255)
        self.near: np.ndarray = np.zeros(background.shape[:2], np.uint8)

    def _both(self, draw: Callable, colour: np.ndarray, near: int, *args: Any) -> None:
        ink = _ink(colour)
        draw(self.image, *args[:-1], ink, args[-1], cv2.LINE_AA)
        draw(self.near, *args[:-1], float(near), args[-1])

    def polygon(self, points: np.ndarray, colour: np.ndarray, near: int) -> None:
        """A filled polygon with corners [N, 2]."""
        corners = np.rint(points).astype(np.int32)
        ink = _ink(colour)
        cv2.fillPoly(self.image, [corners], ink, cv2.LINE_AA)
        cv2.fillPoly(self.near, [corners], float(near))

    def box(self, x: float, y: float, w: float, h: float, colour: np.ndarray, near: int) -> None:
        """A filled upright rectangle with its upper left corner at (x, y)."""
        ink = _ink(colour)
        at, to = (round(x), round(y)), (round(x + w) - 1, round(y + h) - 1)
        cv2.rectangle(self.image, at, to, ink, -1)
        cv2.rectangle(self.near, at, to, float(near), -1)

    def ellipse(
        self,
        at: Point,
        axes: Point,
        angle: float,
        colour: np.ndarray,
        near: int,
    ) -> None:
        """A filled ellipse with half axes `axes`, turned by `angle` degrees."""
        middle = (round(at[0]), round(at[1]))
        half = (max(1, round(axes[0])), max(1, round(axes[1])))
        self._both(cv2.ellipse, colour, near, middle, half, float(angle), 0, 360, -1)

    def line(self, a: Point, b: Point, colour: np.ndarray, width: float, near: int) -> None:
        """A line with round ends."""
        ends = (round(a[0]), round(a[1])), (round(b[0]), round(b[1]))
        self._both(cv2.line, colour, near, *ends, max(1, round(width)))

    def text(
        self, word: str, at: Point, colour: np.ndarray, scale: float, bold: int, font: int
    ) -> None:
        """A word that begins at `at`."""
        ink = _ink(colour)
        where = (round(at[0]), round(at[1]))
        cv2.putText(self.image, word, where, font, scale, ink, bold, cv2.LINE_AA)


def lit(canvas: Canvas, rng: np.random.Generator, relief: float = 1.0) -> np.ndarray:
    """Linear light [H, W, 3] of a canvas: nearer things throw shadows; all have grain."""
    height, width = canvas.near.shape[:2]
    longer = max(height, width)
    half = (max(2, width // 2), max(2, height // 2))
    near = cv2.resize(canvas.near, half, interpolation=cv2.INTER_AREA).astype(np.float32)
    shift = rng.normal(0, 0.012, 2) * longer / 2
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    moved = cv2.warpAffine(near, matrix, half, borderMode=cv2.BORDER_REPLICATE)
    around = cv2.GaussianBlur(moved, (0, 0), longer / 2 * rng.uniform(0.006, 0.03))
    tone = np.maximum(around - near, 0) * np.float32(-relief * rng.uniform(0.006, 0.02))
    tone += np.float32(rng.uniform(0.05, 0.35)) * texture.cloud(rng, half[1], half[0], 3)
    if rng.random() < 0.4:  # some things are of wood, stone or fur
        amount = (0.35 * rng.random(256) ** 2).astype(np.float32)
        amount[0] *= 0.3  # what lies behind everything
        stains = texture.fractal(rng, half[1], half[0], rng.uniform(4, 25), 0.8)
        tone += stains * cv2.LUT(near.astype(np.uint8), amount)
    tone = cv2.resize(tone, (width, height), interpolation=cv2.INTER_LINEAR)
    # Every nearness has a roughness of its own: smooth plastic, grainy stone.
    amount = (0.12 * rng.random(256) ** 2).astype(np.float32)
    grain = texture.noise(rng, height, width)
    if rng.random() < 0.5:
        grain = cv2.blur(grain, (3, 3)) * np.float32(2)
    grain *= cv2.LUT(canvas.near, amount)
    tone += grain
    image = np.square(canvas.image.astype(np.float32) * np.float32(1 / 255))
    image *= cv2.merge([cv2.exp(tone)] * 3)
    return image


def nearness(rng: np.random.Generator) -> int:
    """How near a thing is: above whatever is behind everything."""
    return int(rng.integers(20, 255))


def tilted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Seen at an angle: turned, and smaller on one side."""
    if rng.random() < 0.3:
        return image
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    middle, angle = corners.mean(0), np.deg2rad(rng.normal(0, 14))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    moved = middle + 1.35 * (corners - middle) @ turn
    moved += rng.normal(0, 0.08, (4, 2)) * max(height, width)
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    return cv2.warpPerspective(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
