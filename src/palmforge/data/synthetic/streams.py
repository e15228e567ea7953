"""Random streams: every number is a pure function of (seed, what it is, whose it is)."""

from __future__ import annotations

import zlib
from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a random stream is drawn for. The numbers are part of the format: never reuse one."""

    SUBJECT = 1  # skin tone and build, shared by both hands of a person
    HAND = 2  # how one hand departs from the subject's build
    LINES = 3  # creases
    TEXTURE = 4  # mottling and ridges
    POSE = 5
    LIGHT = 6
    BACKGROUND = 7
    CAMERA = 8
    VIEWPOINT = 9
    WORN = 10
    SKIN = 13  # what comes and goes: blush and blotches
    NOISE = 11  # of the sensor, and of shadows
    FRAME = 12  # of a ROI: resolution, and how far a localiser missed it


def stream(seed: int, tag: Stream, *keys: int | str) -> np.random.Generator:
    """Open the generator that belongs to one purpose and one owner.

    Identity streams are keyed by the identity alone, capture streams by (identity, capture,
    preset), so neither depends on the order in which pictures are made or on the process that
    makes them.

    Args:
        seed: seed of the whole data set, >= 0.
        tag: purpose of the stream.
        *keys: non-negative integers or names.

    Returns:
        A fresh generator at the start of its stream.
    """
    words = [zlib.crc32(key.encode()) if isinstance(key, str) else int(key) for key in keys]
    return np.random.default_rng([int(seed), int(tag), *words])


def truncated_normal(
    rng: np.random.Generator, size: int | tuple[int, ...] | None = None, limit: float = 2.2
) -> np.ndarray:
    """Standard normal numbers clipped to ±limit: anatomy and photographers have no long tails."""
    return np.clip(rng.standard_normal(size), -limit, limit)
