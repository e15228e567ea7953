"""Genuine and impostor distances as counts by distinct value: the base of every error rate.

Raw distances, histograms of integer distances and streamed float distances all become a
`ScoreCounts`, so that there is one implementation of each rate and the three ways cannot disagree.
Counts are int64 and rates float64: exact up to 2^53 pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ArrayLike = NDArray[Any] | torch.Tensor | list[float] | list[int]


class DetCurve(NamedTuple):
    """Error rates by threshold, thresholds ascending; each array [K + 1], rates in [0, 1].

    The first threshold is -inf (nothing accepted: FAR 0, FRR 1), the last accepts everything.
    """

    thresholds: Floats
    far: Floats
    frr: Floats


class RocCurve(NamedTuple):
    """As `DetCurve`, with TAR = 1 - FRR."""

    thresholds: Floats
    far: Floats
    tar: Floats


def as_numpy(values: ArrayLike) -> NDArray[Any]:
    """A list, array or tensor (on any device, with or without gradient) as a NumPy array."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def as_distances(values: ArrayLike, name: str) -> Floats:
    """1-D finite float64 distances.

    Raises:
        ValueError: not one-dimensional, or NaN or infinite values in it, with their number.
    """
    array = as_numpy(values).astype(np.float64, copy=False)
    if array.ndim != 1:
        raise ValueError(f"{name}: distances must be 1-D, got shape {array.shape}")
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise ValueError(f"{name}: {bad} of {array.size} distances are NaN or infinite")
    return array


@dataclass(frozen=True, eq=False)
class ScoreCounts:
    """How many genuine and impostor pairs lie at each distinct distance (smaller = more alike).

    Attributes:
        values: [K] float64, strictly ascending distances at which there is at least one pair.
        genuine: [K] int64, pairs of the same identity at each value.
        impostor: [K] int64, pairs of different identities at each value.
    """

    values: Floats
    genuine: Ints
    impostor: Ints

    @classmethod
    def from_scores(cls, genuine: ArrayLike, impostor: ArrayLike) -> ScoreCounts:
        """From raw distances, [G] and [I], in any order.

        Raises:
            ValueError: NaN or infinite distances, or not 1-D.
        """
        values_g, counts_g = np.unique(as_distances(genuine, "genuine"), return_counts=True)
        values_i, counts_i = np.unique(as_distances(impostor, "impostor"), return_counts=True)
        values = np.union1d(values_g, values_i)
        out = np.zeros((2, values.size), np.int64)
        out[0, np.searchsorted(values, values_g)] = counts_g
        out[1, np.searchsorted(values, values_i)] = counts_i
        return cls(values, out[0], out[1])

    @classmethod
    def from_histograms(
        cls, genuine: ArrayLike, impostor: ArrayLike, values: ArrayLike | None = None
    ) -> ScoreCounts:
        """From counts by bin, [K] and [K]; bins without pairs are dropped.

        Args:
            genuine: [K] whole numbers.
            impostor: [K] whole numbers.
            values: [K] ascending distances of the bins; None: the integers 0 … K - 1.

        Raises:
            ValueError: lengths that differ, negative counts, values not ascending and finite.
        """
        counts_g, counts_i = (as_numpy(c).astype(np.int64) for c in (genuine, impostor))
        at = np.arange(counts_g.size) if values is None else as_numpy(values)
        points = as_distances(at, "values")
        if not counts_g.shape == counts_i.shape == points.shape:
            shapes = f"{points.shape}, {counts_g.shape}, {counts_i.shape}"
            raise ValueError(f"values, genuine and impostor counts must be equally long: {shapes}")
        if min(counts_g.min(initial=0), counts_i.min(initial=0)) < 0:
            raise ValueError("counts must not be negative")
        if np.any(np.diff(points) <= 0):
            raise ValueError("values must be strictly ascending")
        used = (counts_g + counts_i) > 0
        return cls(points[used], counts_g[used], counts_i[used])

    @classmethod
    def from_dict(cls, record: dict[str, list[float]]) -> ScoreCounts:
        """The inverse of `to_dict`."""
        return cls.from_histograms(record["genuine"], record["impostor"], record["values"])

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists for JSON; whole-numbered distances come as ints."""
        whole = bool(np.all(self.values == np.rint(self.values)))
        values = self.values.astype(np.int64).tolist() if whole else self.values.tolist()
        return {
            "values": values,
            "genuine": self.genuine.tolist(),
            "impostor": self.impostor.tolist(),
        }

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        """The pairs of both, for example of several domains."""
        values = np.union1d(self.values, other.values)
        out = np.zeros((2, values.size), np.int64)
        for part in (self, other):
            at = np.searchsorted(values, part.values)
            out[0, at] += part.genuine
            out[1, at] += part.impostor
        return ScoreCounts(values, out[0], out[1])

    @property
    def num_genuine(self) -> int:
        """Pairs of the same identity."""
        return int(self.genuine.sum())

    @property
    def num_impostor(self) -> int:
        """Pairs of different identities."""
        return int(self.impostor.sum())

    def det_curve(self) -> DetCurve:
        """FAR(t) = share of impostors at t or below; FRR(t) = share of genuine pairs above t.

        Raises:
            ValueError: no genuine or no impostor pairs.
        """
        self._require_pairs()
        # Whole counts first and one division each: equal ratios become equal floats (1/3 == 2/6),
        # which the test for FAR == FRR in `equal_error_rate` relies on.
        accepted_impostor = np.concatenate(([0], np.cumsum(self.impostor)))
        accepted_genuine = np.concatenate(([0], np.cumsum(self.genuine)))
        far = accepted_impostor / accepted_impostor[-1]
        frr = (accepted_genuine[-1] - accepted_genuine) / accepted_genuine[-1]
        return DetCurve(np.concatenate(([-np.inf], self.values)), far, frr)

    def roc_curve(self) -> RocCurve:
        """As `det_curve`, with TAR = 1 - FRR."""
        thresholds, far, frr = self.det_curve()
        return RocCurve(thresholds, far, 1.0 - frr)

    def equal_error_rate(self) -> tuple[float, float]:
        """EER in [0, 1] and its threshold; see `verification.equal_error_rate`."""
        thresholds, far, frr = self.det_curve()
        gap = far - frr  # ascends strictly from -1 to 1: every value holds at least one pair
        after = int(np.searchsorted(gap, 0.0))
        if gap[after] == 0.0:  # both rates stay as they are up to the next value: the middle
            return float(far[after]), float((thresholds[after] + thresholds[after + 1]) / 2)
        before = after - 1
        share = -gap[before] / (gap[after] - gap[before])
        eer = far[before] + share * (far[after] - far[before])
        if before == 0:  # crossed within the first value: there is no threshold below it
            return float(eer), float(thresholds[after])
        step = thresholds[after] - thresholds[before]
        return float(eer), float(thresholds[before] + share * step)

    def far_refusal(self, far: float) -> str | None:
        """Why these pairs cannot support a figure at this FAR; None when they can.

        Raises:
            ValueError: far not in (0, 1].
        """
        if not 0.0 < far <= 1.0:
            raise ValueError(f"far must lie in (0, 1], got {far}")
        pairs = self.num_impostor
        if pairs == 0 or 1.0 / pairs > far:
            return f"FAR {far:g} needs at least {1 / far:,.0f} impostor pairs, there are {pairs:,}"
        return None

    def threshold_at_far(self, far: float) -> float:
        """The largest of the distances at which the FAR is still <= far (-inf: none is).

        Raises:
            ValueError: too few impostor pairs for this FAR, no genuine pairs, far not in (0, 1].
        """
        self._refuse(far)
        return float(self.det_curve().thresholds[self._last_within(far)])

    def tar_at_far(self, far: float) -> float:
        """TAR in [0, 1] at that threshold; see `verification.tar_at_far`."""
        self._refuse(far)
        return self.tar_within(far)

    def tar_within(self, far: float) -> float:
        """`tar_at_far` for resamples, whose numbers of pairs vary: refuses nothing."""
        return float(self.roc_curve().tar[self._last_within(far)])

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """(FAR, FRR) when distances <= threshold are accepted: a threshold fixed elsewhere."""
        thresholds, far, frr = self.det_curve()
        at = int(np.searchsorted(thresholds, threshold, side="right")) - 1
        return float(far[at]), float(frr[at])

    def auc(self) -> float:
        """P(genuine < impostor) + ½ P(equal): the area under the ROC curve, in [0, 1]."""
        _, far, tar = self.roc_curve()
        return float(np.trapezoid(tar, far))

    def decidability(self) -> float:
        """Decidability d' >= 0; see `verification.decidability`."""
        self._require_pairs()
        mean_g, var_g = _mean_and_variance(self.values, self.genuine)
        mean_i, var_i = _mean_and_variance(self.values, self.impostor)
        spread = np.sqrt((var_g + var_i) / 2)
        if spread == 0.0:
            return 0.0 if mean_g == mean_i else float("inf")
        return float(abs(mean_g - mean_i) / spread)

    def _last_within(self, far: float) -> int:
        """Index on the curve of the largest threshold whose FAR is <= far."""
        return int(np.searchsorted(self.det_curve().far, far, side="right")) - 1

    def _refuse(self, far: float) -> None:
        self._require_pairs()
        reason = self.far_refusal(far)
        if reason is not None:
            raise ValueError(reason)

    def _require_pairs(self) -> None:
        for name, count in (("genuine", self.num_genuine), ("impostor", self.num_impostor)):
            if count == 0:
                raise ValueError(f"no {name} pairs: error rates need both kinds")


def _mean_and_variance(values: Floats, counts: Ints) -> tuple[float, float]:
    mean = float(np.dot(values, counts) / counts.sum())
    variance = float(np.dot((values - mean) ** 2, counts) / counts.sum())
    return mean, variance
