"""Losses of a generator on pictures, at the same noise and noise levels for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from palmforge.data.generation.prompted import NO_WORDS
from palmforge.data.progress import progress_bar
from palmforge.data.records import PalmRecord
from palmforge.data.roi_cache import RoiCache
from palmforge.evaluation.data import PalmSet
from palmforge.metrics.scores import Floats, Ints
from palmforge.modules.identity_generator import IdentityGenerator

_BATCH = 16


def losses_of(
    generator: IdentityGenerator,
    palms: PalmSet,
    records: Sequence[PalmRecord],
    levels: int = 8,
    prompt: str = NO_WORDS,
    num_workers: int = 1,
) -> Floats:
    """Mean denoising loss of each picture.

    Args:
        generator: Of a checkpoint.
        palms: The set that the pictures are of.
        records: The pictures.
        levels: Noise levels, evenly spread, each with a noise of its own.
        prompt: The words that all pictures are given.
        num_workers: Threads that cut ROIs.

    Returns:
        `[N]`.
    """
    cache = RoiCache(
        palms.data.cache_dir,
        replace(palms.cache.settings, size=generator.image_size),
        palms.cache.points,
    )
    cache.fill(records, num_threads=num_workers)
    found = []
    for start in progress_bar(range(0, len(records), _BATCH), "losses", -(-len(records) // _BATCH)):
        batch = records[start : start + _BATCH]
        rois = np.stack([cache.load(cache.key(record)) for record in batch])
        found.append(fixed_losses(generator, rois, levels, prompt))
    return np.concatenate(found).astype(np.float64)


@torch.no_grad()
def fixed_losses(
    generator: IdentityGenerator, rois: np.ndarray, levels: int, prompt: str
) -> np.ndarray:
    """`[N, S, S, 3]` uint8 → `[N]` mean loss over so many noise levels.

    The noise is that of the level, not of the picture: what differs between two pictures is the
    pictures alone.
    """
    images = torch.from_numpy(rois.transpose(0, 3, 1, 2).copy())
    count = len(generator.objective.alphas_cumprod)
    total: Tensor = torch.zeros(len(images))
    for level in range(levels):
        seeds = torch.full((len(images),), level)
        batch = generator.encoded(
            {"image": images, "prompt": [prompt] * len(images), "seed": seeds}
        )
        latents, predict = generator.objective.latents(batch), generator.predictor(batch)
        steps = torch.full((len(images),), int((level + 0.5) / levels * count))
        total += generator.objective.losses(predict, latents, seeds, steps).float().cpu()
    return (total / levels).numpy()


def evenly(records: Sequence[PalmRecord], count: int) -> list[PalmRecord]:
    """So many of the pictures, of as many identities as there are.

    Args:
        records: Sorted by identity.
        count: At the most.
    """
    turn: dict[str, int] = {}
    keyed = []
    for place, record in enumerate(records):
        keyed.append((turn.get(record.identity, 0), place))
        turn[record.identity] = turn.get(record.identity, 0) + 1
    firsts = sum(first == 0 for first, _ in keyed)
    if count < firsts:  # not the first identities by name, which may be of one place
        chosen = [place for first, place in keyed if first == 0]
        return [records[chosen[at * firsts // count]] for at in range(count)]
    return [records[place] for _, place in sorted(sorted(keyed)[:count], key=lambda one: one[1])]


def identities(records: Sequence[PalmRecord]) -> Ints:
    """`[N]` int64."""
    names = [record.identity for record in records]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
