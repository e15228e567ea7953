"""The pairwise hash loss on 256 codes, forward and backward.

    python -m benchmarks hash_loss

Against Eq. 1 as a Python double loop, and against the two all-pairs ways that come to mind: a
broadcast difference [N, N, B], and torch.cdist.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import alternate, one_thread
from palmforge.losses.hashing import pairwise_hash_loss

CODES, BITS, MARGIN, REPEATS = 256, 128, 180.0, 30
SMOKE = {"CODES": 16, "REPEATS": 1}


def double_loop(codes: Tensor, labels: Tensor) -> Tensor:
    total = codes.new_zeros(())
    for i in range(len(codes)):
        for j in range(i + 1, len(codes)):
            distance = (codes[i] - codes[j]).square().sum()
            if labels[i] == labels[j]:
                total = total + distance / 2
            else:
                total = total + (MARGIN - distance).clamp_min(0) / 2
    return total


def all_pairs(codes: Tensor, labels: Tensor, distance: Tensor) -> Tensor:
    same = labels[:, None] == labels[None, :]
    return (torch.where(same, distance, (MARGIN - distance).clamp_min(0)) / 2).triu(1).sum()


def broadcast(codes: Tensor, labels: Tensor) -> Tensor:
    return all_pairs(codes, labels, (codes[:, None] - codes[None]).square().sum(-1))


def by_cdist(codes: Tensor, labels: Tensor) -> Tensor:
    return all_pairs(codes, labels, torch.cdist(codes, codes).square())


def run() -> dict[str, Any]:
    with one_thread():
        return _measure()


def _measure() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    codes = torch.tanh(torch.randn(CODES, BITS, generator=generator)).requires_grad_()
    labels = torch.arange(CODES) // 4

    def step(loss):
        def job():
            codes.grad = None
            loss(codes, labels).backward()

        return job

    ours = step(lambda c, y: pairwise_hash_loss(c, y, MARGIN))
    jobs = {"ours": ours, "broadcast": step(broadcast), "cdist": step(by_cdist)}
    seconds = alternate(jobs, REPEATS)
    start = time.perf_counter()
    double_loop(codes, labels).backward()
    seconds["Python double loop"] = time.perf_counter() - start
    torch.testing.assert_close(
        double_loop(codes, labels), pairwise_hash_loss(codes, labels, MARGIN)
    )
    return {
        "claim": f"hash loss and gradient of {CODES} codes, vs a Python double loop, 1 thread",
        "ratio": seconds["Python double loop"] / seconds["ours"],
        "target": 50.0,
        "ratios": {
            f"vs {name}": seconds[name] / seconds["ours"] for name in ("broadcast", "cdist")
        },
        "facts": {
            f"largest allocation, {name}": f"{_largest(job) / 2**20:.2f} MiB"
            for name, job in jobs.items()
        },
        "seconds": seconds,
    }


def _largest(job) -> int:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        job()
    return max(event.cpu_memory_usage for event in profiled.events())
