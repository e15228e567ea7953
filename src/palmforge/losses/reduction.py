"""How a loss is added up: the paper's sums, or means that do not change with the batch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["sum", "mean"]


def reduce_sum(total: Tensor, count: int, reduction: Reduction) -> Tensor:
    """`total` itself for `"sum"`, `total / count` for `"mean"` (0 where there is nothing).

    Raises:
        ValueError: If the reduction is neither.
    """
    if reduction == "sum":
        return total
    if reduction == "mean":
        return total / max(count, 1)
    raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}")


def widen(values: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; float32 and float64 as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def row_norms(differences: Tensor) -> Tensor:
    """L2 norm of each row of `[N, B]`, in float32 at least; its gradient is 0 where the norm is."""
    with torch.autocast(differences.device.type, enabled=False):
        return torch.linalg.vector_norm(widen(differences), dim=1)
