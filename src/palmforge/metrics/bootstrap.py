"""Confidence intervals by resampling identities.

Pairs of one palm are not independent, so resampling pairs gives intervals that are far too narrow;
what has to be drawn anew is identities. Each brings its genuine pairs and its impostor pairs, and
an impostor pair is counted to both of its sides: the subsets bootstrap of Bolle, Ratha and
Pankanti (2004), in which a resample is weights @ histograms.

One thing differs from Bolle. Drawing both sides anew would count the impostor pair of identities a
and b w_a * w_b times (w: how often each was drawn). The subsets bootstrap counts it (w_a + w_b) / 2
times, which has half the right spread; we count w_a + w_b - 1, the linear part of the product. In a
simulation with 100 identities that differ much, nominal 95 % intervals held the true FAR at a fixed
threshold in 56 % of the cases after Bolle, in 81 % so; TAR at FAR 1e-3 in 73 % and 78 %; the EER in
88 % and 92 %. With a few dozen identities every interval is still somewhat too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from palmforge.metrics.scores import ArrayLike, Floats, Ints, ScoreCounts, as_distances, as_numpy

Statistic = Callable[[ScoreCounts], float]
MAX_BINS = 1024  # of real-valued distances: the EER to about 0.1 % of the range of distances
_CHUNK = 100  # resamples held at a time


def eer_statistic(counts: ScoreCounts) -> float:
    """The EER, to be passed to `bootstrap_interval`."""
    return counts.equal_error_rate()[0]


def tar_statistic(far: float) -> Statistic:
    """TAR at this FAR, to be passed to `bootstrap_interval`."""
    return lambda counts: counts.tar_within(far)


def bootstrap_interval(
    genuine: Ints,
    impostor: Ints,
    statistic: Statistic = eer_statistic,
    values: ArrayLike | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a statistic over resampled identities; the same for the same seed.

    Args:
        genuine: [C, bins] genuine pairs of each identity by distance.
        impostor: [C, bins] impostor pairs with one side in each identity, by distance; so every
            pair is in two rows.
        statistic: from `ScoreCounts` to a number; must not refuse small numbers of pairs.
        values: [bins] ascending distances of the bins; None: 0 … bins - 1.
        num_resamples: how many times C identities are drawn from C.
        seed: of the draws.
        confidence: in (0, 1).

    Returns:
        (low, high).

    Raises:
        ValueError: fewer than 2 identities, arrays of different shape, or more than half of the
            resamples without a genuine or an impostor pair.
    """
    found = bootstrap_values(genuine, impostor, statistic, values, num_resamples, seed)
    return percentile_interval(found, confidence)


def bootstrap_values(
    genuine: Ints,
    impostor: Ints,
    statistic: Statistic = eer_statistic,
    values: ArrayLike | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Floats:
    """A statistic of each resample.

    The same identities and seed give the same resamples: where two recognisers were tested on the
    same palms, the difference of their values is paired.

    Args:
        genuine: as in `bootstrap_interval`, as all that is not told here.
        impostor: as there.
        statistic: as there.
        values: as there.
        num_resamples: as there.
        seed: as there.

    Returns:
        [num_resamples]; NaN where a resample has no genuine or no impostor pair.

    Raises:
        ValueError: fewer than 2 identities or arrays of different shape.
    """
    if genuine.ndim != 2 or genuine.shape != impostor.shape:
        raise ValueError(f"histograms must be [C, bins] both: {genuine.shape}, {impostor.shape}")
    if len(genuine) < 2 or num_resamples < 1:
        raise ValueError(
            f"cannot resample {len(genuine)} identities {num_resamples} times: "
            "at least 2 identities and 1 resample are needed"
        )
    return np.array(list(_resampled(genuine, impostor, statistic, values, num_resamples, seed)))


def percentile_interval(values: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """(low, high) of the values of resamples, or of the differences of two recognisers' values.

    Raises:
        ValueError: more than half of them NaN.
    """
    found = values[~np.isnan(values)]
    if 2 * found.size <= values.size:
        raise ValueError(
            f"only {found.size} of {values.size} resamples have genuine and impostor pairs: "
            "too few identities with two images"
        )
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_scores(
    genuine: ArrayLike,
    impostor: ArrayLike,
    genuine_ids: ArrayLike,
    impostor_ids: ArrayLike,
    statistic: Statistic = eer_statistic,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """`bootstrap_interval` on raw distances.

    More than 1024 distinct distances are rounded to as many steps between smallest and largest.

    Args:
        genuine: [G] distances.
        impostor: [I] distances.
        genuine_ids: [G] integers, the identity of each genuine pair.
        impostor_ids: [I, 2] integers, the two identities of each impostor pair.
        statistic: as in `bootstrap_interval`.
        num_resamples: as there.
        seed: as there.
        confidence: as there.

    Returns:
        (low, high).

    Raises:
        ValueError: NaN or infinite distances, ids that do not fit them, too few identities.
    """
    scores = [as_distances(genuine, "genuine"), as_distances(impostor, "impostor")]
    ids = [as_numpy(genuine_ids).reshape(-1, 1), as_numpy(impostor_ids).reshape(-1, 2)]
    if any(len(i) != s.size for i, s in zip(ids, scores, strict=True)):
        raise ValueError("genuine_ids must be [G] and impostor_ids [I, 2]")
    everyone = np.unique(np.concatenate([i.ravel() for i in ids]))
    values = np.unique(np.concatenate(scores))
    if values.size > MAX_BINS:
        values = np.linspace(values[0], values[-1], MAX_BINS)
    hists = []
    for score, sides in zip(scores, ids, strict=True):
        bins = np.searchsorted(values, score).clip(max=values.size - 1)
        rows = np.searchsorted(everyone, sides)
        flat = (rows * values.size + bins[:, None]).ravel()
        hists.append(np.bincount(flat, minlength=everyone.size * values.size))
    shaped = [h.reshape(everyone.size, values.size) for h in hists]
    return bootstrap_interval(
        shaped[0], shaped[1], statistic, values, num_resamples, seed, confidence
    )


def identity_histograms(
    binned: Callable[[int, int], NDArray[np.integer]],
    row_ids: Ints,
    column_ids: Ints | None,
    num_identities: int,
    num_bins: int,
    block: int = 1_000_000,
) -> tuple[Ints, Ints]:
    """Pairs by identity of the row item and by distance, in blocks.

    For one set (`column_ids` None) the result is what `bootstrap_interval` wants. For gallery and
    probes, add the impostors of a second call with the two exchanged.

    Args:
        binned: (row, row_end) -> [rows, M], the distances of some rows to all columns as bins.
        row_ids: [N] identities, in 0 … num_identities - 1.
        column_ids: [M]; None: all pairs of the one set, without the pairs of an item with itself.
        num_identities: C.
        num_bins: bins are 0 … num_bins - 1.
        block: pairs held at a time (at least one row).

    Returns:
        (genuine, impostor): [C, num_bins] int64 each; of one set, genuine pairs are counted once
        and impostor pairs to both of their sides.
    """
    columns = row_ids if column_ids is None else column_ids
    genuine = np.zeros((num_identities, num_bins), np.int64)
    impostor = np.zeros_like(genuine)
    step = max(1, block // max(1, columns.size))
    for row in range(0, row_ids.size, step):
        ids = row_ids[row : row + step]
        same = ids[:, None] == columns
        other = ~same
        if column_ids is None:
            same[np.arange(ids.size), np.arange(row, row + ids.size)] = False
        bins = binned(row, row + ids.size).astype(np.int64)
        bins += num_bins * np.arange(ids.size)[:, None]
        for pairs, into in ((same, genuine), (other, impostor)):
            counts = np.bincount(bins[pairs], minlength=ids.size * num_bins)
            np.add.at(into, ids, counts.reshape(ids.size, num_bins))
    if column_ids is None:
        genuine //= 2  # each was met from both of its sides, which are one identity
    return genuine, impostor


def _resampled(
    genuine: Ints,
    impostor: Ints,
    statistic: Statistic,
    values: ArrayLike | None,
    num_resamples: int,
    seed: int,
) -> Iterator[float]:
    """Yields the statistic of each resample; NaN if it has no genuine or no impostor pair."""
    rng = np.random.default_rng(seed)
    count = len(genuine)
    # float64: BLAS, and exact, because all sums stay below 2^53.
    of_genuine, of_impostor = genuine.astype(np.float64), impostor.astype(np.float64)
    for start in range(0, num_resamples, _CHUNK):
        size = min(_CHUNK, num_resamples - start)
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=size).astype(np.float64)
        resampled_genuine = drawn @ of_genuine
        # Twice (w_a + w_b - 1), since every pair is in two rows; pairs of two identities that
        # were both left out may outweigh the others in a bin, which cannot hold less than none.
        resampled_impostor = np.maximum((2 * drawn - 1) @ of_impostor, 0)
        for g, i in zip(resampled_genuine, resampled_impostor, strict=True):
            there = g.any() and i.any()
            yield statistic(ScoreCounts.from_histograms(g, i, values)) if there else float("nan")
