"""The biometric evaluation of a run as one torchmetrics metric, right over several processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from palmforge.metrics.comparison import ALL_PAIRS, PROBE, Comparison, Distance
from palmforge.metrics.hamming import pack_bits
from palmforge.metrics.scores import Floats, ScoreCounts


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
        resampled: key -> [bootstrap], what each resample gave at the last `compute()`.

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
        self.resampled: dict[str, Floats] = {}
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
        comparison = self._comparison()
        figures = comparison.figures()
        self._counts, self.refused = comparison.counts(), comparison.refused
        self.resampled = comparison.resampled
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
        self.refused, self.resampled, self._counts = {}, {}, None

    def _state_types(self) -> dict[str, torch.dtype]:
        codes = torch.uint8 if self.distance == "hamming" else torch.float32
        return {"codes": codes, "labels": torch.int64, "index": torch.int64, "role": torch.int64}

    def _comparison(self) -> Comparison:
        """Of all that was seen, each index once."""
        states = [getattr(self, name) for name in self._state_types()]
        if any(isinstance(state, list) and not state for state in states):
            codes, labels, role = torch.empty(0, 8), *torch.empty(2, 0, dtype=torch.int64)
        else:
            flat, labels, index, role = (dim_zero_cat(state) for state in states)
            codes = flat.reshape(len(labels), -1) if len(labels) else flat.reshape(0, 8)
            _, first = np.unique(index.cpu().numpy(), return_index=True)
            rows = torch.from_numpy(first).to(codes.device)
            codes, labels, role = codes[rows], labels[rows], role[rows]
        return Comparison(
            codes, labels.cpu().numpy(), role.cpu().numpy(), self.distance, self.fars,
            self.bootstrap, self.seed,
        )  # fmt: skip
