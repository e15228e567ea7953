"""A mean over samples that is the same for any number of processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class MeanByIndex(Metric):
    """The mean of one value a sample.

    DistributedSampler fills up what does not divide by the processes with repeated samples, and a
    mean of the processes' means counts those twice. Here an `index` that was seen counts once.

    Example:
        >>> metric = MeanByIndex()
        >>> metric.update(torch.tensor([1.0, 2.0]), torch.tensor([0, 1]))
        >>> metric.update(torch.tensor([6.0, 1.0]), torch.tensor([2, 0]))
        >>> metric.compute()
        tensor(3.)
    """

    full_state_update = False
    is_differentiable = False
    values: list[Tensor]
    index: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("values", default=[], dist_reduce_fx="cat")
        self.add_state("index", default=[], dist_reduce_fx="cat")

    def update(self, values: Tensor, index: Tensor) -> None:
        """Adds a batch: values `[N]`, and which samples `[N]` they are of."""
        self.values.append(values.detach().float())
        self.index.append(index)

    def compute(self) -> Tensor:
        """The mean, in the order of the samples: NaN of none."""
        if not len(self.values):
            return torch.tensor(float("nan"), device=self.device)
        values, index = dim_zero_cat(self.values), dim_zero_cat(self.index)
        order = torch.argsort(index, stable=True)
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[order][1:] != index[order][:-1]
        return values[order][first].double().mean().float()
