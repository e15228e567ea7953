"""1:N comparison: whose palm is this? Rank-1 and CMC from distances (smaller = more alike).

The rank of a probe is the place of its own identity among the identities of the gallery, each
standing at its nearest template. Ties count against the probe: an impostor at the same distance
goes before it, so that a recogniser whose distances are all equal has rank-1 accuracy 0, not 1.
Probes whose identity is not in the gallery have no rank; they are left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from palmforge.metrics.pairs import sort_by_label
from palmforge.metrics.scores import ArrayLike, Floats, Ints, as_numpy

RowDistances = Callable[[int, int], NDArray[Any]]


class Cmc(NamedTuple):
    """Cumulative match characteristic.

    Attributes:
        rates: [max_rank] in [0, 1]; rates[k - 1] = share of probes of rank k or better.
        num_probes: probes with a rank.
        num_excluded: probes whose identity is not in the gallery.
    """

    rates: Floats
    num_probes: int
    num_excluded: int


def ranks(distances: ArrayLike, probe_labels: ArrayLike, gallery_labels: ArrayLike) -> Ints:
    """Rank of each probe's own identity: 1 = nearest; 0 = not in the gallery.

    Args:
        distances: [P, G].
        probe_labels: [P] integers.
        gallery_labels: [G] integers.

    Returns:
        [P] int64.

    Raises:
        ValueError: shapes that do not fit, NaN or infinite distances, or an empty gallery.
    """
    matrix, probes = as_numpy(distances), as_numpy(probe_labels)
    gallery = as_numpy(gallery_labels)
    if matrix.shape != (probes.size, gallery.size):
        raise ValueError(
            f"distances {matrix.shape} do not fit {probes.size} probes, {gallery.size} gallery"
        )
    return ranks_in_blocks(lambda row, end: matrix[row:end], probes, gallery)


def ranks_in_blocks(
    distances: RowDistances,
    probe_labels: NDArray[np.integer],
    gallery_labels: NDArray[np.integer] | None = None,
    block: int = 4_000_000,
) -> Ints:
    """As `ranks`, asking for some rows of the distances at a time.

    Args:
        distances: (row, row_end) -> [rows, G].
        probe_labels: [P] integers.
        gallery_labels: [G] integers; None: leave one out, each item is compared with all others of
            the one set (P = G), never with itself.
        block: distances held at a time (at least one row).

    Returns:
        [P] int64, 0 = the identity is not in the gallery.

    Raises:
        ValueError: NaN or infinite distances, labels not 1-D integers, or an empty gallery.
    """
    alone = gallery_labels is None
    columns = probe_labels if gallery_labels is None else gallery_labels
    order, ascending = sort_by_label(columns, "gallery labels")
    in_order = bool(np.all(order[:-1] < order[1:]))  # sparing a copy of every block
    if columns.size == 0:
        raise ValueError("the gallery is empty")
    identities, first = np.unique(ascending, return_index=True)
    own = np.searchsorted(identities, probe_labels).clip(max=identities.size - 1)
    known = identities[own] == probe_labels
    found = np.zeros(probe_labels.size, np.int64)
    step = max(1, block // columns.size)
    for row in range(0, probe_labels.size, step):
        end = min(probe_labels.size, row + step)
        part = distances(row, end)
        if np.issubdtype(part.dtype, np.floating) and not np.isfinite(part).all():
            raise ValueError(f"NaN or infinite distances among those of probes {row} to {end - 1}")
        rows = np.arange(end - row)
        if alone:
            part = part.astype(np.result_type(part.dtype, np.float32))
            part[rows, np.arange(row, end)] = np.inf
        nearest = np.minimum.reduceat(part if in_order else part[:, order], first, axis=1)
        mine = nearest[rows, own[row:end]]
        found[row:end] = np.count_nonzero(nearest <= mine[:, None], axis=1)
        if alone:  # an identity with a single item has nobody left in the gallery
            known[row:end] &= np.isfinite(mine)
    return np.where(known, found, 0)


def cmc(
    distances: ArrayLike, probe_labels: ArrayLike, gallery_labels: ArrayLike, max_rank: int = 20
) -> Cmc:
    """Share of probes whose identity is among the k nearest identities, k = 1 … max_rank.

    Args:
        distances: [P, G].
        probe_labels: [P] integers.
        gallery_labels: [G] integers.
        max_rank: length of the curve.

    Raises:
        ValueError: no probe has its identity in the gallery; as in `ranks`.
    """
    return cmc_from_ranks(ranks(distances, probe_labels, gallery_labels), max_rank)


def cmc_from_ranks(found: Ints, max_rank: int = 20) -> Cmc:
    """The curve of ranks [P] that `ranks` or `ranks_in_blocks` gave.

    Raises:
        ValueError: every rank is 0, or max_rank < 1.
    """
    if max_rank < 1:
        raise ValueError(f"max_rank must be at least 1, got {max_rank}")
    known = found[found > 0]
    if known.size == 0:
        raise ValueError(f"none of {found.size} probes has its identity in the gallery")
    hits = np.bincount(np.minimum(known, max_rank + 1), minlength=max_rank + 2)[1:-1]
    return Cmc(np.cumsum(hits) / known.size, int(known.size), int(found.size - known.size))


def rank1_accuracy(
    distances: ArrayLike, probe_labels: ArrayLike, gallery_labels: ArrayLike
) -> float:
    """Share of probes whose nearest gallery template is of their own identity, in [0, 1].

    Raises:
        ValueError: as in `cmc`.
    """
    return float(cmc(distances, probe_labels, gallery_labels, max_rank=1).rates[0])


def leave_one_out_cmc(
    distances: RowDistances,
    labels: NDArray[np.integer],
    max_rank: int = 20,
    block: int = 4_000_000,
) -> Cmc:
    """CMC of one set, each item against all others, in blocks.

    Args:
        distances: (row, row_end) -> [rows, N].
        labels: [N] integers; identities with a single item are excluded and counted.
        max_rank: length of the curve.
        block: distances held at a time.

    Raises:
        ValueError: no identity has two items; NaN or infinite distances.
    """
    return cmc_from_ranks(ranks_in_blocks(distances, labels, None, block), max_rank)
