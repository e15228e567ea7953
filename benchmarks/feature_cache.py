"""A training step of the teacher with the output of its frozen blocks from disk.

    python -m benchmarks feature_cache

The whole VGG-16, blocks 1-4 frozen, batch 16 at 128 × 128, float32, one thread.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch

from benchmarks.timing import alternate, one_thread
from palmforge.data.feature_cache import FeatureCache
from palmforge.losses.hashing import pairwise_hash_loss
from palmforge.networks.hashing import VGG16Hashing

BATCH, REPEATS = 16, 5
SMOKE = {"BATCH": 4, "REPEATS": 1}


def run() -> dict[str, Any]:
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        return _measure(folder)


def _measure(folder: str) -> dict[str, Any]:
    network = VGG16Hashing()
    network.freeze(4)
    network.train()
    images, labels = torch.rand(BATCH, 3, 128, 128), torch.arange(BATCH) // 4
    cache, keys = FeatureCache(folder, "vgg"), [str(row) for row in range(BATCH)]

    def cached() -> torch.Tensor:
        return cache.get(
            keys, lambda row: {"features": network.frozen_features(images[row : row + 1])}
        )["features"]

    def step(features) -> None:
        network.zero_grad(set_to_none=True)
        pairwise_hash_loss(network(images, features).codes, labels).backward()

    jobs = {"recomputed": lambda: step(None), "cached": lambda: step(cached())}
    seconds = alternate(jobs, REPEATS)
    stored = cached()[0].numel() * 4
    return {
        "claim": f"teacher step, frozen blocks cached vs recomputed, batch {BATCH}, 1 thread",
        "ratio": seconds["recomputed"] / seconds["cached"],
        "facts": {"on disk": f"{stored / 1024:.0f} KiB a view"},
        "seconds": seconds,
    }
