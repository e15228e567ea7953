"""The skin of one identity: all that a camera could see of it, painted once in the hand frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from palmforge.data.synthetic.anatomy import Hand, build_hand
from palmforge.data.synthetic.complexion import (
    COARSE,
    colour_layers,
    edge_melanin,
    marks,
    tones,
)
from palmforge.data.synthetic.creases import palm_creases
from palmforge.data.synthetic.silhouette import BOX, Raster, keypoints14, relief, signed_distance
from palmforge.data.synthetic.streams import Stream, stream, truncated_normal
from palmforge.data.synthetic.strokes import engrave, folds

# The outline is smooth at 1.4 mm: this grid says it all, and is the same at every density, so that
# key points, creases and their places do not depend on the size of the picture.
_SHAPE = Raster(160.0)
_GRAIN = Raster(250.0)  # lattice of the finest noise, 0.34 mm
_RIDGE_PERIOD = 0.0056  # 0.48 mm
_GROOVE_DEPTH = 0.0058  # 0.5 mm at depth 1
_DRYNESS = (1.2, 3.0)  # of the beta distribution


@dataclass(frozen=True, eq=False)  # hashed by identity: its arrays are large
class Skin:
    """One hand, ready to be photographed.

    Attributes:
        hand: anatomy.
        raster: grid of `distance` and `layers`.
        keypoints14: [14, 2] in the hand frame.
        distance: [H, W] float32 signed distance to the outline, hand units, < 0 inside.
        relief_raster: grid of `relief`: coarser, and always the whole hand.
        relief: [h, w] float32 height of mounds and round digits, hand units; no creases.
        layers: [H, W, 4] float32: fold (how much deeper a place creases when the hand closes, 0 to
            1), detail (height of grooves, hairs, ridges, hand units, mean about 0), melanin (0 =
            palm, 1 = back of the hand, creases in between), blood (log absorbance).
        palm: [3] linear RGB reflectance of the palm.
        back: [3] linear RGB reflectance of the back of the hand.
        gloss: how much the skin shines, 1 = average; dry hands less.
    """

    hand: Hand
    raster: Raster
    keypoints14: np.ndarray
    distance: np.ndarray
    relief_raster: Raster
    relief: np.ndarray
    layers: np.ndarray
    palm: np.ndarray
    back: np.ndarray
    gloss: float

    def reduced(self, level: int) -> np.ndarray:
        """`layers` [H / 2**level, W / 2**level, 4], smoothed, for pictures with fewer pixels."""
        return _reduced(self, level)


@lru_cache(maxsize=8)
def _reduced(skin: Skin, level: int) -> np.ndarray:
    return skin.layers if level == 0 else cv2.pyrDown(_reduced(skin, level - 1))


@lru_cache(maxsize=4)
def paint_skin(
    identity: int,
    seed: int,
    density: float,
    box: tuple[float, float, float, float] | None = None,
) -> Skin:
    """Paint one identity.

    Cached, because all captures of an identity share it.

    Args:
        identity: index of the palm; `identity // 2` is the person.
        seed: seed of the data set.
        density: texels per hand unit.
        box: left, top, right, bottom of the part of the hand frame to paint, inside
            :data:`~palmforge.data.synthetic.silhouette.BOX`; all of it when None. What is painted
            does not depend on it: a part equals the same part of the whole.

    Returns:
        The skin. Do not write into its arrays.
    """
    subject = identity // 2
    hand, canvas = build_hand(subject, identity, seed), _canvas(density, box)
    shape_distance = signed_distance(hand, _SHAPE)
    points = keypoints14(hand, shape_distance, _SHAPE)
    texture = stream(seed, Stream.TEXTURE, identity)
    wrinkled = _wrinkledness(subject, texture, seed)
    dry = float(texture.beta(*_DRYNESS))

    strong, fine = palm_creases(hand, points, stream(seed, Stream.LINES, identity), wrinkled)
    grooves, hairs = engrave(strong, canvas), engrave(fine, canvas)
    fold = folds(strong, canvas)
    np.minimum(fold, 1, out=fold)
    grain = _grain(canvas, texture)
    distance = canvas.sample(shape_distance, _SHAPE)
    colour = canvas.sample(colour_layers(hand, texture), COARSE, cubic=True)
    red, brown = texture.uniform(0.05, 0.50), texture.uniform(0.15, 0.45)  # of its creases

    detail = np.float32(-_GROOVE_DEPTH) * grooves - np.float32(0.0034) * hairs
    detail += np.float32(0.00020 * (0.6 + 1.2 * dry)) * grain
    # Skin is heaped up a little beside a groove, which also brings the mean back to 0.
    detail -= cv2.GaussianBlur(detail, (0, 0), 0.016 * density, borderType=cv2.BORDER_REPLICATE)
    dark = grooves + np.float32(0.45) * hairs
    melanin = edge_melanin(distance, canvas) + colour[..., 0] + np.float32(brown) * dark
    if (marked := marks(canvas, texture)) is not None:
        melanin += marked
    blood = colour[..., 1] + np.float32(red) * dark
    blood -= np.float32(0.008 + 0.03 * dry) * grain  # raised and dry skin is pale
    layers = cv2.merge([fold, detail, melanin, blood])
    palm, back = tones(subject, seed)
    return Skin(
        hand, canvas, points, distance, _SHAPE, relief(hand, shape_distance, _SHAPE), layers,
        palm, back, gloss=float(1.5 - 1.2 * dry),
    )  # fmt: skip


@lru_cache(maxsize=8)
def describe_palm(identity: int, seed: int) -> dict[str, float]:
    """What was drawn for an identity, in numbers, without painting it.

    Args:
        identity: index of the palm.
        seed: seed of the data set.

    Returns:
        Reflectances of palm and back (linear RGB), wrinkledness (-2 to 2), gloss (1 = average), the
        digits' lengths and half widths (hand units) and the relief of the palm, by dotted names.
    """
    hand = build_hand(identity // 2, identity, seed)
    texture = stream(seed, Stream.TEXTURE, identity)
    wrinkled = _wrinkledness(identity // 2, texture, seed)
    palm, back = tones(identity // 2, seed)
    rows = {
        "skin.palm": palm, "skin.back": back, "hand.lengths": hand.lengths,
        "hand.half_widths": hand.half_widths.max(axis=1), "hand.relief": hand.relief,
    }  # fmt: skip
    numbers = {f"{name}.{k}": float(v) for name, row in rows.items() for k, v in enumerate(row)}
    gloss = 1.5 - 1.2 * float(texture.beta(*_DRYNESS))
    return {"skin.wrinkled": wrinkled, "skin.gloss": gloss, **numbers}


def _canvas(density: float, box: tuple[float, float, float, float] | None) -> Raster:
    """The box, moved outwards to whole texels, so that a part has the texels of the whole."""
    if box is None:
        return Raster(density)
    left, top, right, bottom = box
    if not (BOX[0] <= left < right <= BOX[2] and BOX[1] <= top < bottom <= BOX[3]):
        raise ValueError(f"box must be left < right, top < bottom inside {BOX}, got {box}")
    low = np.floor((np.array([left, top]) - BOX[:2]) * density + 1e-6)
    high = np.ceil((np.array([right, bottom]) - BOX[:2]) * density - 1e-6)
    (left, top), (right, bottom) = low / density + BOX[:2], high / density + BOX[:2]
    return Raster(density, (float(left), float(top), float(right), float(bottom)))


def _wrinkledness(subject: int, own: np.random.Generator, seed: int) -> float:
    """How wrinkled a hand is, -2 to 2: age and skin of the person, a little of its own."""
    person = stream(seed, Stream.SUBJECT, subject, 2)
    return float(0.9 * truncated_normal(person) + 0.45 * truncated_normal(own))


def _grain(canvas: Raster, rng: np.random.Generator) -> np.ndarray:
    """Friction ridges as a camera sees them, about unit variance, [H, W].

    Ridges run 0.5 mm apart: at ordinary picture sizes they are below the resolution, and what is
    left of them is noise that runs in streaks. Where a canvas resolves them, they are drawn.
    """
    # Uniform noise will do, at a fifth of the time: the kernels below make it normal.
    noise = rng.random(_GRAIN.shape, dtype=np.float32) - np.float32(0.5)
    weights = rng.random((5, 6, 3), dtype=np.float32) ** 4
    weights /= weights.max(axis=2, keepdims=True)
    waves = rng.normal(0, 1, (2, 4)), rng.uniform(0, 6.28, 4)
    left, top = (np.floor(_GRAIN.texel(np.array(canvas.box[:2]))).astype(int) - 8).clip(0)
    right, bottom = np.ceil(_GRAIN.texel(np.array(canvas.box[2:]))).astype(int) + 8
    part = (slice(top, bottom), slice(left, right))
    weight = cv2.resize(weights, _GRAIN.shape[::-1])[part]
    streaks = np.zeros_like(weight[..., 0])
    for k, angle in enumerate((20.0, 80.0, 140.0)):  # each rules where its weight is high
        streaks = streaks + weight[..., k] * cv2.filter2D(noise[part], -1, _streak_kernel(angle))
    offset = np.array([left, top]) / _GRAIN.density + BOX[:2]
    here = Raster(_GRAIN.density, (*offset, offset[0] + 9, offset[1] + 9))
    grain = canvas.sample(streaks, here, cubic=True)  # linear would leave a moiré
    # Averaging over a texel takes from a wave what it takes from its contrast.
    seen = float(np.exp(-2 * (np.pi * 0.4 / (canvas.density * _RIDGE_PERIOD)) ** 2))
    if canvas.density * _RIDGE_PERIOD > 2.4:
        grain += np.float32(0.9 * seen) * _ridges(canvas, *waves)
    return grain


def _streak_kernel(degrees: float) -> np.ndarray:
    """Band-pass kernel [9, 9] that turns white noise into streaks of about unit variance."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    x, y = np.meshgrid(np.arange(-4, 5), np.arange(-4, 5))
    along, across = cos * x + sin * y, -sin * x + cos * y
    kernel = np.exp(-(along**2) / 12 - across**2 / 2.2) * np.cos(2 * np.pi * across / 3.1)
    kernel -= kernel.mean()
    return (5.9 * kernel / np.linalg.norm(kernel)).astype(np.float32)


def _ridges(canvas: Raster, vectors: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Ridges as level lines of a smooth slope across the palm, [H, W], -1 to 1."""
    x, y = COARSE.coordinates()
    # From the thenar they run round the thumb's base, further up across the palm.
    slope = np.hypot(x - 0.55, 0.8 * (y - 0.75)) + 0.25 * (y - 0.3)
    for (kx, ky), phase in zip(vectors.T, phases, strict=True):
        slope = slope + 0.012 * np.sin(5 * float(kx) * x + 5 * float(ky) * y + float(phase))
    fine = canvas.sample(slope.astype(np.float32), COARSE, cubic=True)
    return np.cos(fine * np.float32(2 * np.pi / _RIDGE_PERIOD))
