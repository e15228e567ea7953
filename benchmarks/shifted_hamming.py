"""Shifted Hamming distances of hand-crafted templates: 1,000 × 1,000, against the obvious ways.

    python -m benchmarks shifted_hamming

A loop in NumPy over pairs and shifts is measured on a few pairs; matrix products of ±1 (one for
each shift and channel, all pairs at once) on a few shifts; both are then scaled up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.timing import alternate, one_thread
from palmforge.recognition.shifted_hamming import pack_maps, shifted_hamming

COUNT, SIDE, SHIFT, REPEATS = 1000, 32, 4, 3
PAIRS, PRODUCTS = 20, 8
SMOKE = {"COUNT": 20, "REPEATS": 1, "PAIRS": 2, "PRODUCTS": 1}
KINDS = {"MTCC": (12, 1), "Competitive Code": (3, 3)}  # channels, how many move together


def run() -> dict[str, Any]:
    with one_thread():
        return _measure()


def _measure() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    shifts = [(y, x) for y in range(-SHIFT, SHIFT + 1) for x in range(-SHIFT, SHIFT + 1)]
    jobs: dict[str, Callable[[], object]] = {}
    scale: dict[str, float] = {}
    for name, (channels, together) in KINDS.items():
        maps = torch.rand(2 * COUNT, channels, SIDE, SIDE, generator=generator) < 0.5
        a, b = pack_maps(maps).split(COUNT)
        pairs = [(maps[i].numpy(), maps[COUNT + i].numpy()) for i in range(PAIRS)]
        found = shifted_hamming(a[:PAIRS], b[:PAIRS], SHIFT, together).diagonal()
        np.testing.assert_allclose(found, [_one(*p, shifts, together) for p in pairs], atol=1e-6)
        jobs[name] = _job(a, b, together)
        jobs[f"{name}, NumPy, pair by pair"] = _loop(pairs, shifts, together)
        jobs[f"{name}, products of ±1"] = _products(maps[:, 0], shifts[:PRODUCTS])
        scale[f"{name}, NumPy, pair by pair"] = COUNT * COUNT / PAIRS
        scale[f"{name}, products of ±1"] = channels * len(shifts) / PRODUCTS
    seconds = {name: value * scale.get(name, 1) for name, value in alternate(jobs, REPEATS).items()}
    ratios = {
        f"{name} vs {way}": seconds[f"{name}, {way}"] / seconds[name]
        for name in KINDS
        for way in ("NumPy, pair by pair", "products of ±1")
    }
    return {
        "claim": f"MTCC, {COUNT:,} × {COUNT:,} comparisons of 12 × 32 × 32 bits at 81 shifts, "
        "1 thread, vs a loop over pairs in NumPy",
        "ratio": ratios.pop("MTCC vs NumPy, pair by pair"),
        "target": 20.0,
        "ratios": ratios,
        "seconds": seconds,
    }


def _one(
    a: NDArray[np.bool_], b: NDArray[np.bool_], shifts: list[tuple[int, int]], together: int
) -> float:
    """Mean over groups of channels of the least share of differing bits; maps [C, H, W]."""
    shares = np.empty((len(shifts), len(a) // together))
    for shift, (y, x) in enumerate(shifts):
        left = a[:, max(y, 0) : SIDE + min(y, 0), max(x, 0) : SIDE + min(x, 0)]
        right = b[:, max(-y, 0) : SIDE + min(-y, 0), max(-x, 0) : SIDE + min(-x, 0)]
        differing = np.count_nonzero(left != right, axis=(1, 2)).reshape(-1, together).sum(1)
        shares[shift] = differing / (together * left[0].size)
    return float(shares.min(0).mean())


def _job(a: torch.Tensor, b: torch.Tensor, together: int) -> Callable[[], object]:
    return lambda: shifted_hamming(a, b, SHIFT, together)


def _loop(
    pairs: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
    shifts: list[tuple[int, int]],
    together: int,
) -> Callable[[], object]:
    return lambda: [_one(a, b, shifts, together) for a, b in pairs]


def _products(maps: torch.Tensor, shifts: list[tuple[int, int]]) -> Callable[[], object]:
    """One channel, all pairs: differing = (bits - a · b) / 2, and the running minimum."""
    a, b = (maps.float() * 2 - 1).split(COUNT)

    def job() -> torch.Tensor:
        best = torch.ones(COUNT, COUNT)
        for y, x in shifts:
            left = a[:, max(y, 0) : SIDE + min(y, 0), max(x, 0) : SIDE + min(x, 0)].flatten(1)
            right = b[:, max(-y, 0) : SIDE + min(-y, 0), max(-x, 0) : SIDE + min(-x, 0)].flatten(1)
            torch.minimum(best, 0.5 - (left @ right.T) / (2 * left.shape[1]), out=best)
        return best

    return job
