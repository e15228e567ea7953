"""Strokes: curves with a depth and a width, and how they are pressed into a map."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from palmforge.data.synthetic.silhouette import Raster

SPACING = 0.003  # hand units (0.25 mm) between the points of a stroke
# Grooves are drawn in few widths; one in between is a mixture of its two neighbours.
_WIDTHS = 0.0015 * 1.75 ** np.arange(6)
_DEEPEST = 1.35  # crossing creases add up, but skin is only so thick


@dataclass(frozen=True)
class Stroke:
    """One crease in the hand frame, or several one after the other.

    Attributes:
        points: [N, 2] along the crease, `SPACING` apart.
        depth: [N] relative depth, 1 = a strong principal line.
        width: [N] standard deviation of the groove's profile, in hand units (0.01 is 0.85 mm).
        fold: how much of `depth` is added again when the hand closes, or [N] of it.
    """

    points: np.ndarray
    depth: np.ndarray
    width: np.ndarray
    fold: float | np.ndarray = 0.0


@lru_cache(maxsize=4096)
def course(count: int) -> np.ndarray:
    """`count` equal steps from 0 to 1, read-only: every stroke needs them, most of them twice."""
    t = np.arange(count) / max(count - 1, 1)
    t.setflags(write=False)
    return t


def arc(start: np.ndarray, angle: float, length: float, curvature: float) -> np.ndarray:
    """Points [N, 2] of a circular arc, `SPACING` apart."""
    count = max(6, int(length / SPACING))
    step = length / count
    angles = angle + curvature * step * np.arange(count)
    return start + np.cumsum(step * np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)


def bezier(*control: tuple[float, float] | np.ndarray) -> np.ndarray:
    """Bezier curve [N, 2] of three or four control points, `SPACING` apart."""
    t = course(33)[:, None]
    points = [np.asarray(p, dtype=float)[None] for p in control]
    curves = [np.repeat(p, len(t), axis=0) for p in points]
    while len(curves) > 1:
        curves = [(1 - t) * a + t * b for a, b in pairwise(curves)]
    return resample(curves[0])


def resample(line: np.ndarray, spacing: float = SPACING) -> np.ndarray:
    """The same curve with points about `spacing` apart."""
    s = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    at = s[-1] * course(max(8, int(s[-1] / spacing)))
    return np.stack([np.interp(at, s, line[:, 0]), np.interp(at, s, line[:, 1])], axis=1)


def shake(path: np.ndarray, amount: float, rng: np.random.Generator, every: int = 20) -> np.ndarray:
    """Displace a path smoothly: skin has no perfect curves."""
    knots = max(3, len(path) // every)
    t, at = course(len(path)), course(knots)
    x, y = rng.normal(0, amount, (2, knots))
    return path + np.stack([np.interp(t, at, x), np.interp(t, at, y)], axis=1)


def aside(path: np.ndarray, distance: float | np.ndarray) -> np.ndarray:
    """The path moved sideways by `distance` [N] (to the right of its course on the raster)."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.hypot(*tangent.T)[:, None] + 1e-9
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    return path + normal * np.broadcast_to(distance, len(path))[:, None]


def uneven(t: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Positive smooth random factor [N] around 1."""
    knots = max(4, len(t) // 16)
    wave = np.interp(t, course(knots), rng.normal(0, amount, knots))
    return np.minimum(np.maximum(1 + wave, 0.15), 1.7)


def taper(t: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 at both ends of t in [0, 1], 1 in between."""
    return np.minimum(t / start, 1) * np.minimum((1 - t) / end, 1)


def engrave(strokes: list[Stroke], raster: Raster) -> np.ndarray:
    """Press strokes into a map.

    Args:
        strokes: creases.
        raster: grid.

    Returns:
        [H, W] float32 >= 0, 1 at the bottom of a strong principal line, at most 1.35.
    """
    points, depth, width = (
        np.concatenate([getattr(s, name) for s in strokes]) for name in ("points", "depth", "width")
    )
    return press(points, depth, width, raster)


def folds(strokes: list[Stroke], raster: Raster) -> np.ndarray:
    """How much deeper each place becomes when the hand closes, [H, W] float32, as `engrave`."""
    folding = [s for s in strokes if np.any(s.fold)]
    points = np.concatenate([s.points for s in folding])
    depth = np.concatenate([s.fold * s.depth for s in folding])
    return press(points, depth, np.concatenate([s.width for s in folding]), raster)


def press(points: np.ndarray, depth: np.ndarray, width: np.ndarray, raster: Raster) -> np.ndarray:
    """Sum of Gaussian grooves, drawn as points and blurred once per class of widths.

    The cost is one blur per class and hardly grows with the number of grooves (9 ms for 21,000
    points on a whole hand at 297 texels a unit, against 15 ms for drawing every Gaussian).

    Args:
        points: [N, 2] in the hand frame, `SPACING` apart along each groove.
        depth: [N] depth of the groove.
        width: [N] standard deviation of its profile, in hand units.
        raster: grid.

    Returns:
        [H, W] float32; depths add up where grooves meet, up to 1.35.
    """
    rows, columns = raster.shape
    margin = math.ceil(3 * _WIDTHS[-1] * raster.density)  # grooves that reach in from outside
    high, wide = rows + 2 * margin, columns + 2 * margin
    x, y = (raster.texel(points) + margin).T
    inside = (x >= 0) & (y >= 0) & (x < wide - 1) & (y < high - 1) & (depth != 0)
    x, y, depth = x[inside], y[inside], depth[inside]
    rank = np.log(width[inside] / _WIDTHS[0]) / math.log(_WIDTHS[1] / _WIDTHS[0])
    rank = np.clip(rank, 0, len(_WIDTHS) - 1)
    total = np.zeros((high, wide), np.float32)
    for k, sigma in enumerate(_WIDTHS * raster.density):
        share = np.maximum(1 - np.abs(rank - k), 0)
        chosen = share > 0
        if not chosen.any():
            continue
        # A line of density d per texel, blurred, is d / (sqrt(2 pi) sigma) deep.
        ink = (share * depth)[chosen] * (math.sqrt(2 * math.pi) * sigma * SPACING * raster.density)
        canvas = _dabs(x[chosen], y[chosen], ink, (high, wide))
        # Drawing between texels has blurred by 1/6 texel² already; less than 0.45 would bead.
        blur = math.sqrt(max(sigma**2 - 1 / 6, 0.45**2))
        size = 2 * math.ceil(3 * blur) + 1
        total += cv2.GaussianBlur(canvas, (size, size), blur)
    total = total[margin : margin + rows, margin : margin + columns]
    return np.float32(_DEEPEST) * np.tanh(total * np.float32(1 / _DEEPEST))


def _dabs(x: np.ndarray, y: np.ndarray, ink: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Points with weights, each spread over its four texels, [H, W] float32."""
    column, row = x.astype(np.int64), y.astype(np.int64)
    right, below = x - column, y - row
    first = row * shape[1] + column
    where = np.concatenate([first, first + 1, first + shape[1], first + shape[1] + 1])
    parts = [(1 - right) * (1 - below), right * (1 - below), (1 - right) * below, right * below]
    weight = np.concatenate([ink * part for part in parts])
    canvas = np.bincount(where, weight, minlength=shape[0] * shape[1])
    return canvas.astype(np.float32).reshape(shape)
