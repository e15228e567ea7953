"""Who is compared with whom, and every figure of it: the evaluation behind a test run and a report.

Templates come with a distance of their own: packed bits, embeddings, or whatever a recogniser
makes of a palm. Nothing of size [N, N] is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from palmforge.metrics.bootstrap import (
    MAX_BINS,
    Statistic,
    bootstrap_values,
    eer_statistic,
    identity_histograms,
    percentile_interval,
    tar_statistic,
)
from palmforge.metrics.embeddings import PairDistance, embedding_counts, pairwise_distances
from palmforge.metrics.hamming import hamming_counts, hamming_distances
from palmforge.metrics.identification import ranks_in_blocks
from palmforge.metrics.scores import Floats, Ints, ScoreCounts

Distance = Literal["hamming", "euclidean", "cosine"]
ALL_PAIRS, GALLERY, PROBE = 0, 1, 2  # roles of an item


@dataclass(frozen=True)
class Items:
    """Templates with their identities.

    Attributes:
        templates: [N, …]; [N, bytes] uint8 for "hamming", [N, D] float32 for the others.
        labels: [N] int64, ascending.
        rows: [N] int64, where each stood in what was given.
    """

    templates: Tensor
    labels: Ints
    rows: Ints

    def __len__(self) -> int:
        return self.labels.size


class ExtremePair(NamedTuple):
    """Two items, by their places in what was given, and how far apart they are."""

    first: int
    second: int
    distance: float


class Searches(NamedTuple):
    """What came out when each probe was searched for in the gallery.

    Attributes:
        mated: [N] distance of a probe to the nearest image of its own, enrolled identity.
        ranks: [N] int64, the place of that identity; 1 = nobody else is as near.
        nonmated: [M] distance to the nearest image, of probes whose identity is not enrolled.
    """

    mated: Floats
    ranks: Ints
    nonmated: Floats


class Comparison:
    """The pairs of a test set.

    Args:
        templates: [N, …].
        labels: [N] integers, the identities.
        role: [N] integers; all pairs among the items of role 0 count, and all pairs of a gallery
            item (1) with a probe (2). None: all 0.
        distance: "hamming" between packed bits, "euclidean" or "cosine" between floats, or a
            function ([A, …], [B, …]) → [A, B] float32 ≥ 0, smaller = more alike.
        fars: False accept rates to report the TAR at, and to be exact at where pairs are streamed.
        intervals: Resamples of identities for 95 % intervals; 0 = none.
        seed: Of the resamples.

    Attributes:
        refused: key → reason, for the FARs that the pairs cannot support.
        resampled: key → `[intervals]`, what each resample gave (`bootstrap_values`).

    Raises:
        ValueError: lengths that differ, or roles other than 0, 1, 2.
    """

    def __init__(
        self,
        templates: Tensor,
        labels: NDArray[np.integer],
        role: NDArray[np.integer] | None = None,
        distance: Distance | PairDistance = "hamming",
        fars: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        intervals: int = 0,
        seed: int = 0,
    ) -> None:
        role = np.zeros(len(labels), np.int64) if role is None else role
        if not len(templates) == len(labels) == len(role):
            raise ValueError(f"{len(templates)} templates, {len(labels)} labels, {len(role)} roles")
        if not np.isin(role, (ALL_PAIRS, GALLERY, PROBE)).all():
            raise ValueError("role must be 0 (all pairs), 1 (gallery) or 2 (probe)")
        self.distance = distance
        self.fars = tuple(fars)
        self.resamples = intervals
        self.seed = seed
        self.refused: dict[str, str] = {}
        self.resampled: dict[str, Floats] = {}
        self.singles, self.gallery, self.probes = (
            _items(templates, labels, role == wanted) for wanted in (ALL_PAIRS, GALLERY, PROBE)
        )
        self._counts: ScoreCounts | None = None
        self._ranks: Ints | None = None
        self._searches: Searches | None = None

    def figures(self) -> dict[str, float]:
        """`eer`, `eer_threshold`, `tar@far=1e-2`, …, `dprime`, `auc`, `rank1`, numbers of pairs.

        With `intervals` also `eer_low`, `eer_high` and so on. What cannot be computed because there
        is no genuine or no impostor pair is NaN, and its TARs are in `refused`.
        """
        counts = self.counts()
        figures = self._rates(counts)
        figures["rank1"] = self.rank1()
        figures["num_genuine"] = float(counts.num_genuine)
        figures["num_impostor"] = float(counts.num_impostor)
        if self.resamples:
            figures |= self._intervals(counts)
        return figures

    def counts(self) -> ScoreCounts:
        """Genuine and impostor pairs by distance."""
        if self._counts is None:
            among = self._compare(self.singles)
            self._counts = among + self._compare(self.probes, self.gallery)
        return self._counts

    def ranks(self) -> Ints:
        """Rank of each item's own identity: leave-one-out among role 0, then probes in the gallery.

        0 where the identity has no other item.
        """
        if self._ranks is None:
            alone, others = self._ranks_in(self.singles), self._ranks_in(self.probes, self.gallery)
            self._ranks = np.concatenate([alone, others])
        return self._ranks

    def rank1(self) -> float:
        """Share of rank 1 among the items that have a rank, in [0, 1]; NaN if none has."""
        ranked = self.ranks()
        ranked = ranked[ranked > 0]
        return float(np.mean(ranked == 1)) if ranked.size else float("nan")

    def searches(self, block: int = 4_000_000) -> Searches:
        """Every probe against the gallery (ISO/IEC 19795-1: mated and non-mated searches).

        Args:
            block: Distances held at a time (at least one row).

        Raises:
            ValueError: there is no gallery or no probe; NaN or infinite distances.
        """
        if self._searches is None:
            self._searches = self._search(block)
        return self._searches

    def _search(self, block: int) -> Searches:
        items, others = self.probes, self.gallery
        if not len(items) or not len(others):
            raise ValueError(f"{len(items)} probes, {len(others)} gallery images: nothing to find")
        identities, first = np.unique(others.labels, return_index=True)
        own = np.searchsorted(identities, items.labels).clip(max=identities.size - 1)
        enrolled = identities[own] == items.labels
        mine, top = np.empty(len(items)), np.empty(len(items))
        ranks = np.zeros(len(items), np.int64)
        step = max(1, block // len(others))
        for row in range(0, len(items), step):
            end = min(len(items), row + step)
            found = self.row_distances(items, others, row, end)
            if not np.isfinite(found).all():
                raise ValueError(f"NaN or infinite distances of probes {row} to {end - 1}")
            nearest = np.minimum.reduceat(found, first, axis=1)
            mine[row:end] = nearest[np.arange(end - row), own[row:end]]
            ranks[row:end] = np.count_nonzero(nearest <= mine[row:end, None], axis=1)
            top[row:end] = nearest.min(axis=1)
        return Searches(mine[enrolled], ranks[enrolled], top[~enrolled])

    def row_distances(self, items: Items, others: Items, row: int, end: int) -> NDArray[Any]:
        """[rows, M] distances of some items to all others."""
        part = items.templates[row:end]
        if self.distance == "hamming":
            return hamming_distances(part, others.templates)
        if callable(self.distance):
            return self.distance(part, others.templates).cpu().numpy()
        return pairwise_distances(part, others.templates, self.distance).cpu().numpy()

    def extreme_pairs(
        self, count: int, block: int = 2_000_000
    ) -> tuple[list[ExtremePair], list[ExtremePair]]:
        """The genuine pairs farthest apart and the impostor pairs nearest, the worst first.

        Args:
            count: Of each; an identity, or a pair of identities, comes once.
            block: Distances held at a time (at least one row).
        """
        worst: list[tuple[float, int, int]] = []
        best: list[tuple[float, int, int]] = []
        for items, others in ((self.singles, self.singles), (self.probes, self.gallery)):
            step = max(1, block // max(1, len(others)))
            for row in range(0, len(items) if len(others) else 0, step):
                end = min(len(items), row + step)
                found = self.row_distances(items, others, row, end).astype(np.float64)
                same = items.labels[row:end, None] == others.labels
                if others is items:  # each pair once, and no item with itself
                    found[np.arange(len(others)) <= np.arange(row, end)[:, None]] = np.nan
                worst += _top(np.where(same, -found, np.nan), items, others, row, 8 * count)
                best += _top(np.where(same, np.nan, found), items, others, row, 8 * count)
        labels = np.concatenate([i.labels for i in self._all()])
        label_of = dict(zip(np.concatenate([i.rows for i in self._all()]), labels, strict=True))
        return _distinct(worst, label_of, count), _distinct(best, label_of, count)

    def _all(self) -> tuple[Items, Items, Items]:
        return self.singles, self.gallery, self.probes

    def _compare(self, items: Items, gallery: Items | None = None) -> ScoreCounts:
        if not len(items) or (gallery is not None and not len(gallery)):
            return ScoreCounts.from_histograms([], [])
        others = (None, None) if gallery is None else (gallery.templates, gallery.labels)
        if self.distance == "hamming":
            return hamming_counts(items.templates, items.labels, *others)
        return embedding_counts(
            items.templates,
            items.labels,
            gallery=others[0],
            gallery_labels=others[1],
            distance=self.distance,
            fars=self.fars,
        )

    def _ranks_in(self, items: Items, gallery: Items | None = None) -> Ints:
        others = items if gallery is None else gallery
        if not len(items) or not len(others):
            return np.zeros(len(items), np.int64)
        return ranks_in_blocks(
            lambda row, end: self.row_distances(items, others, row, end),
            items.labels,
            None if gallery is None else gallery.labels,
        )

    def _rates(self, counts: ScoreCounts) -> dict[str, float]:
        self.refused = {}
        if not counts.num_genuine or not counts.num_impostor:
            kind = "impostor" if counts.num_genuine else "genuine"
            self.refused = {tar_key(far): f"there are no {kind} pairs" for far in self.fars}
            return dict.fromkeys(("eer", "eer_threshold", "dprime", "auc"), float("nan"))
        eer, threshold = counts.equal_error_rate()
        figures = {"eer": eer, "eer_threshold": threshold}
        for far in self.fars:
            reason = counts.far_refusal(far)
            if reason is None:
                figures[tar_key(far)] = counts.tar_at_far(far)
            else:
                self.refused[tar_key(far)] = reason
        return figures | {"dprime": counts.decidability(), "auc": counts.auc()}

    def _intervals(self, counts: ScoreCounts) -> dict[str, float]:
        statistics: dict[str, Statistic] = {"eer": eer_statistic}
        for far in self.fars:
            if tar_key(far) not in self.refused:
                statistics[tar_key(far)] = tar_statistic(far)
        genuine, impostor, values = self._identity_histograms(counts)
        figures = {}
        for key, statistic in statistics.items():
            try:
                self.resampled[key] = bootstrap_values(
                    genuine, impostor, statistic, values, self.resamples, self.seed
                )
                interval = percentile_interval(self.resampled[key])
            except ValueError:  # too few identities to resample: no interval, but no crash
                interval = (float("nan"), float("nan"))
            figures[f"{key}_low"], figures[f"{key}_high"] = interval
        return figures

    def _identity_histograms(self, counts: ScoreCounts) -> tuple[Ints, Ints, Floats]:
        """(genuine, impostor, values): [C, bins], [C, bins], [bins]."""
        everyone = np.unique(np.concatenate([items.labels for items in self._all()]))
        top = float(counts.values.max(initial=1.0))
        bits = self.distance == "hamming"
        values = np.arange(int(top) + 1.0) if bits else np.linspace(0.0, top, MAX_BINS)

        def histograms(items: Items, others: Items | None) -> tuple[Ints, Ints]:
            def binned(row: int, end: int) -> NDArray[Any]:
                found = self.row_distances(items, items if others is None else others, row, end)
                steps = found if bits else np.ceil(found * ((MAX_BINS - 1) / top))
                return np.minimum(steps, values.size - 1).astype(np.int64)

            ids = [np.searchsorted(everyone, i.labels) for i in (items, others) if i is not None]
            columns = None if others is None else ids[1]
            return identity_histograms(binned, ids[0], columns, everyone.size, values.size)

        genuine = np.zeros((everyone.size, values.size), np.int64)
        impostor = genuine.copy()
        singles, gallery, probes = self._all()
        for items, others in ((singles, None), (probes, gallery), (gallery, probes)):
            if len(items) and (others is None or len(others)):
                found = histograms(items, others)
                impostor += found[1]
                genuine += found[0] if items is not gallery else 0  # met already from the probe
        return genuine, impostor, values


def tar_key(far: float) -> str:
    """1e-3 → "tar@far=1e-3"."""
    digits, exponent = f"{far:e}".split("e")
    return f"tar@far={digits.rstrip('0').rstrip('.')}e{int(exponent)}"


def _items(templates: Tensor, labels: NDArray[np.integer], mask: NDArray[np.bool_]) -> Items:
    rows = np.flatnonzero(mask)
    rows = rows[np.argsort(labels[rows], kind="stable")]
    chosen = torch.from_numpy(rows).to(templates.device)
    return Items(templates[chosen], np.asarray(labels)[rows].astype(np.int64), rows)


def _top(
    found: NDArray[np.float64], items: Items, others: Items, row: int, count: int
) -> list[tuple[float, int, int]]:
    """The smallest of `found` [rows, M] that are no NaN: (value, first, second)."""
    flat = found.ravel()
    there = np.flatnonzero(~np.isnan(flat))
    if there.size > count:
        there = there[np.argpartition(flat[there], count)[:count]]
    first, second = np.divmod(there, len(others))
    pairs = zip(items.rows[row + first], others.rows[second], strict=True)
    return [(float(flat[at]), int(a), int(b)) for at, (a, b) in zip(there, pairs, strict=True)]


def _distinct(
    found: list[tuple[float, int, int]], label_of: dict[int, int], count: int
) -> list[ExtremePair]:
    """The first of each pair of identities."""
    kept: dict[tuple[int, int], ExtremePair] = {}
    for value, a, b in sorted(found):
        low, high = sorted((label_of[a], label_of[b]))
        kept.setdefault((low, high), ExtremePair(a, b, abs(value)))
        if len(kept) == count:
            break
    return list(kept.values())
