"""Light on skin: shading from the height of the hand, fall-off, soft shadows, shine."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from palmforge.data.synthetic.streams import truncated_normal


@dataclass(frozen=True)
class Light:
    """The light of one capture.

    Attributes:
        direction: [3] unit vector towards the main light: x right, y down, z to the camera.
        main: strength of the main light.
        ambient: strength of the light from everywhere.
        lean: [2] how much the ambient light prefers one side.
        colour: [3] linear RGB, mean 1.
        shine: strength of the specular reflection.
        falloff: how quickly the light weakens away from `centre`, per squared half picture.
        centre: [2] brightest point of the picture, in half pictures from the middle.
        shadow: depth of the soft shadows that people and things around cast.
        background: brightness of the background against the hand.
    """

    direction: np.ndarray
    main: float
    ambient: float
    lean: np.ndarray
    colour: np.ndarray
    shine: float
    falloff: float
    centre: np.ndarray
    shadow: float
    background: float


def sample_light(rng: np.random.Generator, flash: bool) -> Light:
    """Light of one capture: the phone's flash, or whatever lights the room."""
    if flash:
        direction = np.array([*(0.13 * truncated_normal(rng, 2)), 1.0])
        main, ambient = rng.uniform(0.72, 0.95), rng.uniform(0.10, 0.30)
        shine, falloff, shadow = rng.uniform(0.03, 0.13), rng.uniform(0.12, 0.40), 0.04
        warmth, background = rng.normal(0.0, 0.025), rng.uniform(0.25, 0.8)
    else:
        azimuth, elevation = rng.normal(-np.pi / 2, 1.1), np.deg2rad(rng.uniform(28, 65))
        flat = np.cos(elevation)
        direction = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
        main, ambient = rng.uniform(0.45, 0.85), rng.uniform(0.25, 0.55)
        shine, falloff, shadow = (
            rng.uniform(0.0, 0.05),
            rng.uniform(0.0, 0.10),
            rng.uniform(0.05, 0.28),
        )
        warmth, background = rng.normal(0.02, 0.05), rng.uniform(0.7, 1.15)
    colour = np.exp([warmth, 0.02 * rng.standard_normal(), -warmth])
    return Light(
        direction=direction / np.linalg.norm(direction),
        main=main,
        ambient=ambient,
        lean=0.12 * truncated_normal(rng, 2),
        colour=(colour / colour.mean()).astype(np.float32),
        shine=shine,
        falloff=falloff,
        centre=0.35 * truncated_normal(rng, 2),
        shadow=shadow,
        background=background,
    )


def shade(
    light: Light, height: np.ndarray, distance: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Light that falls on the skin, and light that it mirrors.

    Args:
        light: light of the capture.
        height: [S, S] float32 height of the skin in pixels.
        distance: [S, S] float32 signed distance to the outline in hand units, negative inside.
        rng: the capture's generator, for the soft shadows.

    Returns:
        Irradiance [S, S] (1 = facing the light) and mirrored light [S, S], float32.
    """
    size = len(height)
    across = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    down = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    upright = 1 / np.sqrt(1 + across * across + down * down)
    lx, ly, lz = (float(v) for v in light.direction)
    facing = (lz - lx * across - ly * down) * upright
    # Light wraps a little around skin, because it travels inside it.
    diffuse = np.maximum((facing + 0.12) / 1.12, 0)
    sky = 0.45 + (0.55 - float(light.lean[0]) * across - float(light.lean[1]) * down) * upright
    # The gaps between fingers and the rim of the hand see less of the room.
    occlusion = 1 - 0.45 * np.exp(np.minimum(distance, 0) * np.float32(1 / 0.022))
    field = _field(light, size, rng)
    irradiance = (light.main * diffuse + light.ambient * sky * occlusion) * field
    # Blinn-Phong with the eye straight ahead; the exponent is that of dry skin, wide and weak.
    hx, hy, hz = (float(v) for v in _half_way(light.direction))
    mirrored = np.maximum((hz - hx * across - hy * down) * upright, 0)
    for _ in range(4):  # ** 16
        mirrored *= mirrored
    return irradiance, np.float32(light.shine * light.main) * mirrored * field


def _half_way(direction: np.ndarray) -> np.ndarray:
    """Unit vector [3] half-way between the light and the camera."""
    half = direction + np.array([0.0, 0.0, 1.0])
    return half / np.linalg.norm(half)


def _field(light: Light, size: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth change of brightness over the picture [S, S]: fall-off and soft shadows."""
    at = np.linspace(-1, 1, 16, dtype=np.float32)
    cx, cy = (float(c) for c in light.centre)
    squared = (at[None] - cx) ** 2 + (at[:, None] - cy) ** 2
    shadows = cv2.resize(
        rng.standard_normal((5, 5), dtype=np.float32), (16, 16), interpolation=cv2.INTER_CUBIC
    )
    coarse = np.exp(light.shadow * np.clip(shadows, -2, 1)) / (1 + light.falloff * squared)
    return cv2.resize(coarse.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
