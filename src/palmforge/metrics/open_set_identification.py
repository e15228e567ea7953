"""Open-set 1:N identification: is this palm enrolled, and if so, whose is it? FPIR, TPIR, DIR.

Terms of ISO/IEC 19795-1. A *mated* probe is of an enrolled identity, a *non-mated* probe of one
that is not. Of each mated probe are needed the distance to the nearest image of its own identity
and its rank among all identities (1 = no other identity is nearer; ties count against the probe, as
in `identification.ranks`); of each non-mated probe the distance of its nearest identity (top-1).
Smaller = more alike, and a distance is accepted when it is <= the threshold, here as everywhere.

- FPIR(T), false positive identification rate: share of non-mated probes whose top-1 is accepted.
- TPIR(R, T), true positive identification rate: share of mated probes of rank <= R whose own
  identity is accepted; 1 - FNIR(R, T). With R = 1 it is the detection and identification rate, DIR.

FPIR belongs to a gallery of one size: it grows with the number of identities enrolled.

Infinite distances are allowed and mean that an approximate search returned no candidate: no
threshold accepts them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from palmforge.metrics.identification import Cmc, cmc_from_ranks
from palmforge.metrics.scores import ArrayLike, Floats, Ints, as_numpy


class DirCurve(NamedTuple):
    """Detection and identification by threshold, thresholds ascending.

    The first threshold is -inf: nothing is accepted.

    Attributes:
        thresholds: [K + 1] the distinct finite distances of all probes, after -inf.
        fpir: [K + 1] in [0, 1], ascending.
        tpir: [K + 1] in [0, 1], ascending.
    """

    thresholds: Floats
    fpir: Floats
    tpir: Floats


def fpir_refusal(num_nonmated: int, fpir: float) -> str | None:
    """Why so many non-mated probes cannot support a figure at this FPIR; None when they can.

    Raises:
        ValueError: fpir not in (0, 1].
    """
    if not 0.0 < fpir <= 1.0:
        raise ValueError(f"fpir must lie in (0, 1], got {fpir}")
    if num_nonmated == 0 or 1.0 / num_nonmated > fpir:
        return (
            f"FPIR {fpir:g} needs at least {1 / fpir:,.0f} non-mated probes, "
            f"there are {num_nonmated:,}"
        )
    return None


def fpir_threshold(nonmated_distances: ArrayLike, fpir: float) -> float:
    """The largest distance at which the share of non-mated probes accepted is <= fpir.

    That is the last number before the first non-mated distance that would be one too many, in the
    type of the distances: the whole number below it, or the next float. (A float64 between two
    float32 would be rounded up by `float32_array <= threshold`.) inf where even accepting all is
    within `fpir` (fpir = 1).

    Args:
        nonmated_distances: [M] top-1 distances of non-mated probes.
        fpir: wanted false positive identification rate, in (0, 1].

    Raises:
        ValueError: 1 / fpir exceeds the number of non-mated probes (the figure would be an
            extrapolation), NaN, not 1-D, fpir not in (0, 1].

    Example:
        >>> fpir_threshold([30, 34, 34, 41], 0.25)  # 34 would accept three of four
        33.0
    """
    given = as_numpy(nonmated_distances)
    distances = np.sort(_distances(given, "nonmated_distances"))
    reason = fpir_refusal(distances.size, fpir)
    if reason is not None:
        raise ValueError(reason)
    rates = np.arange(distances.size + 1) / distances.size  # the same division as in `fpir_at`
    allowed = int(np.searchsorted(rates, fpir, side="right")) - 1
    if allowed == distances.size or np.isinf(distances[allowed]):
        return float("inf")
    if np.issubdtype(given.dtype, np.integer):
        return float(distances[allowed] - 1)
    too_many = distances[allowed].astype(given.dtype)
    return float(np.nextafter(too_many, given.dtype.type(-np.inf)))


def fpir_at(nonmated_distances: ArrayLike, thresholds: ArrayLike) -> Floats:
    """FPIR in [0, 1] at each threshold: the share of non-mated distances <= it.

    Args:
        nonmated_distances: [M].
        thresholds: [K], in any order.

    Returns:
        [K] float64.

    Raises:
        ValueError: no non-mated distances, NaN, or not 1-D.
    """
    distances = np.sort(_distances(nonmated_distances, "nonmated_distances"))
    if distances.size == 0:
        raise ValueError("no non-mated probes: there is no FPIR without them")
    at = as_numpy(thresholds).astype(np.float64)
    if np.isnan(at).any():
        raise ValueError("thresholds hold NaN")
    finite = distances[np.isfinite(distances)]
    return np.searchsorted(finite, at, side="right") / distances.size


def tpir_at(
    mated_distances: ArrayLike, mated_ranks: ArrayLike, threshold: float, rank: int = 1
) -> float:
    """Share of mated probes of rank <= `rank` whose own identity is within the threshold.

    Args:
        mated_distances: [N] distance to the nearest image of the own identity.
        mated_ranks: [N] integers >= 1.
        threshold: a distance, for example one that was fixed on other data.
        rank: R, length of the list of candidates, >= 1.

    Returns:
        TPIR(R, T) = 1 - FNIR(R, T), in [0, 1].

    Raises:
        ValueError: no probes, NaN, lengths that differ, a rank below 1.
    """
    distances, listed = _mated(mated_distances, mated_ranks, rank)
    if np.isnan(threshold):
        raise ValueError("the threshold is NaN")
    accepted = np.isfinite(distances) & (distances <= threshold)
    return float(np.count_nonzero(accepted & listed) / distances.size)


def tpir_at_fpir(
    mated_distances: ArrayLike,
    mated_ranks: ArrayLike,
    nonmated_distances: ArrayLike,
    fpir: float,
    rank: int = 1,
) -> float:
    """TPIR at the largest threshold whose empirical FPIR is <= fpir; rank 1: DIR at that FPIR.

    Mated probes tied with the non-mated probe that would exceed `fpir` are not accepted.

    Args:
        mated_distances: [N] distance to the nearest image of the own identity.
        mated_ranks: [N] integers >= 1.
        nonmated_distances: [M] top-1 distances.
        fpir: wanted false positive identification rate, in (0, 1].
        rank: R, length of the list of candidates, >= 1.

    Returns:
        TPIR in [0, 1].

    Raises:
        ValueError: as in `fpir_threshold` and `tpir_at`.

    Example:
        >>> tpir_at_fpir([10, 33, 34, 20], [1, 1, 1, 2], [30, 34, 34, 41], fpir=0.25)
        0.5
    """
    threshold = fpir_threshold(nonmated_distances, fpir)
    return tpir_at(mated_distances, mated_ranks, threshold, rank)


def dir_curve(
    mated_distances: ArrayLike,
    mated_ranks: ArrayLike,
    nonmated_distances: ArrayLike,
    rank: int = 1,
) -> DirCurve:
    """TPIR over FPIR for every threshold at which either changes.

    Args:
        mated_distances: [N] distance to the nearest image of the own identity.
        mated_ranks: [N] integers >= 1.
        nonmated_distances: [M] top-1 distances.
        rank: R, length of the list of candidates, >= 1.

    Raises:
        ValueError: no mated or no non-mated probes; as in `tpir_at`.
    """
    distances, listed = _mated(mated_distances, mated_ranks, rank)
    nonmated = _distances(nonmated_distances, "nonmated_distances")
    values = np.union1d(distances, nonmated)
    thresholds = np.concatenate(([-np.inf], values[np.isfinite(values)]))
    found = np.sort(distances[listed])
    tpir = np.searchsorted(found, thresholds, side="right") / distances.size
    return DirCurve(thresholds, fpir_at(nonmated, thresholds), tpir)


def cmc(mated_ranks: ArrayLike, max_rank: int = 20) -> Cmc:
    """Share of mated probes of rank <= k, whatever the distance, k = 1 … max_rank.

    Raises:
        ValueError: no probes, a rank below 1, or max_rank < 1.
    """
    return cmc_from_ranks(_ranks(mated_ranks), max_rank)


def _mated(
    mated_distances: ArrayLike, mated_ranks: ArrayLike, rank: int
) -> tuple[Floats, np.ndarray]:
    """The distances, and which of the probes are of rank <= `rank`."""
    distances, ranks = _distances(mated_distances, "mated_distances"), _ranks(mated_ranks)
    if distances.shape != ranks.shape:
        raise ValueError(f"{distances.size} mated_distances, but {ranks.size} mated_ranks")
    if distances.size == 0:
        raise ValueError("no mated probes: there is no TPIR without them")
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    return distances, ranks <= rank


def _ranks(mated_ranks: ArrayLike) -> Ints:
    ranks = as_numpy(mated_ranks)
    if ranks.ndim != 1 or (ranks.size and not np.issubdtype(ranks.dtype, np.integer)):
        raise ValueError(f"mated_ranks must be 1-D integers, got {ranks.dtype} {ranks.shape}")
    if ranks.size and ranks.min() < 1:
        bad = int(np.count_nonzero(ranks < 1))
        raise ValueError(f"mated_ranks: {bad} of {ranks.size} are below 1; leave out such probes")
    return ranks.astype(np.int64)


def _distances(values: ArrayLike, name: str) -> Floats:
    """1-D float64; +inf stays, NaN and -inf are refused."""
    array = as_numpy(values).astype(np.float64, copy=False)
    if array.ndim != 1:
        raise ValueError(f"{name}: distances must be 1-D, got shape {array.shape}")
    bad = int(np.count_nonzero(np.isnan(array) | np.isneginf(array)))
    if bad:
        raise ValueError(f"{name}: {bad} of {array.size} distances are NaN or -inf")
    return array
