"""Packed Hamming distances against float torch.cdist: 10,000 x 10,000 codes of 128 bits.

    python -m benchmarks packed_hamming

The claim is on one thread, which is what our comparison uses; torch.cdist is also timed on all
cores. Two pairs of figures are given, because torch.cdist always allocates its result (400 MB)
while an evaluation writes block after block into the same memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.timing import alternate, one_thread
from palmforge.metrics.hamming import hamming_distances, hamming_histograms, pack_codes

COUNT, BITS, REPEATS, SLOW_ROWS = 10_000, 128, 7, 1_000
SMOKE = {"COUNT": 200, "REPEATS": 1, "SLOW_ROWS": 100}


def run() -> dict[str, Any]:
    """Returns claim, ratio, target, seconds (medians of alternated runs) and further ratios."""
    with one_thread():
        return _measure()


def _measure() -> dict[str, Any]:
    signs = torch.randn(2 * COUNT, BITS, generator=torch.Generator().manual_seed(0)).sign()
    a, b = signs.split(COUNT)
    packed_a, packed_b = pack_codes(a), pack_codes(b)
    result = np.empty((COUNT, COUNT), np.uint8)
    labels = np.arange(COUNT) // 10
    bins = BITS + 1
    jobs: dict[str, Callable[[], object]] = {
        "cdist p=2": lambda: torch.cdist(a, b),
        "packed": lambda: hamming_distances(packed_a, packed_b, out=result),
        "packed, new memory": lambda: hamming_distances(packed_a, packed_b),
        "packed, counted by distance": lambda: hamming_histograms(
            packed_a, labels, packed_b, labels
        ),
    }
    seconds = alternate(jobs, REPEATS)
    np.testing.assert_allclose(
        torch.cdist(a[:100], b).square() / 4, result[:100].astype(float), atol=0.01
    )
    part = a[:SLOW_ROWS]  # these two are slow: a tenth of the rows, times ten
    slow = {
        "cdist p=1 (= 2 * Hamming)": lambda: torch.cdist(part, b, p=1),
        "cdist p=2, counted by distance": lambda: torch.histc(torch.cdist(part, b), bins, 0, 23),
    }
    scale = COUNT / SLOW_ROWS
    seconds |= {name: scale * value for name, value in alternate(slow, 3).items()}
    torch.set_num_threads(os.cpu_count() or 1)
    seconds |= alternate({"cdist p=2, all cores": lambda: torch.cdist(a, b)}, REPEATS)
    plain, packed = seconds["cdist p=2"], seconds["packed"]
    counted = seconds["packed, counted by distance"]
    ratios = {
        "packed into given memory vs cdist p=2": plain / packed,
        "packed into new memory vs cdist p=2": plain / seconds["packed, new memory"],
        "packed into given memory vs cdist p=1": seconds["cdist p=1 (= 2 * Hamming)"] / packed,
        "counted by distance, packed vs cdist p=2": seconds["cdist p=2, counted by distance"]
        / counted,
        f"packed on 1 thread vs cdist p=2 on {os.cpu_count()}": seconds["cdist p=2, all cores"]
        / packed,
    }
    return {
        "claim": f"packed Hamming vs float torch.cdist, {COUNT:,} x {COUNT:,} x 128 bits, 1 thread",
        "ratio": plain / packed,
        "target": 10.0,
        "seconds": seconds,
        "ratios": ratios,
    }
