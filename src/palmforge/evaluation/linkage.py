"""Can de-identified pictures of one hand be told to be of one hand? Gomez-Barrero et al. 2018.

A method that hides whose palm it was may still make palms that are alike: then what a person
published here and there can be brought together. Two readings, by what two mated pictures share:

* `of_one_photograph`: two variants (seeds) of one photograph;
* `of_one_hand`: made of different photographs of one hand.

Non-mated are pictures of two hands, in both. With few pairs D↔sys is above 0 by chance alone, so
beside it stands that of shuffled pairs: variants dealt out anew to the photographs, or photographs
to the hands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palmforge.errors import DataError
from palmforge.metrics.deidentification import MATED_IN_A_BIN, unlinkability
from palmforge.metrics.scores import ArrayLike, Floats, Ints, as_numpy

Reading = Literal["of_one_photograph", "of_one_hand"]
READINGS: tuple[Reading, ...] = ("of_one_photograph", "of_one_hand")
SHUFFLES = 20
LEAST_MATED = 2 * MATED_IN_A_BIN  # fewer lie all in one bin, where D↔sys is 0 whatever they are
_MOST_PAIRS = 200_000  # of a kind that a histogram is made of; more are drawn from


@dataclass(frozen=True, eq=False)
class Linkage:
    """How well mated pairs are told from others.

    Attributes:
        system: D↔sys in [0, 1]: 0 unlinkable, 1 linkable at every distance.
        shuffled: Mean of it over shuffled pairs: what chance gives.
        shuffled_high: 95th percentile of it over shuffled pairs.
        mated: [A] distances of mated pairs.
        non_mated: [B] distances of non-mated pairs.
    """

    system: float
    shuffled: float
    shuffled_high: float
    mated: Floats
    non_mated: Floats

    @property
    def above_chance(self) -> bool:
        """Whether more is linked than chance links in 19 of 20 cases."""
        return self.system > self.shuffled_high


@dataclass(frozen=True, eq=False)
class Linkages:
    """Both readings.

    Attributes:
        of_one_photograph: Of variants of one photograph; None: refused.
        of_one_hand: Of different photographs of one hand; None: refused.
        refused: Reading → why there is none.
    """

    of_one_photograph: Linkage | None
    of_one_hand: Linkage | None
    refused: dict[str, str]


def linkage(
    templates: Tensor,
    sources: ArrayLike,
    labels: ArrayLike,
    distance: Callable[[Tensor, Tensor], Tensor],
    seed: int = 0,
) -> Linkages:
    """D↔sys among de-identified pictures, beside that of shuffled pairs.

    Args:
        templates: `[P, …]` of the de-identified pictures. P² distances are held.
        sources: `[P]` row of the original that each was made of.
        labels: `[N]` integers, the hands of the originals.
        distance: `[P, …]`, `[P, …]` → `[P, P]`, as `Recognizer.distance`.
        seed: Of the shuffles, and of the pairs drawn where there are very many.

    Raises:
        DataError: Fewer than two hands; NaN or infinite distances.
        ValueError: Sizes or sources that do not fit.
    """
    made_of, hands = _checked(templates, sources, labels)
    if np.unique(hands[made_of]).size < 2:
        raise DataError("linkage: pictures of fewer than two hands, so no pair is non-mated")
    apart = distance(templates, templates).detach().double().cpu().numpy()
    bad = int((~np.isfinite(apart)).any(axis=1).sum())
    if bad:
        raise DataError(f"linkage: distances of {bad} of {len(apart)} pictures are NaN or infinite")
    found: dict[str, Linkage] = {}
    refused: dict[str, str] = {}
    for reading in READINGS:
        mated = int(_mated(made_of, hands, reading).sum()) // 2
        if mated < LEAST_MATED:
            refused[reading] = f"{mated} mated pairs, {LEAST_MATED} or more are needed"
        else:
            found[reading] = _linked(apart, made_of, hands, reading, seed)
    return Linkages(found.get(READINGS[0]), found.get(READINGS[1]), refused)


def _linked(apart: Floats, made_of: Ints, hands: Ints, reading: Reading, seed: int) -> Linkage:
    rng = np.random.default_rng([seed, READINGS.index(reading)])
    mated, non_mated = _distances(apart, made_of, hands, reading, rng)
    by_chance = [
        unlinkability(*_distances(apart, *dealt, reading, rng)).system
        for dealt in _shuffled(made_of, hands, reading, rng)
    ]
    return Linkage(
        unlinkability(mated, non_mated).system, float(np.mean(by_chance)),
        float(np.quantile(by_chance, 0.95, method="higher")), mated, non_mated,
    )  # fmt: skip


def _shuffled(
    made_of: Ints, hands: Ints, reading: Reading, rng: np.random.Generator
) -> Iterator[tuple[Ints, Ints]]:
    """(sources, hands) in which the mated pairs of the reading are pairs like any other.

    Of photographs, whole photographs are dealt out to hands: their variants may well be alike, and
    that shall not count here.
    """
    used = np.unique(made_of)
    for _ in range(SHUFFLES):
        if reading == "of_one_photograph":
            yield rng.permutation(made_of), hands
        else:
            dealt = hands.copy()
            dealt[used] = rng.permutation(hands[used])
            yield made_of, dealt


def _mated(made_of: Ints, hands: Ints, reading: Reading) -> NDArray[np.bool_]:
    """`[P, P]`, both halves, without the diagonal."""
    one_photograph = made_of[:, None] == made_of
    if reading == "of_one_photograph":
        np.fill_diagonal(one_photograph, False)
        return one_photograph
    own = hands[made_of]
    return (own[:, None] == own) & ~one_photograph


def _distances(
    apart: Floats, made_of: Ints, hands: Ints, reading: Reading, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """(mated, non-mated), of each pair one distance."""
    own = hands[made_of]
    above = np.triu(np.ones(apart.shape, bool), 1)
    mated = apart[above & _mated(made_of, hands, reading)]
    return _some(mated, rng), _some(apart[above & (own[:, None] != own)], rng)


def _some(distances: Floats, rng: np.random.Generator) -> Floats:
    if distances.size <= _MOST_PAIRS:
        return distances
    return rng.choice(distances, _MOST_PAIRS, replace=False, shuffle=False)


def _checked(templates: Tensor, sources: ArrayLike, labels: ArrayLike) -> tuple[Ints, Ints]:
    made_of, hands = as_numpy(sources), as_numpy(labels)
    for name, rows in (("sources", made_of), ("labels", hands)):
        if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
            raise ValueError(f"linkage: {name} must be 1-D integers, got {rows.dtype} {rows.shape}")
    if len(templates) != made_of.size:
        raise ValueError(f"linkage: {len(templates)} templates, but {made_of.size} sources")
    if made_of.size and not (made_of.min() >= 0 and made_of.max() < hands.size):
        raise ValueError(
            f"linkage: sources are rows of {hands.size} originals, got {made_of.min()} … "
            f"{made_of.max()}"
        )
    if not isinstance(templates, torch.Tensor):
        raise ValueError(f"linkage: templates must be a tensor, got {type(templates).__name__}")
    return made_of.astype(np.int64), hands.astype(np.int64)
