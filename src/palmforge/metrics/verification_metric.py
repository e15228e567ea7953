"""The biometric evaluation of a run as one torchmetrics metric, right over several processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from palmforge.metrics.bootstrap import (
    MAX_BINS,
    Statistic,
    bootstrap_interval,
    eer_statistic,
    identity_histograms,
    tar_statistic,
)
from palmforge.metrics.embeddings import embedding_counts, pairwise_distances
from palmforge.metrics.hamming import hamming_counts, hamming_distances, pack_bits
from palmforge.metrics.identification import ranks_in_blocks
from palmforge.metrics.scores import Floats, Ints, ScoreCounts

Distance = Literal["hamming", "euclidean", "cosine"]
ALL_PAIRS, GALLERY, PROBE = 0, 1, 2  # roles of an item


@dataclass(frozen=True)
class _Items:
    """templates [N, bytes] uint8 or [N, D] float32; labels [N] int64, ascending."""

    templates: Tensor
    labels: Ints

    def __len__(self) -> int:
        return self.labels.size

    def where(self, mask: NDArray[np.bool_]) -> _Items:
        keep = torch.from_numpy(mask).to(self.templates.device)
        return _Items(self.templates[keep], self.labels[mask])


class VerificationMetrics(Metric):
    """EER, TAR at FAR, d', AUC and rank-1 of all codes seen, in a dict of floats.

    Args:
        distance: "hamming" compares the signs of the codes, kept packed (16 bytes for 128 bits);
            "euclidean" and "cosine" compare the codes as they are.
        fars: false accept rates to report the TAR at. Those that need more impostor pairs than
            there are do not appear; `refused` says why.
        bootstrap: number of resamples of identities for 95 % intervals; 0 = none.
        seed: of the resamples.

    `compute()` returns `eer`, `eer_threshold` (in the unit of the distance: bits for "hamming"),
    `tar@far=1e-2`, … , `dprime`, `auc`, `rank1`, `num_genuine`, `num_impostor`; with `bootstrap`
    also `eer_low`, `eer_high`, `tar@far=1e-2_low`, `tar@far=1e-2_high`, … .

    What cannot be computed, because there is no genuine or no impostor pair (a sanity check on a
    batch or two), is NaN, and the TARs are refused; it is no error. Roles: all pairs among the
    items of role 0 count, and all pairs of a gallery item (1) with a probe (2). `rank1` is
    leave-one-out among role 0, and probes against gallery otherwise; probes whose identity is not
    in the gallery are left out.

    Rows with an `index` already seen are ignored: DistributedSampler fills up the last batch with
    repeated samples, so that index must number the samples of the evaluated set.

    Attributes:
        refused: key -> reason, for the FARs that the last `compute()` could not support.

    Example:
        >>> metric = VerificationMetrics(fars=(1e-1,))
        >>> codes = torch.tensor([[1.0] * 8, [1.0] * 7 + [-1.0], [-1.0] * 8, [-1.0] * 8])
        >>> metric.update(codes, torch.tensor([0, 0, 1, 1]), torch.arange(4))
        >>> metric.compute()["eer"]
        0.0
    """

    full_state_update = False
    is_differentiable = False
    codes: list[Tensor]
    labels: list[Tensor]
    index: list[Tensor]
    role: list[Tensor]

    def __init__(
        self,
        distance: Distance = "hamming",
        fars: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
        bootstrap: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if distance not in ("hamming", "euclidean", "cosine"):
            raise ValueError(f"distance must be hamming, euclidean or cosine, got {distance!r}")
        if not all(0.0 < far <= 1.0 for far in fars):
            raise ValueError(f"fars must lie in (0, 1], got {fars}")
        self.distance = distance
        self.fars = tuple(fars)
        self.bootstrap = bootstrap
        self.seed = seed
        self.refused: dict[str, str] = {}
        self._counts: ScoreCounts | None = None
        for name in self._state_types():  # codes too are kept flat, see `sync`
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self, codes: Tensor, labels: Tensor, index: Tensor, role: Tensor | None = None
    ) -> None:
        """Adds a batch.

        Args:
            codes: [N, B] floats; for "hamming" B is a multiple of 8 and the sign counts.
            labels: [N] integers, the identities.
            index: [N] integers, the number of each sample in the evaluated set.
            role: [N] integers, 0 = all pairs, 1 = gallery, 2 = probe; None: all 0.

        Raises:
            ValueError: lengths that differ, NaN or infinite codes, roles other than 0, 1, 2.
        """
        role = torch.zeros_like(labels) if role is None else role
        if codes.ndim != 2 or any(t.shape != codes.shape[:1] for t in (labels, index, role)):
            shapes = [tuple(t.shape) for t in (codes, labels, index, role)]
            raise ValueError(f"expected codes [N, B] and labels, index, role [N], got {shapes}")
        finite = torch.isfinite(codes).all(1)
        if not bool(finite.all()):
            raise ValueError(f"codes hold NaN or infinity at index {index[~finite].tolist()[:10]}")
        if not bool(((role >= ALL_PAIRS) & (role <= PROBE)).all()):
            raise ValueError("role must be 0 (all pairs), 1 (gallery) or 2 (probe)")
        codes = codes.detach()
        kept = pack_bits(codes) if self.distance == "hamming" else codes.float()
        self.codes.append(kept.flatten())
        for state, values in ((self.labels, labels), (self.index, index), (self.role, role)):
            state.append(values.detach().long())

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """As `Metric.sync`; a process without any batch joins with empty tensors of the right type.

        torchmetrics would send 1-D float32 for it, which the gather cannot match with [N, bytes]
        uint8. Flat codes have one dimension in every process, whether their width is known or not.
        """
        for name, dtype in self._state_types().items():
            if isinstance(state := getattr(self, name), list) and not state:
                state.append(torch.empty(0, dtype=dtype, device=self.device))
        super().sync(*args, **kwargs)

    def compute(self) -> dict[str, float]:
        """All figures of the samples seen by all processes; see the class."""
        singles, gallery, probes = self._items()
        counts = self._compare(singles) + self._compare(probes, gallery)
        ranks = np.concatenate([self._ranks(singles), self._ranks(probes, gallery)])
        self._counts = counts
        ranked = ranks[ranks > 0]
        figures = self._rates(counts)
        figures["rank1"] = float(np.mean(ranked == 1)) if ranked.size else float("nan")
        figures["num_genuine"] = float(counts.num_genuine)
        figures["num_impostor"] = float(counts.num_impostor)
        if self.bootstrap:
            figures |= self._intervals(singles, gallery, probes, counts)
        return figures

    def score_counts(self) -> ScoreCounts:
        """Pairs by distance, for ROC and DET figures and for keeping (`ScoreCounts.to_dict`)."""
        self.compute()  # cached, and synchronised, by torchmetrics
        if self._counts is None:
            raise RuntimeError("compute() left no counts")
        return self._counts

    def reset(self) -> None:
        """Forgets all samples and results."""
        super().reset()
        self.refused, self._counts = {}, None

    def _state_types(self) -> dict[str, torch.dtype]:
        codes = torch.uint8 if self.distance == "hamming" else torch.float32
        return {"codes": codes, "labels": torch.int64, "index": torch.int64, "role": torch.int64}

    def _items(self) -> tuple[_Items, _Items, _Items]:
        """(all pairs, gallery, probes), each index once, sorted by label, then by index."""
        states = [getattr(self, name) for name in self._state_types()]
        if any(isinstance(state, list) and not state for state in states):
            nothing = _Items(torch.empty(0, 8, dtype=torch.uint8), np.empty(0, np.int64))
            return nothing, nothing, nothing
        codes, *others = (dim_zero_cat(state) for state in states)
        labels, index, role = (values.cpu().numpy() for values in others)
        _, first = np.unique(index, return_index=True)
        rows = first[np.argsort(labels[first], kind="stable")]
        templates = codes.reshape(len(labels), -1) if len(labels) else codes.reshape(0, 8)
        items = _Items(templates[torch.from_numpy(rows).to(codes.device)], labels[rows])
        one, two, three = (items.where(role[rows] == r) for r in (ALL_PAIRS, GALLERY, PROBE))
        return one, two, three

    def _compare(self, items: _Items, gallery: _Items | None = None) -> ScoreCounts:
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

    def _row_distances(self, items: _Items, others: _Items, row: int, end: int) -> NDArray[Any]:
        rows = items.templates[row:end]
        if self.distance == "hamming":
            return hamming_distances(rows, others.templates)
        return pairwise_distances(rows, others.templates, self.distance).cpu().numpy()

    def _ranks(self, items: _Items, gallery: _Items | None = None) -> Ints:
        others = items if gallery is None else gallery
        if not len(items) or not len(others):
            return np.zeros(len(items), np.int64)
        return ranks_in_blocks(
            lambda row, end: self._row_distances(items, others, row, end),
            items.labels,
            None if gallery is None else gallery.labels,
        )

    def _rates(self, counts: ScoreCounts) -> dict[str, float]:
        self.refused = {}
        if not counts.num_genuine or not counts.num_impostor:
            kind = "impostor" if counts.num_genuine else "genuine"
            self.refused = {_tar_key(far): f"there are no {kind} pairs" for far in self.fars}
            return dict.fromkeys(("eer", "eer_threshold", "dprime", "auc"), float("nan"))
        eer, threshold = counts.equal_error_rate()
        figures = {"eer": eer, "eer_threshold": threshold}
        for far in self.fars:
            reason = counts.far_refusal(far)
            if reason is None:
                figures[_tar_key(far)] = counts.tar_at_far(far)
            else:
                self.refused[_tar_key(far)] = reason
        return figures | {"dprime": counts.decidability(), "auc": counts.auc()}

    def _intervals(
        self, singles: _Items, gallery: _Items, probes: _Items, counts: ScoreCounts
    ) -> dict[str, float]:
        statistics: dict[str, Statistic] = {"eer": eer_statistic}
        for far in self.fars:
            if _tar_key(far) not in self.refused:
                statistics[_tar_key(far)] = tar_statistic(far)
        genuine, impostor, values = self._identity_histograms(singles, gallery, probes, counts)
        figures = {}
        for key, statistic in statistics.items():
            try:
                interval = bootstrap_interval(
                    genuine, impostor, statistic, values, self.bootstrap, self.seed
                )
            except ValueError:  # too few identities to resample: no interval, but no crash
                interval = (float("nan"), float("nan"))
            figures[f"{key}_low"], figures[f"{key}_high"] = interval
        return figures

    def _identity_histograms(
        self, singles: _Items, gallery: _Items, probes: _Items, counts: ScoreCounts
    ) -> tuple[Ints, Ints, Floats]:
        """(genuine, impostor, values): [C, bins], [C, bins], [bins]."""
        everyone = np.unique(np.concatenate([i.labels for i in (singles, gallery, probes)]))
        top = float(counts.values.max(initial=1.0))
        bits = self.distance == "hamming"
        values = np.arange(int(top) + 1.0) if bits else np.linspace(0.0, top, MAX_BINS)

        def histograms(items: _Items, others: _Items | None) -> tuple[Ints, Ints]:
            def binned(row: int, end: int) -> NDArray[Any]:
                found = self._row_distances(items, items if others is None else others, row, end)
                steps = found if bits else np.ceil(found * ((MAX_BINS - 1) / top))
                return np.minimum(steps, values.size - 1).astype(np.int64)

            ids = [np.searchsorted(everyone, i.labels) for i in (items, others) if i is not None]
            columns = None if others is None else ids[1]
            return identity_histograms(binned, ids[0], columns, everyone.size, values.size)

        genuine = np.zeros((everyone.size, values.size), np.int64)
        impostor = genuine.copy()
        for items, others in ((singles, None), (probes, gallery), (gallery, probes)):
            if len(items) and (others is None or len(others)):
                found = histograms(items, others)
                impostor += found[1]
                genuine += found[0] if items is not gallery else 0  # met already from the probe
        return genuine, impostor, values


def _tar_key(far: float) -> str:
    """1e-3 -> "tar@far=1e-3"."""
    digits, exponent = f"{far:e}".split("e")
    return f"tar@far={digits.rstrip('0').rstrip('.')}e{int(exponent)}"
