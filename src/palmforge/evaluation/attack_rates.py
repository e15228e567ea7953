"""How often a recogniser finds the palm behind a de-identified picture: the rates of an attack.

A de-identified picture is the probe, the originals are the gallery. Two questions are told apart,
since a method may answer one and not the other:

* `own_source`: which photograph was this made of? Genuine is a probe and its own source; light,
  shadow and frame help whoever looks for it.
* `other_pictures`: whose palm is this? The own source is taken out of the gallery, genuine are the
  *other* originals of the palm.

Impostors are the originals of other palms in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from palmforge.metrics.bootstrap import Statistic, bootstrap_scores, eer_statistic, tar_statistic
from palmforge.metrics.identification import ranks
from palmforge.metrics.scores import ArrayLike, Floats, Ints, ScoreCounts, as_numpy

Question = Literal["own_source", "other_pictures"]
QUESTIONS: tuple[Question, ...] = ("own_source", "other_pictures")
FAR = 0.01
Interval = tuple[float, float]


class AttackPairs(NamedTuple):
    """Distances of de-identified pictures to originals, and whose they are.

    Attributes:
        genuine: `[G]` distances.
        impostor: `[I]` distances.
        genuine_ids: `[G]` the palm of each pair.
        impostor_ids: `[I, 2]` the two palms of each pair, the probe's first.
        compared: `[P, N]` bool: what is genuine or impostor.
    """

    genuine: Floats
    impostor: Floats
    genuine_ids: Ints
    impostor_ids: Ints
    compared: NDArray[np.bool_]


@dataclass(frozen=True)
class AttackRates:
    """Rates of one recogniser for one question, all in [0, 1], each with its 95 % interval.

    Intervals of EER and TAR are of resampled palms (`metrics.bootstrap`): with a few dozen they are
    somewhat too narrow, with very few NaN. Those of rank 1 and TAR are at least the exact one of so
    many palms.

    Attributes:
        eer: 0.5: it guesses; 0: it always knows.
        eer_interval: Of it.
        rank1: Share of the probes whose nearest palm is the right one.
        rank1_interval: Of it, the gallery staying as it is; as if each palm had one probe.
        tar: Share of the genuine pairs accepted at FAR 1 %; None: too few impostor pairs.
        tar_interval: Of it.
        chance: What guessing gives in rank 1: one over the palms of the gallery.
        genuine: How many genuine pairs.
        impostor: How many impostor pairs.
    """

    eer: float
    eer_interval: Interval
    rank1: float
    rank1_interval: Interval
    tar: float | None
    tar_interval: Interval | None
    chance: float
    genuine: int
    impostor: int


def attack_rates(
    distances: ArrayLike,
    sources: ArrayLike,
    labels: ArrayLike,
    question: Question,
    resamples: int = 1000,
    seed: int = 0,
) -> AttackRates | None:
    """The rates of de-identified probes against the originals.

    Args:
        distances: As in `attack_pairs`, as are the next three.
        sources: As there.
        labels: As there.
        question: As there.
        resamples: Of the palms, for the intervals.
        seed: Of the resamples.

    Returns:
        None if no probe has a genuine pair: each palm has one original, and it is taken out.

    Raises:
        ValueError: NaN or infinite distances; fewer than two palms; and as there.
    """
    pairs = attack_pairs(distances, sources, labels, question)
    if not pairs.genuine.size:
        return None
    counts = ScoreCounts.from_scores(pairs.genuine, pairs.impostor)
    refused = counts.far_refusal(FAR)
    who = as_numpy(labels)
    tar = None if refused else counts.tar_at_far(FAR)
    hits, palms = _hits(as_numpy(distances), pairs.compared, who[as_numpy(sources)], who)
    return AttackRates(
        eer=counts.equal_error_rate()[0],
        eer_interval=_interval(pairs, eer_statistic, resamples, seed),
        rank1=float(hits.mean()),
        rank1_interval=_share_interval(float(hits.mean()), palms),
        tar=tar,
        tar_interval=None
        if tar is None
        else _wider(
            _interval(pairs, tar_statistic(FAR), resamples, seed), _share_interval(tar, palms)
        ),
        chance=1.0 / np.unique(who).size,
        genuine=counts.num_genuine,
        impostor=counts.num_impostor,
    )


def attack_pairs(
    distances: ArrayLike, sources: ArrayLike, labels: ArrayLike, question: Question
) -> AttackPairs:
    """Which de-identified picture is compared with which original.

    Args:
        distances: `[P, N]` of de-identified pictures to originals; smaller is more alike.
        sources: `[P]` row of the original that each was made of.
        labels: `[N]` integers, identities of the originals.
        question: See the module.

    Raises:
        ValueError: Sizes that do not fit, or an unknown question.
    """
    if question not in QUESTIONS:
        raise ValueError(f"question must be own_source or other_pictures, got {question!r}")
    matrix, made_of, who = as_numpy(distances), as_numpy(sources), as_numpy(labels)
    if matrix.shape != (made_of.size, who.size):
        raise ValueError(f"distances {matrix.shape} do not fit {made_of.shape}, {who.shape}")
    own, probes = who[made_of], np.arange(made_of.size)
    same = own[:, None] == who
    source = np.zeros_like(same)
    source[probes, made_of] = True
    genuine = source if question == "own_source" else same & ~source
    rows, columns = np.nonzero(~same)
    return AttackPairs(
        matrix[genuine], matrix[rows, columns], own[np.nonzero(genuine)[0]],
        np.stack([own[rows], who[columns]], axis=1), genuine | ~same,
    )  # fmt: skip


def _interval(pairs: AttackPairs, statistic: Statistic, resamples: int, seed: int) -> Interval:
    """NaN where too few palms have genuine pairs to be resampled."""
    try:
        return bootstrap_scores(*pairs[:4], statistic, resamples, seed)
    except ValueError:
        return float("nan"), float("nan")


def _hits(
    matrix: NDArray[Any], compared: NDArray[np.bool_], own: Ints, who: Ints
) -> tuple[Floats, Ints]:
    """([K] 0 or 1, whether the nearest palm is the right one; [K] whose probe it is).

    Probes whose palm has no picture left are left out.
    """
    # Further away than everything: a palm stands at its nearest picture.
    seen = np.where(compared, matrix.astype(np.float64), matrix.max(initial=0.0) + 1.0)
    left = (compared & (own[:, None] == who)).any(axis=1)
    return (ranks(seen[left], own[left], who) == 1).astype(np.float64), own[left]


def _share_interval(share: float, palms: Ints) -> Interval:
    """95 %, exact (Clopper & Pearson), as if each palm had one probe.

    Probes of one palm say less than as many of several, but no less than one. Resampled, a share of
    0 would have the interval 0 … 0, which two dozen palms cannot show.
    """
    from scipy.stats import beta

    total = np.unique(palms).size
    hits = share * total
    low = beta.ppf(0.025, hits, total - hits + 1) if share > 0 else 0.0
    high = beta.ppf(0.975, hits + 1, total - hits) if share < 1 else 1.0
    return float(low), float(high)


def _wider(one: Interval, two: Interval) -> Interval:
    return float(np.fmin(one[0], two[0])), float(np.fmax(one[1], two[1]))
