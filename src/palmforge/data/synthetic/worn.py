"""What people wear on their hands: sleeves, watches and bracelets, rings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palmforge.data.synthetic.anatomy import Hand

# Linear RGB of gold, silver, steel, rose gold, black.
_METALS = np.array(
    [[0.75, 0.50, 0.18], [0.70, 0.70, 0.68], [0.40, 0.41, 0.43], [0.70, 0.40, 0.32], [0.03] * 3]
)


@dataclass(frozen=True)
class Band:
    """Something around a digit or the wrist.

    Attributes:
        digit: 0..4 for thumb to little finger, -1 for the wrist.
        start: where it begins: share of the digit's visible length, or y in the hand frame.
        width: in the same units.
        colour: [3] linear RGB.
        shine: strength of its specular reflection against skin's.
    """

    digit: int
    start: float
    width: float
    colour: np.ndarray
    shine: float


@dataclass(frozen=True)
class Worn:
    """All that is worn in one capture.

    Attributes:
        cuff: where the sleeve begins, y in the hand frame; 9 when the arm is bare.
        slant: how much the cuff's edge leans, dy / dx.
        girth: how much wider than the arm the sleeve is.
        cloth: [3] linear RGB of the sleeve.
        weave: contrast of its threads.
        pitch: threads per hand unit, times 2π.
        bands: watch or bracelet, and rings.
    """

    cuff: float
    slant: float
    girth: float
    cloth: np.ndarray
    weave: float
    pitch: float
    bands: tuple[Band, ...]


def sample_worn(rng: np.random.Generator, wild: bool) -> Worn:
    """What is worn in one capture: a sleeve in two pictures of five; rings and watches if wild."""
    sleeved = rng.random() < (0.5 if wild else 0.4)
    cuff = rng.uniform(1.30, 1.85) if sleeved else 9.0
    slant, girth = rng.normal(0, 0.08), rng.uniform(0.08, 0.55)
    cloth = _cloth(rng)
    weave, pitch = 0.15 * rng.random(), rng.uniform(60, 200)
    bands = []
    if wild and rng.random() < 0.22:
        metal = rng.random() < 0.5
        colour = _METALS[rng.integers(5)] if metal else _cloth(rng)
        bands.append(
            Band(-1, rng.uniform(1.30, 1.45), rng.uniform(0.02, 0.26), colour, 4.0 * metal)
        )
    if wild and rng.random() < 0.22:
        for _ in range(rng.integers(1, 4)):
            digit = int(rng.choice([0, 1, 2, 3, 4], p=[0.1, 0.2, 0.2, 0.38, 0.12]))
            bands.append(
                Band(digit, rng.uniform(0.02, 0.22), rng.uniform(0.03, 0.08),
                     _METALS[rng.integers(5)], rng.uniform(2, 8))
            )  # fmt: skip
    return Worn(float(cuff), float(slant), float(girth), cloth, weave, pitch, tuple(bands))


def _cloth(rng: np.random.Generator) -> np.ndarray:
    """A colour [3] that clothes have: often dark, white or blue."""
    value = rng.beta(0.8, 1.3)
    return np.clip(value**1.6 * np.exp(rng.normal(0, 0.5 * rng.random(), 3)), 0.006, 0.9)


def swell(worn: Worn, xy: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make room for a sleeve around the arm, and let the arm run out of every picture.

    Args:
        worn: what is worn.
        xy: [N, 2] places of the hand's surface at rest.
        z: [N] heights.

    Returns:
        The same, further out where the sleeve is.
    """
    beyond = np.clip((xy[:, 1] - worn.cuff - worn.slant * xy[:, 0]) / 0.03, 0, 1)
    wider = 1 + beyond * worn.girth * (1 + 0.25 * np.clip(xy[:, 1] - worn.cuff, 0, 1.5))
    elbow = xy[:, 1] + 2.6 * np.clip((xy[:, 1] - 2.2) / 1.2, 0, 1)
    return np.column_stack([xy[:, 0] * wider, elbow]), z * (1 + 1.4 * (wider - 1))


def cover(worn: Worn, hand: Hand, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What of the surface is covered, and with what.

    Args:
        worn: what is worn.
        hand: anatomy.
        place: [N, 2] places of the surface in the hand frame.

    Returns:
        Covered [N] bool, colour [N, 3] linear RGB and shine [N] against skin's; both only mean
        something where it is covered.
    """
    x, y = place[:, 0], place[:, 1]
    colour = np.zeros((len(place), 3), np.float32)
    shine = np.zeros(len(place), np.float32)
    covered = np.zeros(len(place), bool)
    for band in worn.bands:
        if band.digit < 0:
            along = y - 0.03 * x
            inside = (along > band.start) & (along < band.start + band.width)
        else:
            offset = place - hand.bases[band.digit]
            forward = hand.directions[band.digit]
            along = offset @ forward / hand.lengths[band.digit]
            aside = np.abs(offset @ np.array([-forward[1], forward[0]]))
            inside = (along > band.start) & (along < band.start + band.width)
            inside &= aside < 1.3 * hand.half_widths[band.digit].max()
        # A band is round: its edges turn away from the light.
        across = (along[inside] - band.start) / band.width
        colour[inside] = band.colour * (0.35 + 0.65 * np.sin(np.pi * across))[:, None]
        shine[inside] = band.shine
        covered |= inside
    edge = y - worn.cuff - worn.slant * x
    sleeve = edge > 0.012
    threads = 1 + worn.weave * np.sin(worn.pitch * y[sleeve]) * np.sin(worn.pitch * x[sleeve])
    hem = 1 - 0.35 * np.exp(-np.square(edge[sleeve] - 0.07) * 8000)
    folds = 1 + 0.12 * np.sin(9 * y[sleeve] + 3 * np.sin(4 * x[sleeve]))
    colour[sleeve] = worn.cloth * (threads * hem * folds)[:, None]
    shine[sleeve] = 0.0
    return covered | sleeve, colour, shine
