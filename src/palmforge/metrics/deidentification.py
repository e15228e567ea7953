"""What is left of an identity in a de-identified palm (paper 001, §III-C), and between two of them.

All take *distances* (smaller = more alike), as everything in `metrics` does: those of genuine and
impostor pairs of originals, and those of de-identified images against originals. A pair is accepted
when its distance is <= the threshold. `deidentification_ratio` and `unlinkability` come out the
same for similarities; the others do not.

The paper does not say which pairs its D_d is made of: `Pairing` has both readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from palmforge.metrics.identification import rank1_accuracy
from palmforge.metrics.pairs import sort_by_label
from palmforge.metrics.scores import ArrayLike, Floats, Ints, as_distances, as_numpy
from palmforge.metrics.verification import decidability, equal_error_rate

Pairing = Literal["own_source", "same_identity"]
MAX_BINS, MATED_IN_A_BIN = 100, 10


@dataclass(frozen=True)
class Deidentification:
    """The figures of Tables II and V for one recogniser, and what they are made of.

    Attributes:
        rejection_rate: RR in [0, 1], at `threshold`.
        ratio: DIR in percent; 100: as far from the original as a stranger.
        threshold: Of the EER among originals.
        dprime_impostor: d′(D_g, D_i) of the recogniser on originals.
        dprime_deidentified: d′(D_g, D_d).
    """

    rejection_rate: float
    ratio: float
    threshold: float
    dprime_impostor: float
    dprime_deidentified: float


@dataclass(frozen=True, eq=False)
class Unlinkability:
    """How well a distance tells whether two protected samples are of one identity.

    Attributes:
        system: D↔sys in [0, 1]; 0: unlinkable at every score, 1: linkable at every one.
        edges: [K + 1] of the bins.
        local: [K] D↔(s) in [0, 1] by bin; 0 where there is no mated pair.
        mated: [K] share of the mated pairs.
        non_mated: [K] share of the non-mated pairs.
    """

    system: float
    edges: Floats
    local: Floats
    mated: Floats
    non_mated: Floats


def deidentification_ratio(
    genuine: ArrayLike, impostor: ArrayLike, deidentified: ArrayLike
) -> float:
    """DIR = d′(D_g, D_d) / d′(D_g, D_i) · 100 %, with the sign of (μ_g − μ_d) / (μ_g − μ_i).

    Eq. 4 of paper 001, whose right side is signed where its left side is not: below 0, the
    de-identified are *nearer* to the originals than other pictures of the same palm are.

    Args:
        genuine: [G], originals of one identity.
        impostor: [I], originals of two.
        deidentified: [M], de-identified images against originals; see `deidentified_distances`.

    Returns:
        Percent. 0: like genuine pairs, 100: like impostors, above: further away than strangers.
        Infinite where neither genuine nor de-identified distances vary, and they differ.

    Raises:
        ValueError: an empty set, NaN or infinite distances, or a recogniser that gives genuine and
            impostor pairs the same mean, or tells them apart without any spread (d′ is infinite).

    Example:
        >>> round(deidentification_ratio([1, 3], [5, 9], [4, 6]), 1)
        94.9
    """
    reference = decidability(genuine, impostor)
    if reference == 0.0 or not np.isfinite(reference):
        raise ValueError(
            f"d' between genuine and impostor pairs is {reference:g}: there is no scale to "
            "measure de-identification on"
        )
    mean_g, mean_i = (float(as_numpy(d).mean()) for d in (genuine, impostor))
    mean_d = float(_some(deidentified).mean())
    away = np.sign((mean_g - mean_d) / (mean_g - mean_i))
    return 100.0 * float(away) * decidability(genuine, deidentified) / reference


def rejection_rate(deidentified: ArrayLike, threshold: float) -> float:
    """RR: the share of de-identified comparisons that are not accepted, in [0, 1].

    Args:
        deidentified: [M] distances.
        threshold: distances <= it are accepted. The paper's is that of the EER among originals:
            `equal_error_rate(genuine, impostor)[1]`.

    Raises:
        ValueError: no distances, or NaN or infinite ones, or a threshold that is NaN.
    """
    if np.isnan(threshold):
        raise ValueError("the threshold is NaN")
    found = _some(deidentified)
    return float(np.count_nonzero(found > threshold) / found.size)


def deidentification(
    genuine: ArrayLike, impostor: ArrayLike, deidentified: ArrayLike
) -> Deidentification:
    """RR at the threshold of the EER, DIR, and the d′ behind it; arguments and errors as there."""
    threshold = equal_error_rate(genuine, impostor)[1]
    return Deidentification(
        rejection_rate=rejection_rate(deidentified, threshold),
        ratio=deidentification_ratio(genuine, impostor, deidentified),
        threshold=threshold,
        dprime_impostor=decidability(genuine, impostor),
        dprime_deidentified=decidability(genuine, deidentified),
    )


def deidentified_pairs(
    sources: ArrayLike, labels: ArrayLike, pairing: Pairing
) -> tuple[Ints, Ints]:
    """Which de-identified image is compared with which original, for D_d.

    Args:
        sources: [P] row of the original that each de-identified image was made of; several may
            have one source (seeds).
        labels: [N] integers, identities of the originals. A de-identified image has its source's.
        pairing: `own_source`: each against the very picture it was made of; `same_identity`:
            against all originals of that identity, its source among them.

    Returns:
        (rows, columns): de-identified images and originals, [P] each, or more.

    Raises:
        ValueError: an unknown pairing, labels that are no integers, sources out of 0 … N - 1.
    """
    made_of, order, ascending = _sources(sources, labels)
    if pairing == "own_source":
        return np.arange(made_of.size), made_of
    if pairing != "same_identity":
        raise ValueError(f"pairing must be 'own_source' or 'same_identity', got {pairing!r}")
    own = as_numpy(labels)[made_of]
    first = np.searchsorted(ascending, own, side="left")
    counts = np.searchsorted(ascending, own, side="right") - first
    rows = np.repeat(np.arange(made_of.size), counts)
    within = np.arange(rows.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, order[first[rows] + within]


def deidentified_distances(
    distances: ArrayLike, sources: ArrayLike, labels: ArrayLike, pairing: Pairing
) -> Floats:
    """D_d, from the distances [P, N] of de-identified images to originals.

    Args:
        distances: [P, N].
        sources: [P], as in `deidentified_pairs`.
        labels: [N], as there.
        pairing: as there.

    Returns:
        [M] float64; M = P for `own_source`.

    Raises:
        ValueError: sizes that do not fit, and as there.
    """
    matrix = _matrix(distances, sources, labels)
    return matrix[deidentified_pairs(sources, labels, pairing)].astype(np.float64)


def deidentified_accuracy(
    distances: ArrayLike, sources: ArrayLike, labels: ArrayLike, with_source: bool = True
) -> float:
    """Acc: the share of de-identified probes whose nearest original is of their identity.

    Ties count against the recogniser, as in `rank1_accuracy`.

    Args:
        distances: [P, N] of de-identified probes to the gallery of originals.
        sources: [P] row of the original that each probe was made of.
        labels: [N] integers, identities of the originals.
        with_source: Whether a probe's own source is in the gallery. It is in the paper, as far as
            can be told (blurring: 100 %). Without it the question is whether the palm is known
            from *another* picture; probes whose identity has no other picture are left out.

    Returns:
        In [0, 1].

    Raises:
        ValueError: sizes that do not fit; NaN or infinite distances; no probe that counts.
    """
    matrix = _matrix(distances, sources, labels)
    made_of, _, _ = _sources(sources, labels)
    identities = as_numpy(labels)
    own = identities[made_of]
    if not with_source:
        # Further away than everything: an identity stands at its nearest picture.
        matrix = matrix.astype(np.float64)
        matrix[np.arange(made_of.size), made_of] = matrix.max(initial=0.0) + 1.0
        _, place, counts = np.unique(identities, return_inverse=True, return_counts=True)
        others = counts[place][made_of] > 1
        matrix, own = matrix[others], own[others]
    return rank1_accuracy(matrix, own, identities)


def unlinkability(
    mated: ArrayLike,
    non_mated: ArrayLike,
    prior_ratio: float = 1.0,
    bins: int | Floats | None = None,
) -> Unlinkability:
    """D↔(s) and D↔sys of Gomez-Barrero et al. 2018 (IEEE TIFS 13(6)).

    With LR(s) = p(s | mated) / p(s | non-mated): D↔(s) = 2 ω LR / (1 + ω LR) − 1 where ω LR > 1,
    else 0, and D↔sys = ∫ p(s | mated) D↔(s) ds. Densities are histograms, as in the authors' code.
    With few pairs these differ by chance, and D↔sys of pairs that cannot be linked is above 0:
    compare it with that of shuffled pairs.

    Args:
        mated: [A] distances of two de-identified images of one identity.
        non_mated: [B] of two identities.
        prior_ratio: ω = p(mated) / p(non-mated) that a linker may assume.
        bins: how many, over the range of both sets, or their edges [K + 1]; None: one for ten mated
            pairs, at most 100 (the authors').

    Raises:
        ValueError: an empty set, NaN or infinite distances, ω <= 0, or distances outside the edges.
    """
    one, two = as_distances(mated, "mated"), as_distances(non_mated, "non_mated")
    if one.size == 0 or two.size == 0 or not prior_ratio > 0.0:
        raise ValueError(
            f"{one.size} mated and {two.size} non-mated distances, prior ratio {prior_ratio:g}: "
            "some of each and a ratio above 0 are needed"
        )
    if bins is None:
        bins = max(1, min(one.size // MATED_IN_A_BIN, MAX_BINS))
    edges = np.histogram_bin_edges(np.concatenate([one, two]), bins).astype(np.float64)
    if min(one.min(), two.min()) < edges[0] or max(one.max(), two.max()) > edges[-1]:
        raise ValueError(f"bins: distances lie outside {edges[0]:g} … {edges[-1]:g}")
    p_mated = np.histogram(one, edges)[0] / one.size
    p_non_mated = np.histogram(two, edges)[0] / two.size
    # 2 ω LR / (1 + ω LR) − 1 = (ω p_m − p_n) / (ω p_m + p_n): no division by p_n.
    weighted = prior_ratio * p_mated
    both = weighted + p_non_mated
    gap = np.divide(weighted - p_non_mated, both, out=np.zeros_like(both), where=both > 0)
    local = np.maximum(gap, 0.0)
    return Unlinkability(float(p_mated @ local), edges, local, p_mated, p_non_mated)


def _some(deidentified: ArrayLike) -> Floats:
    found = as_distances(deidentified, "deidentified")
    if found.size == 0:
        raise ValueError("deidentified: no distances, there is nothing to measure")
    return found


def _sources(sources: ArrayLike, labels: ArrayLike) -> tuple[Ints, Ints, Ints]:
    """(sources, order of the originals by identity, their identities in that order)."""
    order, ascending = sort_by_label(as_numpy(labels))
    made_of = as_numpy(sources)
    if made_of.ndim != 1 or not np.issubdtype(made_of.dtype, np.integer):
        raise ValueError(f"sources must be 1-D integers, got {made_of.dtype} {made_of.shape}")
    if made_of.size and not (made_of.min() >= 0 and made_of.max() < order.size):
        raise ValueError(
            f"sources are rows of {order.size} originals, got {made_of.min()} … {made_of.max()}"
        )
    return made_of.astype(np.int64), order, ascending


def _matrix(distances: ArrayLike, sources: ArrayLike, labels: ArrayLike) -> Floats:
    matrix, wanted = as_numpy(distances), (as_numpy(sources).size, as_numpy(labels).size)
    if matrix.shape != wanted:
        raise ValueError(f"distances {matrix.shape} do not fit (sources, labels) {wanted}")
    return matrix
