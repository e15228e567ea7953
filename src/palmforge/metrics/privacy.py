"""Does a generated set give away what its generator was trained on? The statistics of it.

The measure of everything is pictures that the generator has not seen (held out): they lie as far
from the training pictures as unrelated palms do.

* `reach`: which distance to the nearest training picture no unrelated picture would have;
* `more_often`: whether more generated than held-out identities match a training identity;
* `membership`: whether a generator's loss tells pictures that it was trained on from others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palmforge.metrics.scores import ArrayLike, Floats, ScoreCounts, as_distances

MIN_GROUPS = 20  # identities, below which a tail or an interval says nothing
_TAIL = 0.25  # of the distances, the smallest, that the tail is fitted to
_FPR = 0.01


@dataclass(frozen=True)
class Reach:
    """How near to the training pictures unrelated ones come.

    Attributes:
        threshold: No unrelated picture is expected at or below it; it may be below 0.
        smallest: Smallest distance of a held-out picture.
        median: Of the held-out pictures' distances.
        spread: Deviation of the normal tail.
        pictures: For how many pictures the threshold holds.
        false_alarms: Expected number of them at or below it.
    """

    threshold: float
    smallest: float
    median: float
    spread: float
    pictures: int
    false_alarms: float


@dataclass(frozen=True)
class Excess:
    """Matches among generated and among unrelated identities.

    Attributes:
        share: Of the generated identities that match, in [0, 1].
        interval: Of it, 95 %, exact (Clopper & Pearson).
        unrelated: Share of the unrelated identities that match.
        unrelated_interval: Of it.
        p_value: One-sided, exact (Fisher): that so many or more of the generated ones would match
            if they were unrelated too.
        visible: Smallest share of the generated ones that would have been told from unrelated ones
            at `alpha`; None: not even if all matched.
    """

    share: float
    interval: tuple[float, float]
    unrelated: float
    unrelated_interval: tuple[float, float]
    p_value: float
    visible: float | None


@dataclass(frozen=True)
class Membership:
    """How well the loss tells training pictures from others.

    Attributes:
        auc: P(a training picture's loss is smaller than another's), 0.5 = not at all.
        interval: 95 %, by resampling identities.
        p_value: One-sided, of `auc` > `at_most`.
        tpr: Share of the training pictures found at a false positive rate of 1 %; None: refused.
        tpr_interval: Of it.
        refused: Why there is no `tpr`.
        means: Mean loss of training pictures and of others.
    """

    auc: float
    interval: tuple[float, float]
    p_value: float
    tpr: float | None
    tpr_interval: tuple[float, float] | None
    refused: str | None
    means: tuple[float, float]


def reach(
    distances: ArrayLike, pictures: int, false_alarms: float, groups: int | None = None
) -> Reach:
    """The distance that no unrelated picture reaches.

    Held-out pictures are too few to show what the nearest of many does, so their tail is drawn
    on: as a normal one, through the median and that of the smaller order statistics which makes it
    widest. It is never above the smallest held-out distance.

    Args:
        distances: [N] of held-out pictures, each to its nearest training picture.
        pictures: How many will be looked at.
        false_alarms: How many of these may be expected at or below the threshold if all are
            unrelated, in (0, 1).
        groups: Identities that the distances are of; None: each is of its own.

    Raises:
        ValueError: Fewer than `MIN_GROUPS` distances, NaN, or `false_alarms` out of range.
    """
    from scipy.special import ndtri

    found = np.sort(as_distances(distances, "distances"))
    if found.size < MIN_GROUPS or pictures < 1 or not 0.0 < false_alarms < 1.0:
        raise ValueError(
            f"{found.size} distances, {pictures} pictures, {false_alarms} false alarms: at least "
            f"{MIN_GROUPS}, 1 and a number in (0, 1) are needed"
        )
    median = float(np.median(found))
    count = int(_TAIL * found.size)
    places = -ndtri((np.arange(count) + 0.5) / found.size)  # in deviations below the median
    # Few of them: the tail may be longer than it looks.
    wider = 1 + 2 / np.sqrt(groups or found.size)
    spread = wider * float(((median - found[:count]) / places).max())
    drawn_on = median + spread * float(ndtri(false_alarms / pictures))
    below = np.nextafter(found[0], -np.inf)
    return Reach(
        float(min(drawn_on, below)), float(found[0]), median, spread, pictures, false_alarms
    )


def more_often(
    matches: int, identities: int, unrelated: int, held_out: int, alpha: float
) -> Excess:
    """Whether generated identities match training identities more often than unrelated ones do.

    Args:
        matches: Generated identities that match one.
        identities: All generated identities.
        unrelated: Held-out identities that match one.
        held_out: All held-out identities.
        alpha: Level of `visible`, in (0, 1).

    Raises:
        ValueError: No identities, or more matches than identities.
    """
    from scipy.stats import binomtest, hypergeom

    if not (0 <= matches <= identities > 0 and 0 <= unrelated <= held_out > 0):
        raise ValueError(f"{matches} of {identities}, {unrelated} of {held_out}: not possible")
    counts = np.arange(identities + 1)
    p_values = hypergeom.sf(counts - 1, identities + held_out, counts + unrelated, identities)
    seen = np.flatnonzero(p_values <= alpha)

    def exact(count: int, total: int) -> tuple[float, float]:
        ends = binomtest(count, total).proportion_ci(0.95, "exact")
        return float(ends.low), float(ends.high)

    return Excess(
        matches / identities, exact(matches, identities),
        unrelated / held_out, exact(unrelated, held_out),
        min(1.0, float(p_values[matches])), float(seen[0] / identities) if seen.size else None,
    )  # fmt: skip


def membership(
    members: tuple[ArrayLike, NDArray[np.integer]],
    others: tuple[ArrayLike, NDArray[np.integer]],
    at_most: float = 0.5,
    resamples: int = 1000,
    seed: int = 0,
) -> Membership:
    """Whether smaller losses tell the pictures that were trained on (Yeom et al. 2018).

    Pictures of one palm are no independent draws: intervals and the deviation behind the p-value
    come from resampled identities.

    Args:
        members: [N] losses of training pictures, and their [N] identities.
        others: [M] losses of pictures that were not trained on, and their identities.
        at_most: AUC that is let pass.
        resamples: Of the identities.
        seed: Of the resamples.

    Raises:
        ValueError: Fewer than `MIN_GROUPS` identities on a side; losses that are not finite.
    """
    from scipy.special import ndtr

    sides = [(as_distances(losses, "losses"), np.asarray(who)) for losses, who in (members, others)]
    for losses, who in sides:
        if len(np.unique(who)) < MIN_GROUPS or len(who) != losses.size:
            raise ValueError(
                f"{losses.size} losses of {len(np.unique(who))} identities: at least {MIN_GROUPS} "
                "identities are needed on each side"
            )
    whole = ScoreCounts.from_scores(sides[0][0], sides[1][0])
    refused = whole.far_refusal(_FPR)
    auc = whole.auc()
    rng = np.random.default_rng([seed, 0x3E3])
    groups = [_by_identity(*side) for side in sides]
    drawn = [
        ScoreCounts.from_scores(*(_redrawn(group, rng) for group in groups))
        for _ in range(resamples)
    ]
    aucs = np.array([one.auc() for one in drawn])
    deviation = float(aucs.std())
    surplus = (auc - at_most) / deviation if deviation else np.sign(auc - at_most) * np.inf
    tprs = None if refused else np.array([one.tar_within(_FPR) for one in drawn])
    return Membership(
        auc, _middle(aucs), float(ndtr(-surplus)) if auc != at_most else 0.5,
        None if refused else whole.tar_at_far(_FPR), None if tprs is None else _middle(tprs),
        refused and refused.replace("FAR", "FPR").replace("impostor pairs", "held-out pictures"),
        (float(sides[0][0].mean()), float(sides[1][0].mean())),
    )  # fmt: skip


def _by_identity(losses: Floats, who: NDArray[np.integer]) -> list[Floats]:
    order = np.argsort(who, kind="stable")
    return np.split(losses[order], np.unique(who[order], return_index=True)[1][1:])


def _redrawn(groups: list[Floats], rng: np.random.Generator) -> Floats:
    """The losses of as many identities, drawn with replacement."""
    return np.concatenate([groups[at] for at in rng.integers(len(groups), size=len(groups))])


def _middle(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)
