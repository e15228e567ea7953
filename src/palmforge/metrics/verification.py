"""1:1 comparison: is this the same palm? Error rates from distances (smaller = more alike).

Every function takes genuine distances (pairs of the same identity) and impostor distances (pairs
of different identities), as 1-D arrays, lists or tensors, and accepts a pair when its distance is
<= the threshold. With FAR(t) = mean(impostor <= t) and FRR(t) = mean(genuine > t); the paper on
distilled hashing (002) has the two names the wrong way round.

For histograms of integer distances, or sets too large to hold, make a `ScoreCounts`
(`hamming.hamming_counts`, `embeddings.embedding_counts`) and call its methods of the same names:
these functions do just that.
"""

from __future__ import annotations

from palmforge.metrics.scores import ArrayLike, DetCurve, RocCurve, ScoreCounts


def equal_error_rate(genuine: ArrayLike, impostor: ArrayLike) -> tuple[float, float]:
    """The error rate where FAR = FRR, by linear interpolation between adjacent distances.

    Args:
        genuine: [G] distances.
        impostor: [I] distances.

    Returns:
        (eer, threshold): eer in [0, 1]; the threshold in the unit of the distances. Where the two
        rates are equal over an interval, which includes perfect separation (0.0), the middle of it.

    Raises:
        ValueError: an empty set, or NaN or infinite distances.

    Example:
        >>> equal_error_rate([1, 2, 3], [2.5, 4, 5])
        (0.3333333333333333, 2.75)
    """
    return ScoreCounts.from_scores(genuine, impostor).equal_error_rate()


def tar_at_far(genuine: ArrayLike, impostor: ArrayLike, far: float) -> float:
    """The share of genuine pairs accepted at the largest threshold whose empirical FAR is <= far.

    Genuine pairs tied with the impostor that would exceed `far` are not accepted.

    Args:
        genuine: [G] distances.
        impostor: [I] distances.
        far: wanted false accept rate, in (0, 1].

    Returns:
        TAR in [0, 1].

    Raises:
        ValueError: 1 / far exceeds the number of impostor pairs (the figure would be an
            extrapolation), an empty set, NaN or infinite distances, far not in (0, 1].
    """
    return ScoreCounts.from_scores(genuine, impostor).tar_at_far(far)


def decidability(a: ArrayLike, b: ArrayLike) -> float:
    """Decidability: d' = |mean(a) - mean(b)| / sqrt((var(a) + var(b)) / 2).

    Variances are those of the population (divided by the number of distances, not by one less).

    Args:
        a: [A] distances.
        b: [B] distances; the order of the two sets does not matter.

    Returns:
        d' >= 0; inf when both sets are constant and differ, 0 when all values are equal.

    Raises:
        ValueError: an empty set, or NaN or infinite distances.
    """
    return ScoreCounts.from_scores(a, b).decidability()


def det_curve(genuine: ArrayLike, impostor: ArrayLike) -> DetCurve:
    """(thresholds, far, frr), each [K + 1] for K distinct distances, thresholds ascending.

    The first threshold is -inf: nothing accepted.

    Raises:
        ValueError: an empty set, or NaN or infinite distances.
    """
    return ScoreCounts.from_scores(genuine, impostor).det_curve()


def roc_curve(genuine: ArrayLike, impostor: ArrayLike) -> RocCurve:
    """(thresholds, far, tar), as `det_curve`."""
    return ScoreCounts.from_scores(genuine, impostor).roc_curve()


def area_under_curve(genuine: ArrayLike, impostor: ArrayLike) -> float:
    """The area under the ROC curve: P(genuine < impostor) + ½ P(equal), in [0, 1].

    Raises:
        ValueError: an empty set, or NaN or infinite distances.
    """
    return ScoreCounts.from_scores(genuine, impostor).auc()
