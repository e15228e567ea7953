"""Strokes: curves with a depth and a width, and how they are engraved into a map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palmforge.data.synthetic.silhouette import Raster


@dataclass(frozen=True)
class Stroke:
    """One crease in the hand frame.

    Attributes:
        points: [N, 2] along the crease.
        depth: [N] relative depth, 1 = a strong principal line.
        width: [N] standard deviation of the groove's profile, in hand units (0.01 is 0.85 mm).
    """

    points: np.ndarray
    depth: np.ndarray
    width: np.ndarray


def arc(start: np.ndarray, angle: float, length: float, curvature: float) -> np.ndarray:
    """Points [N, 2] of a circular arc, about 0.0045 apart."""
    count = max(6, int(length / 0.0045))
    step = length / count
    angles = angle + curvature * step * np.arange(count)
    return start + np.cumsum(step * np.stack([np.cos(angles), np.sin(angles)], axis=1), axis=0)


def resample(line: np.ndarray, spacing: float) -> np.ndarray:
    """The same curve with points about `spacing` apart."""
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = np.linspace(0, s[-1], max(8, int(s[-1] / spacing)))
    return np.stack([np.interp(at, s, line[:, 0]), np.interp(at, s, line[:, 1])], axis=1)


def shake(path: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Displace a path smoothly: skin has no perfect curves."""
    knots = max(3, len(path) // 14)
    t, at = np.linspace(0, 1, len(path)), np.linspace(0, 1, knots)
    return path + np.stack(
        [np.interp(t, at, rng.normal(0, amount, knots)) for _ in range(2)], axis=1
    )


def uneven(t: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Positive smooth random factor [N] around 1."""
    knots = max(4, len(t) // 12)
    wave = np.interp(t, np.linspace(0, 1, knots), rng.normal(0, amount, knots))
    return np.clip(1 + wave, 0.15, 1.7)


def taper(t: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 at both ends of t in [0, 1], 1 in between."""
    return np.clip(t / start, 0, 1) * np.clip((1 - t) / end, 0, 1)


def engrave(strokes: list[Stroke], raster: Raster) -> np.ndarray:
    """Press strokes into a map: at each texel the deepest Gaussian groove that covers it.

    Args:
        strokes: creases.
        raster: grid.

    Returns:
        [H, W] float32 >= 0, 1 at the bottom of a strong principal line.
    """
    rows, columns = raster.shape
    groove = np.zeros(rows * columns, np.float32)
    points = raster.texel(np.concatenate([s.points for s in strokes])).astype(np.float32)
    depth = np.concatenate([s.depth for s in strokes]).astype(np.float32)
    # A groove narrower than 0.6 texel cannot be drawn: it is drawn wider and shallower.
    sigma = np.concatenate([s.width for s in strokes]).astype(np.float32) * np.float32(
        raster.density
    )
    depth, sigma = depth * np.minimum(sigma / 0.6, 1), np.maximum(sigma, 0.6)
    reach = np.ceil(2.5 * sigma).astype(int)
    for radius in np.unique(reach):
        chosen = reach == radius
        offset = np.arange(-radius, radius + 1)
        near = np.rint(points[chosen]).astype(np.int64)
        x = near[:, 0, None] + offset
        y = near[:, 1, None] + offset
        gaussians = [
            np.exp(-0.5 * ((at - points[chosen][:, axis, None]) / sigma[chosen, None]) ** 2)
            for axis, at in enumerate((x, y))
        ]
        value = depth[chosen, None, None] * gaussians[1][:, :, None] * gaussians[0][:, None, :]
        inside = ((x >= 0) & (x < columns))[:, None, :] & ((y >= 0) & (y < rows))[:, :, None]
        where = y[:, :, None] * columns + x[:, None, :]
        np.maximum.at(groove, where[inside], value[inside].astype(np.float32))
    return groove.reshape(rows, columns)
