"""How near captures of a palm come to what was asked for, and how different they look.

A dial asks for a similarity m; a recogniser says which cosine came of it. Captures of one palm are
no independent draws, so intervals come from resampled palms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palmforge.metrics.scores import ArrayLike, Floats, as_distances, as_numpy


@dataclass(frozen=True)
class Achieved:
    """What came of one request.

    Attributes:
        asked: m.
        mean: Of the similarities achieved.
        deviation: Their standard deviation (of the sample); NaN of a single one.
        low: Their 5th percentile.
        high: Their 95th.
        count: Captures.
    """

    asked: float
    mean: float
    deviation: float
    low: float
    high: float
    count: int


class Correlation(NamedTuple):
    """Spearman's ρ with its 95 % interval; NaN where one side never changes."""

    value: float
    low: float
    high: float


def achieved_by_asked(asked: ArrayLike, achieved: ArrayLike) -> list[Achieved]:
    """Mean and spread of what was achieved, for each value that was asked, ascending.

    Args:
        asked: [N] m of each capture.
        achieved: [N] similarity to its palm, by a recogniser.

    Raises:
        ValueError: Lengths that differ; NaN or infinity.
    """
    wanted, found = _pair(asked, achieved)
    rows = []
    for m in np.unique(wanted):
        own = found[wanted == m]
        low, high = np.quantile(own, (0.05, 0.95))
        deviation = float(own.std(ddof=1)) if own.size > 1 else float("nan")
        rows.append(
            Achieved(float(m), float(own.mean()), deviation, float(low), float(high), own.size)
        )
    return rows


def rank_correlation(
    asked: ArrayLike,
    achieved: ArrayLike,
    palms: NDArray[np.integer],
    resamples: int = 1000,
    seed: int = 0,
) -> Correlation:
    """Spearman's ρ of what was asked and what was achieved, over all captures.

    Args:
        asked: [N] m of each capture.
        achieved: [N] similarity to its palm.
        palms: [N] which palm it is of: these are resampled.
        resamples: For the interval; 0: none.
        seed: Of the resamples.

    Raises:
        ValueError: Lengths that differ; NaN or infinity.
    """
    wanted, found = _pair(asked, achieved)
    who = np.asarray(palms)
    if who.shape != wanted.shape:
        raise ValueError(f"{wanted.size} captures, but palms of {who.size}")
    value = _spearman(wanted, found)
    if not resamples or np.isnan(value):
        return Correlation(value, float("nan"), float("nan"))
    order = np.argsort(who, kind="stable")
    groups = np.split(order, np.unique(who[order], return_index=True)[1][1:])
    rng = np.random.default_rng([seed, 0xD1A1])
    drawn = []
    for _ in range(resamples):
        rows = np.concatenate([groups[at] for at in rng.integers(len(groups), size=len(groups))])
        drawn.append(_spearman(wanted[rows], found[rows]))
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return Correlation(value, float(low), float(high))


def picture_spread(images: Tensor, palms: NDArray[np.integer]) -> float:
    """How different captures of a palm look: mean absolute difference of their pixels.

    Over all pairs of captures of one palm, each palm counting the same. Light and colour change it
    as lines do: it says that captures differ, not in what.

    Args:
        images: [N, 3, H, W] uint8.
        palms: [N] which palm each is of.

    Returns:
        In grey levels, 0 … 255; NaN if no palm has two captures.

    Raises:
        ValueError: Not uint8, or lengths that differ.
    """
    who = np.asarray(palms)
    if images.dtype != torch.uint8 or who.shape != images.shape[:1]:
        raise ValueError(f"images {list(images.shape)} {images.dtype} and palms {list(who.shape)}")
    spreads = []
    for palm in np.unique(who):
        own = images[torch.from_numpy(np.flatnonzero(who == palm))].flatten(1).short()
        if len(own) > 1:
            # One row at a time: all pairs of ten captures of 512 pixels would be 150 MB.
            apart = [
                (own[row + 1 :] - own[row]).abs().double().mean(1) for row in range(len(own) - 1)
            ]
            spreads.append(float(torch.cat(apart).mean()))
    return float(np.mean(spreads)) if spreads else float("nan")


def _pair(asked: ArrayLike, achieved: ArrayLike) -> tuple[Floats, Floats]:
    wanted = as_distances(as_numpy(asked), "asked")
    found = as_distances(as_numpy(achieved), "achieved")
    if wanted.size != found.size:
        raise ValueError(f"{wanted.size} were asked for, {found.size} were achieved")
    return wanted, found


def _spearman(asked: Floats, achieved: Floats) -> float:
    from scipy.stats import spearmanr

    if asked.size < 2 or not np.ptp(asked) or not np.ptp(achieved):
        return float("nan")
    return float(spearmanr(asked, achieved).statistic)
