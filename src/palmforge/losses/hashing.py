"""The losses of the deep hashing network (Shao et al. 2020, §3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from palmforge.losses.reduction import Reduction, reduce_sum, row_norms, widen


def pairwise_hash_loss(
    codes: Tensor, labels: Tensor, margin: float = 180.0, reduction: Reduction = "sum"
) -> Tensor:
    """Eq. 1 over all pairs i < j: ½ S D + ½ (1 − S) max(t − D, 0).

    D is the squared Euclidean distance, for ±1 codes four times the Hamming distance. It comes
    from one matrix product, D = |x|² + |y|² − 2xy, so that memory is O(N²) and not O(N² B).

    Args:
        codes: `[N, B]` in (−1, 1).
        labels: `[N]` identities; equal means S = 1.
        margin: t, a squared Euclidean distance; 180 is 45 bits.
        reduction: `"sum"` is the paper's; `"mean"` divides by the number of pairs.

    Returns:
        Scalar; 0 for fewer than two codes.

    Raises:
        ValueError: If shapes do not fit or the reduction is unknown.
    """
    if codes.ndim != 2 or labels.shape != codes.shape[:1]:
        raise ValueError(
            f"codes [N, B] and labels [N] expected, got {tuple(codes.shape)}, {tuple(labels.shape)}"
        )
    n = codes.shape[0]
    with torch.autocast(codes.device.type, enabled=False):  # D cancels: bf16 would lose it
        codes = widen(codes)
        squares = codes.square().sum(dim=1)
        # Each pair stands twice in the N × N matrix, and the diagonal (D = 0, S = 1) adds nothing.
        distance = torch.addmm(squares[:, None] + squares[None, :], codes, codes.T, alpha=-2)
        same = labels[:, None] == labels[None, :]
        distance = distance.fill_diagonal_(0.0)
        total = torch.where(same, distance, (margin - distance).clamp_min_(0)).sum() / 4
    return reduce_sum(total, n * (n - 1) // 2, reduction)


def quantization_loss(codes: Tensor, reduction: Reduction = "sum") -> Tensor:
    """Eq. 2, ‖|h| − 1‖₂ of each image: how far codes are from ±1.

    Args:
        codes: `[N, B]` in (−1, 1).
        reduction: `"sum"` is the paper's; `"mean"` divides by N.

    Returns:
        Scalar. Its gradient at |h| = 1 is 0, where the norm has none.
    """
    return reduce_sum(row_norms(widen(codes).abs() - 1).sum(), codes.shape[0], reduction)
