"""How sure a de-identification ratio is: identities drawn anew."""

from __future__ import annotations

import numpy as np

from palmforge.metrics.bootstrap import percentile_interval
from palmforge.metrics.scores import ArrayLike, Floats, as_numpy


def ratio_interval(
    distances: ArrayLike,
    labels: ArrayLike,
    deidentified: ArrayLike,
    deidentified_labels: ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of the DIR (`deidentification_ratio`), by bootstrap over identities.

    An identity that is drawn k times brings its genuine and de-identified pairs k times, and
    impostor pairs with one drawn l times k · l times; pairs of an identity with its own copy are no
    impostors. DIR needs no more than counts, sums and sums of squares by pair of identities, so a
    resample costs a product of a small matrix.

    Args:
        distances: [N, N] between originals.
        labels: [N] integers, their identities.
        deidentified: [M] distances of de-identified pairs.
        deidentified_labels: [M], identity of each.
        resamples: How often.
        seed: Of the draws.
        confidence: In (0, 1).

    Returns:
        (low, high) in percent; resamples without any genuine or impostor pair are left out.

    Raises:
        ValueError: Sizes that do not fit.
    """
    matrix, own = as_numpy(distances).astype(np.float64), as_numpy(labels)
    found, whose = as_numpy(deidentified).astype(np.float64), as_numpy(deidentified_labels)
    if matrix.shape != (own.size, own.size) or found.shape != whose.shape:
        raise ValueError(
            f"distances {matrix.shape} and labels {own.shape}, deidentified {found.shape} and "
            f"their labels {whose.shape} do not fit"
        )
    identities, place = np.unique(own, return_inverse=True)
    at = np.searchsorted(identities, whose)
    if not np.isin(whose, identities).all():
        raise ValueError("deidentified_labels: an identity that no original has")
    by_pair = _by_pair(matrix, place, len(identities))
    sums = [np.bincount(at, found**power, len(identities)) for power in (0, 1, 2)]
    by_identity = np.stack(sums).astype(np.float64)
    generator = np.random.default_rng(seed)
    ratios = [
        _ratio(by_pair, by_identity, _weights(generator, len(identities))) for _ in range(resamples)
    ]
    told = np.array([ratio for ratio in ratios if np.isfinite(ratio)])
    return percentile_interval(told, confidence) if told.size else (np.nan, np.nan)


def _weights(generator: np.random.Generator, count: int) -> Floats:
    return np.bincount(generator.integers(count, size=count), minlength=count).astype(np.float64)


def _by_pair(matrix: Floats, place: np.ndarray, count: int) -> Floats:
    """Count, sum and sum of squares of distances of pairs of pictures, `[3, I, I]`."""
    rows, columns = np.triu_indices(len(place), 1)
    one, two = place[rows], place[columns]
    cell = np.minimum(one, two) * count + np.maximum(one, two)
    values = matrix[rows, columns]
    sums = [np.bincount(cell, values**power, count * count) for power in (0, 1, 2)]
    return np.stack(sums).astype(np.float64).reshape(3, count, count)


def _ratio(by_pair: Floats, by_identity: Floats, weights: Floats) -> float:
    genuine = np.einsum("pii,i->p", by_pair, weights)
    impostor = np.einsum("pij,i,j->p", by_pair, weights, weights)
    impostor -= np.einsum("pii,i->p", by_pair, weights**2)
    moments = [_moments(sums) for sums in (genuine, impostor, by_identity @ weights)]
    if any(np.isnan(mean) for mean, _ in moments):
        return float("nan")
    (mean_g, var_g), (mean_i, var_i), (mean_d, var_d) = moments
    if mean_g == mean_i or var_g + var_d == 0:
        return float("nan")
    spread = np.sqrt((var_g + var_i) / (var_g + var_d))
    return float(100 * (mean_g - mean_d) / (mean_g - mean_i) * spread)


def _moments(sums: Floats) -> tuple[float, float]:
    """Mean and variance of (count, sum, sum of squares)."""
    if sums[0] == 0:
        return float("nan"), float("nan")
    mean = sums[1] / sums[0]
    return float(mean), float(max(sums[2] / sums[0] - mean**2, 0.0))
