"""Closed-set identification by a classifier head."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class ClassifierAccuracy(Metric):
    """Share of images whose largest logit is that of their identity.

    Each `index` counts once: a distributed sampler repeats images to give every process as many.
    Labels at or above `num_classes` (identities never trained on) do not count, nor do images whose
    logits are not finite (a classifier of other identities).
    """

    full_state_update = False
    correct: list[Tensor]
    index: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("correct", default=[], dist_reduce_fx="cat")
        self.add_state("index", default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor, index: Tensor) -> None:
        """Adds `logits [N, C]`, `labels [N]` and the images' rows `index [N]`."""
        known = (labels < logits.shape[1]) & logits.isfinite().all(dim=1)
        self.correct.append((logits.argmax(dim=1) == labels)[known].float())
        self.index.append(index[known])

    def compute(self) -> Tensor:
        """In [0, 1]; NaN where no image counts."""
        index, correct = dim_zero_cat(self.index), dim_zero_cat(self.correct)
        if index.numel() == 0:
            return torch.tensor(float("nan"))
        _, inverse = torch.unique(index, return_inverse=True)
        hits = torch.zeros(int(inverse.max()) + 1, device=correct.device)
        hits[inverse] = correct
        return hits.mean()
