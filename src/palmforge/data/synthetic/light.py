"""Light on skin: how skin answers the lamps and the sky, and what throws shadows on it."""

from __future__ import annotations

import cv2
import numpy as np

from palmforge.data.synthetic.lamps import Light, sample_light

__all__ = ["Light", "sample_light", "shade"]

# Light that enters skin comes out nearby, red farther than green and blue.
_WRAP = np.array([1.35, 0.85, 0.75])
# Between two fingers light bounces from skin to skin, and what is left is red.
_GAP = np.array([0.80, 1.0, 1.05])
_REACH = 0.35  # how far occlusion darkens direct light; the rest of it is the sky's


def shade(
    light: Light, normals: np.ndarray, occlusion: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Light that falls on the skin, and light that it mirrors.

    Args:
        light: light of the capture.
        normals: [H, W, 3] float32 unit normals in view space, z towards the camera.
        occlusion: [H, W] float32, share of the surroundings that a point sees, 1 = all.
        rng: the capture's generator, for shadows and the skin's finest relief.

    Returns:
        Irradiance [H, W, 3] (1 = facing a white light of strength 1) and mirrored light
        [H, W, 3], float32.
    """
    direct: np.ndarray = _diffuse(light, normals)
    share = np.c_[_REACH * _GAP, 1 - _REACH * _GAP]
    direct *= np.asarray(cv2.transform(occlusion, share))
    sky = cv2.transform(normals, _sky(light))
    sky *= np.asarray(cv2.transform(occlusion, np.c_[_GAP, 1 - _GAP]))
    height, width = occlusion.shape
    field = _field(light, height, width, rng)
    cut = _pattern(light, height, width, rng)
    if cut is not None:
        direct *= cv2.merge([cut] * 3)
        cut *= field
    direct += sky
    direct *= cv2.merge([field] * 3)
    mirrored = _mirrored(light, normals, field if cut is None else cut, rng)
    if light.rim > 0:
        mirrored += _grazing(light, normals)
    return direct, mirrored


def _diffuse(light: Light, normals: np.ndarray) -> np.ndarray:
    """Wrapped Lambert shading [H, W, 3] of all lamps."""
    wrap = light.wrap * _WRAP
    total = None
    for direction, strength, colour in zip(
        light.directions, light.strengths, light.colours, strict=True
    ):
        weight = strength * colour / (1 + wrap)
        lit = cv2.transform(normals, np.c_[np.outer(weight, direction), weight * wrap])
        np.maximum(lit, 0, out=lit)
        total = lit if total is None else cv2.add(total, lit, dst=total)
    assert total is not None
    return total


def _sky(light: Light) -> np.ndarray:
    """Matrix [3, 4] from (normal, 1) to the ambient light on it."""
    toward = 0.55 * light.lean + np.array([0.0, 0.0, 0.30])
    colour = light.ambient * light.ambient_colour
    return np.c_[np.outer(colour, toward), 0.70 * colour]


def _mirrored(
    light: Light, normals: np.ndarray, field: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Lamps mirrored by the skin [H, W, 3].

    A lobe exp(k (h·n − 1)) around the half-way vector h is Blinn and Phong's (h·n)^k to within a
    per cent, and one matrix and one exponential for all lamps.
    """
    sharpness = 2 / light.roughness**2
    halves = light.directions + np.array([0.0, 0.0, 1.0])
    halves /= np.maximum(np.linalg.norm(halves, axis=1, keepdims=True), 1e-3)
    # A lamp behind the hand is mirrored by its rim only.
    behind = np.clip(1 + 2 * light.directions[:, 2], 0, 1)
    lobes = cv2.transform(normals, np.c_[sharpness * halves, np.full(len(halves), -sharpness)])
    cv2.exp(lobes, dst=lobes)
    amount = light.shine * light.strengths * behind
    cv2.setRNGSeed(int(rng.integers(1, 2**31 - 1)))
    glitter: np.ndarray = np.empty(normals.shape[:2], np.float32)
    cv2.randn(glitter, 1.0, 0.35 if light.roughness > 0.22 else 0.6)  # type: ignore[call-overload]
    glitter = np.asarray(cv2.blur(np.maximum(glitter, 0, out=glitter), (2, 2)))
    glitter *= field
    lobes *= glitter if len(amount) == 1 else np.asarray(cv2.merge([glitter] * len(amount)))
    return cv2.transform(lobes, (amount[:, None] * light.colours).T)


def _grazing(light: Light, normals: np.ndarray) -> np.ndarray:
    """The surroundings, mirrored by skin seen from the side [H, W, 3] (Schlick)."""
    slant: np.ndarray = 1 - np.asarray(cv2.extractChannel(normals, 2))
    np.clip(slant, 0, 1, out=slant)
    slant *= slant
    slant *= slant
    colour = light.rim * (light.ambient * light.ambient_colour + 0.3 * light.main)
    return cv2.transform(slant, colour[:, None].astype(np.float64))


def _field(light: Light, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth change of brightness over the picture [H, W]: fall-off and soft shadows."""
    cells = 5 if max(height, width) > 220 else 3  # a ROI sees less of the shadows than a picture
    at = np.linspace(-1, 1, 16, dtype=np.float32)
    cx, cy = (float(c) for c in light.centre)
    squared = (at[None] - cx) ** 2 + (at[:, None] - cy) ** 2
    shadows = cv2.resize(
        rng.standard_normal((cells, cells), dtype=np.float32),
        (16, 16),
        interpolation=cv2.INTER_CUBIC,
    )
    coarse = np.exp(light.shadow * np.clip(shadows, -2, 1)) / (1 + light.falloff * squared)
    return cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)


def _pattern(light: Light, height: int, width: int, rng: np.random.Generator) -> np.ndarray | None:
    """What a shadow with edges leaves of direct light [H, W], or None where there is none."""
    if light.pattern == "none" or light.pattern_depth <= 0:
        return None
    rows, columns = max(8, height // 4), max(8, width // 4)
    y, x = np.linspace(-1, 1, rows, dtype=np.float32), np.linspace(-1, 1, columns, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    along = float(np.cos(angle)) * x[None] + float(np.sin(angle)) * y[:, None]
    level: np.ndarray
    if light.pattern == "edge":
        level = along - np.float32(rng.uniform(-0.6, 0.6))
    elif light.pattern == "blinds":
        pitch = rng.uniform(4, 14)
        level = (np.sin(np.float32(pitch) * along + np.float32(rng.uniform(0, 6))) + 0.2) / pitch
    else:
        cells = int(rng.integers(4, 12))
        clumps = rng.standard_normal((cells, cells), dtype=np.float32)
        level = cv2.resize(clumps, (columns, rows), interpolation=cv2.INTER_CUBIC) / cells
    lit = np.clip(0.5 + level / np.float32(light.pattern_softness), 0, 1)
    cut = (1 - np.float32(light.pattern_depth) * (1 - lit)).astype(np.float32)
    return cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR)
