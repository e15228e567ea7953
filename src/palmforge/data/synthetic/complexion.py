"""The colour of one hand: skin tone, redness and its blotches, veins, calluses, marks."""

from __future__ import annotations

import cv2
import numpy as np

from palmforge.data.synthetic.anatomy import WRIST_Y, Hand
from palmforge.data.synthetic.silhouette import Raster
from palmforge.data.synthetic.streams import Stream, stream, truncated_normal
from palmforge.data.synthetic.strokes import SPACING, Stroke, arc, course, engrave, resample, shake

# Linear RGB reflectance of palms and of the skin on the back of the hand, from light to dark
# people. Palms keep little melanin: they span a smaller range.
_PALM = np.array(
    [[0.74, 0.49, 0.40], [0.67, 0.41, 0.30], [0.58, 0.34, 0.23], [0.47, 0.26, 0.17],
     [0.37, 0.20, 0.14], [0.28, 0.15, 0.11]]
)  # fmt: skip
_BACK = np.array(
    [[0.64, 0.39, 0.30], [0.54, 0.31, 0.21], [0.40, 0.21, 0.13], [0.24, 0.12, 0.07],
     [0.12, 0.06, 0.038], [0.06, 0.031, 0.020]]
)  # fmt: skip
# What one unit of blood takes from red, green and blue.
BLOOD = np.array([0.25, 1.0, 0.85], np.float32)
COARSE = Raster(64.0)  # blotches of 2 mm are the smallest; the grid is the same at every density


def tones(subject: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance of palm and of the back of the hand, shared by both hands of a person.

    Args:
        subject: index of the person.
        seed: seed of the data set.

    Returns:
        Palm [3] and back [3], linear RGB, float32.
    """
    rng = stream(seed, Stream.SUBJECT, subject, 1)
    stops = np.arange(len(_PALM))
    level = rng.uniform(0, len(_PALM) - 1)
    # Palms and backs do not go strictly together; carotene takes blue, thin skin shows blood.
    palm_level = np.clip(level + 0.5 * truncated_normal(rng), 0, len(_PALM) - 1)
    palm = np.array([np.interp(palm_level, stops, channel) for channel in _PALM.T])
    back = np.array([np.interp(level, stops, channel) for channel in _BACK.T])
    carotene, blood = np.abs(truncated_normal(rng)), truncated_normal(rng)
    tint = np.exp(np.array([0.0, -0.01, -0.07]) * carotene - 0.10 * blood * BLOOD)
    back = np.minimum(back * tint, 0.95 * palm * tint)  # a back is never paler than its palm
    return (palm * tint).astype(np.float32), back.astype(np.float32)


def colour_layers(hand: Hand, rng: np.random.Generator) -> np.ndarray:
    """Melanin and blood of smooth skin, on the coarse grid.

    Args:
        hand: anatomy.
        rng: the identity's generator.

    Returns:
        [h, w, 2] float32: melanin (0 palm, 1 back of the hand) and blood (log absorbance).
    """
    blotchy = float(np.exp(0.4 * truncated_normal(rng, limit=1.5)))
    blood = blotchy * _mottling(rng) + _flush(hand, rng)
    veins = _veins(rng)
    calluses = _calluses(hand, rng)
    # Veins are blue-green: they take red, and the skin over them looks short of blood.
    melanin = 0.16 * veins + 0.05 * calluses
    blood -= 0.13 * veins + 0.20 * calluses
    return np.stack([melanin, blood], axis=-1).astype(np.float32)


def _mottling(rng: np.random.Generator) -> np.ndarray:
    """Redness in blotches of 2 to 20 mm, with pale spots in it, [h, w]."""
    total = np.zeros(COARSE.shape, np.float32)
    for sigma, amount in ((1.0, 0.022), (2.6, 0.022), (9.0, 0.035)):
        noise = rng.standard_normal(total.shape, dtype=np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), sigma)
        total += smooth * np.float32(amount / smooth.std())
    spots = cv2.GaussianBlur(rng.standard_normal(total.shape, dtype=np.float32), (0, 0), 1.7)
    pale = np.maximum(spots / spots.std() - 0.9, 0)  # skewed: pale islands in red skin
    return total - np.float32(0.06 * rng.beta(1.0, 2.5)) * pale


def _flush(hand: Hand, rng: np.random.Generator) -> np.ndarray:
    """Red mounds and finger tips, pale hollow, [h, w]: differently strong in every hand."""
    x, y = COARSE.coordinates()
    spots = [((0.30, 0.74), 0.2, 0.16), ((-0.28, 0.78), 0.2, 0.16), ((0.0, 0.5), 0.22, -0.12)]
    spots += [(tuple(hand.joints[d, 3]), 0.10, 0.22) for d in range(5)]
    spots += [(tuple(hand.bases[d] + [0, 0.12]), 0.1, 0.10) for d in range(1, 5)]
    flush = np.zeros(COARSE.shape, np.float32)
    for (cx, cy), radius, amount in spots:
        squared = (x - float(cx)) ** 2 + (y - float(cy)) ** 2
        flush += float(amount * rng.uniform(0.2, 1.6)) * np.exp(-squared / (2 * radius**2))
    return flush


def _veins(rng: np.random.Generator) -> np.ndarray:
    """A few veins that branch upwards from the wrist, soft-edged, 0 to about 1, [h, w]."""
    strokes = []
    visible = rng.beta(1.2, 2.5)
    for _ in range(rng.integers(4, 9)):
        start = np.array([rng.uniform(-0.32, 0.36), rng.uniform(1.0, 1.6)])
        if rng.random() < 0.35:  # one over the thenar
            start = rng.normal([0.30, 0.75], [0.12, 0.15])
        length = rng.uniform(0.25, 0.7)
        path = arc(start, -np.pi / 2 + rng.normal(0, 0.4), length, rng.normal(0, 1.5))
        path = resample(shake(path, 0.03, rng, every=40))
        t = course(len(path))
        strength = visible * rng.uniform(0.4, 1.0) * np.minimum((1 - t) * 2, 1)
        strokes.append(Stroke(path, strength, rng.uniform(0.010, 0.020) * (1 - 0.4 * t)))
        fork = path[len(path) // 2]
        branch = arc(fork, -np.pi / 2 + rng.normal(0, 0.9), length / 2, rng.normal(0, 2.0))
        weaker = 0.5 * visible * (1 - course(len(branch)))
        strokes.append(Stroke(branch, weaker, np.full(len(branch), rng.uniform(0.007, 0.013))))
    veins = engrave(strokes, COARSE)
    _, y = COARSE.coordinates()
    deeper = np.clip((y - 0.35) / np.float32(0.7), 0.0, 1.0)  # thick palmar skin hides them
    return veins * (0.25 + 0.75 * deeper)


def _calluses(hand: Hand, rng: np.random.Generator) -> np.ndarray:
    """Yellowish pale pads below the fingers of hands that work, [h, w]."""
    x, y = COARSE.coordinates()
    worked = rng.beta(0.8, 2.2)
    pads = np.zeros(COARSE.shape, np.float32)
    for finger in range(1, 5):
        cx, cy = hand.bases[finger] + [rng.normal(0, 0.012), rng.uniform(0.05, 0.11)]
        wide, high = rng.uniform(0.035, 0.06), rng.uniform(0.02, 0.04)
        squared = ((x - float(cx)) / wide) ** 2 + ((y - float(cy)) / high) ** 2
        pads += float(worked * rng.uniform(0.2, 1.2)) * np.exp(-0.5 * squared)
    return pads


def edge_melanin(distance: np.ndarray, raster: Raster) -> np.ndarray:
    """Brown of the back of the hand [H, W]: it shows at the outline and below the wrist."""
    _, y = raster.coordinates()
    edge = cv2.exp(np.minimum(distance, 0) * np.float32(1 / 0.018))
    arm = 1 / (1 + np.exp(np.clip((WRIST_Y + 0.03 - y) / np.float32(0.035), -20, 20)))
    return np.maximum(np.float32(0.55) * edge, np.float32(0.55) * arm)


def marks(raster: Raster, rng: np.random.Generator) -> np.ndarray | None:
    """Scars (pale), moles, freckles and ink (dark): rare.

    Args:
        raster: grid.
        rng: the identity's generator.

    Returns:
        [H, W] float32 to add to melanin, negative in scars, or None for most hands.
    """
    strokes = []
    for _ in range(rng.poisson(0.35)):
        centre = rng.normal([0.0, 0.5], [0.25, 0.35])
        path = arc(centre, rng.uniform(0, np.pi), rng.uniform(0.03, 0.16), rng.normal(0, 3.0))
        t = course(len(path))
        depth = -rng.uniform(0.2, 0.6) * np.sin(np.pi * t) ** 0.5
        strokes.append(Stroke(path, depth, np.full(len(path), rng.uniform(0.003, 0.006))))
    dark = rng.poisson(0.12) + (rng.integers(2, 6) if rng.random() < 0.02 else 0)
    for _ in range(dark):  # a dot is a very short stroke
        width = rng.uniform(0.003, 0.007)
        path = rng.normal([0.0, 0.45], [0.25, 0.4]) + rng.normal(0, 0.3 * width, (4, 2))
        # Four points make a dot where a line has 2.5 widths' worth of them.
        depth = np.full(4, rng.uniform(0.4, 1.0) * np.sqrt(2 * np.pi) * width / (4 * SPACING))
        strokes.append(Stroke(path, depth, np.full(4, width)))
    return engrave(strokes, raster) if strokes else None
