"""The skin of one identity: all that a camera could see of it, painted once in the hand frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from palmforge.data.synthetic.anatomy import WRIST_Y, Hand, build_hand
from palmforge.data.synthetic.creases import palm_creases
from palmforge.data.synthetic.silhouette import Raster, keypoints14, relief, signed_distance
from palmforge.data.synthetic.streams import Stream, stream, truncated_normal
from palmforge.data.synthetic.strokes import engrave

# Linear RGB reflectance of palms and of the skin on the back of the hand, from light to dark
# people. Palms keep little melanin: they span a smaller range.
_PALM = np.array([[0.72, 0.46, 0.36], [0.63, 0.37, 0.26], [0.50, 0.28, 0.19], [0.37, 0.20, 0.14]])
_BACK = np.array([[0.62, 0.36, 0.26], [0.48, 0.26, 0.16], [0.25, 0.12, 0.07], [0.07, 0.035, 0.022]])
# What one unit of blood takes from red, green and blue.
BLOOD = np.array([0.25, 1.0, 0.85], np.float32)

_NOISE_ROWS, _NOISE_COLUMNS = 720, 528  # lattice of the finest noise; the same at every density


@dataclass(frozen=True)
class Skin:
    """One hand, ready to be photographed.

    Attributes:
        hand: anatomy.
        raster: grid of `layers`.
        keypoints14: [14, 2] in the hand frame.
        layers: [H, W, 4] float32: signed distance (hand units, < 0 inside), height (hand units),
            melanin (0 = palm, 1 = back of the hand, creases in between), blood (log absorbance).
        palm: [3] linear RGB reflectance of the palm.
        back: [3] linear RGB reflectance of the back of the hand.
    """

    hand: Hand
    raster: Raster
    keypoints14: np.ndarray
    layers: np.ndarray
    palm: np.ndarray
    back: np.ndarray


@lru_cache(maxsize=4)
def paint_skin(identity: int, seed: int, density: float) -> Skin:
    """Paint one identity.

    Cached, because all captures of an identity share it: 46 ms for pictures of 384 pixels, against
    30 ms a capture.

    Args:
        identity: index of the palm; `identity // 2` is the person.
        seed: seed of the data set.
        density: texels per hand unit.

    Returns:
        The skin. Do not write into its arrays.
    """
    subject = identity // 2
    hand, raster = build_hand(subject, identity, seed), Raster(density)
    distance = signed_distance(hand, raster)
    points = keypoints14(hand, distance, raster)
    strong, fine = palm_creases(hand, points, stream(seed, Stream.LINES, identity))
    grooves, hairs = engrave(strong, raster), engrave(fine, raster)
    texture = stream(seed, Stream.TEXTURE, identity)
    ridges = _ridges(raster, texture)

    height = relief(hand, distance, raster)
    # Grooves are 0.5 mm deep, with skin heaped up a little at their sides.
    height -= 0.0058 * grooves + 0.0024 * hairs + 0.00045 * ridges
    height += 0.0020 * raster.blur(grooves, 0.016)
    melanin = _melanin(distance, raster) + 0.34 * grooves + 0.13 * hairs
    blood = _blood(hand, raster, texture) + 0.42 * grooves + 0.20 * hairs + 0.022 * ridges
    palm, back = _tones(subject, seed)
    layers = np.stack([distance, height, melanin, blood], axis=-1).astype(np.float32)
    return Skin(hand, raster, points, layers, palm, back)


def _tones(subject: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance [3] of palm and back, shared by both hands of a person."""
    rng = stream(seed, Stream.SUBJECT, subject, 1)
    level = rng.uniform(0, len(_PALM) - 1)
    tint = np.exp([0.0, 0.05, 0.08] * truncated_normal(rng, 3))
    stops = np.arange(len(_PALM))
    palm = np.array([np.interp(level, stops, _PALM[:, c]) for c in range(3)])
    back = np.array([np.interp(level, stops, _BACK[:, c]) for c in range(3)])
    return (palm * tint).astype(np.float32), (back * tint).astype(np.float32)


def _melanin(distance: np.ndarray, raster: Raster) -> np.ndarray:
    """Brown of the back of the hand [H, W]: it shows at the outline and below the wrist."""
    _, y = raster.coordinates()
    edge = np.exp(np.minimum(distance, 0) / np.float32(0.018))
    arm = 1 / (1 + np.exp(np.clip((WRIST_Y + 0.03 - y) / np.float32(0.035), -20, 20)))
    return np.maximum(0.55 * edge, 0.55 * arm)


def _blood(hand: Hand, raster: Raster, rng: np.random.Generator) -> np.ndarray:
    """Redness [H, W]: mottling at three scales, pale hollow, red mounds and finger tips."""
    mottling = np.zeros((_NOISE_ROWS // 4, _NOISE_COLUMNS // 4), np.float32)
    # Scales in coarse texels: 0.016 hand units each, so blotches of 2, 5 and 16 mm.
    for sigma, amount in ((1.2, 0.06), (3.2, 0.06), (11.0, 0.08)):
        noise = cv2.GaussianBlur(
            rng.standard_normal(mottling.shape, dtype=np.float32), (0, 0), sigma
        )
        mottling += np.float32(amount / noise.std()) * noise
    coarse = Raster(mottling.shape[0] / 2.87)
    x, y = coarse.coordinates()
    flush = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    spots = [((0.30, 0.74), 0.2, 0.16), ((-0.28, 0.78), 0.2, 0.16), ((0.0, 0.5), 0.22, -0.12)]
    spots += [(tuple(hand.joints[d, 3]), 0.10, 0.22) for d in range(5)]
    spots += [(tuple(hand.bases[d] + [0, 0.12]), 0.1, 0.08) for d in range(1, 5)]
    for (cx, cy), radius, amount in spots:
        flush += float(amount * rng.uniform(0.4, 1.4)) * np.exp(
            -((x - float(cx)) ** 2 + (y - float(cy)) ** 2) / (2 * radius**2)
        )
    return raster.enlarge(mottling) + raster.enlarge(flush)


def _ridges(raster: Raster, rng: np.random.Generator) -> np.ndarray:
    """Friction ridges [H, W], unit variance: noise that runs in streaks, period about 0.8 mm.

    At ordinary picture sizes a camera does not resolve ridges; what it sees of them is this grain.
    """
    noise = rng.standard_normal((_NOISE_ROWS, _NOISE_COLUMNS), dtype=np.float32)
    mixture = np.zeros_like(noise)
    for angle in (20.0, 80.0, 140.0):  # each direction rules where its weight is high
        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        at = np.arange(-4, 5)
        x, y = np.meshgrid(at, at)
        along, across = cos * x + sin * y, -sin * x + cos * y
        kernel = np.exp(-(along**2) / 12 - across**2 / 3) * np.cos(2 * np.pi * across / 3.2)
        weight = cv2.resize(rng.random((6, 4), dtype=np.float32), noise.shape[::-1])
        mixture += weight**2 * cv2.filter2D(noise, -1, (kernel - kernel.mean()).astype(np.float32))
    return raster.enlarge(mixture / mixture.std())
