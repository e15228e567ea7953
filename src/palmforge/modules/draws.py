"""Randomness of a training step that belongs to the sample: the same on one GPU and on eight."""

from __future__ import annotations

import torch
from torch import Tensor


def generators(seeds: Tensor, stream: int = 0) -> list[torch.Generator]:
    """One generator a sample, on the CPU: its numbers do not depend on the GPU either.

    Args:
        seeds: `[N]` integers >= 0.
        stream: Another number, other draws from the same seeds.
    """
    numbers = seeds.tolist()  # at once: each look into a GPU's memory would wait for it
    return [torch.Generator().manual_seed((s << 8 | stream) % 2**63) for s in numbers]


def normal_like(like: Tensor, seeds: Tensor, stream: int = 0) -> Tensor:
    """Standard normal `[N, ...]` in float32, a row a seed, on the device of `like`."""
    rows = [torch.randn(like.shape[1:], generator=g) for g in generators(seeds, stream)]
    drawn = torch.stack(rows)
    # From pinned memory the copy does not wait for the GPU.
    return (drawn.pin_memory() if like.is_cuda else drawn).to(like.device, non_blocking=True)
