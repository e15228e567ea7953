"""What `predict` generates: which image has which prompt and seed, in batches that never change."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable, Iterable, Sequence, Set
from typing import Any

import torch
from torch.utils.data import Dataset

from palmforge.data.seeds import mixed_wide
from palmforge.errors import ConfigError


class GenerationPlan(Dataset[dict[str, Any]]):
    """Whole batches of images to generate, for a DataLoader with `batch_size=None`.

    Image i has the prompt `prompts[i % len(prompts)]` and a seed that is a function of (seed, i)
    alone. Batch b holds the images b · B … (b + 1) · B − 1, whatever the number of processes and
    whatever is done already: what a kernel gives for one image may depend on the others of its
    batch. The last batch is as large, beyond `num_images`, so that a larger set has the
    pictures of a smaller one; who writes leaves these out.

    An item is `{"index": [B] int64, "prompt": B strings, "seed": [B] int64}`.

    Attributes:
        batches: Those that are left to do, by number.

    Args:
        prompts: At least one; the identities go through them again and again.
        num_images: Images.
        batch_size: B.
        seed: >= 0; each image's seed follows from it.

    Raises:
        ConfigError: If there is no prompt, or a number is out of range.
    """

    def __init__(
        self, prompts: Sequence[str], num_images: int, batch_size: int, seed: int = 0
    ) -> None:
        if not prompts:
            raise ConfigError("data.prompts: at least one prompt is needed to generate from")
        if min(num_images, batch_size) < 1 or seed < 0:
            raise ConfigError(
                "data.num_identities and the batch size must be >= 1, the seed >= 0, got "
                f"{num_images}, {batch_size}, {seed}"
            )
        self.prompts = list(prompts)
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.batches = list(range(math.ceil(num_images / batch_size)))

    def leave_out(self, done: set[int], at_least: int = 1) -> None:
        """Drops the batches whose images are all there.

        Args:
            done: Indices of images.
            at_least: Processes. Where fewer batches are left, but any, they are repeated up to this
                number: Lightning wants a batch for each process, and makes the same picture twice
                rather than hang.
        """
        every = range(math.ceil(self.num_images / self.batch_size))
        self.batches = left_over(map(self.indices, every), done, at_least)

    def indices(self, batch: int) -> range:
        """The images of a batch that belong to the set."""
        first = batch * self.batch_size
        return range(first, min(first + self.batch_size, self.num_images))

    def file(self, index: int) -> str:
        """Where an image is written, relative to the set: `identity/image`."""
        return f"{self.identity(index):06d}/{self.capture(index):03d}.png"

    def identity(self, index: int) -> int:
        """The palm of an image: each is one of its own."""
        return index

    def capture(self, index: int) -> int:
        """Which image of its palm it is."""
        return 0

    def columns(self, index: int) -> dict[str, str | int]:
        """What the manifest says of an image besides; a set is not added to if it differs."""
        return {}

    def settings(self) -> dict[str, str | int]:
        """What decides the pictures: not how many there are."""
        text = json.dumps(self.prompts).encode()
        return {
            "prompts_sha256": hashlib.sha256(text).hexdigest(),
            "seed": self.seed,
            "batch_size": self.batch_size,
        }

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, place: int) -> dict[str, Any]:
        first = self.batches[place] * self.batch_size
        index = range(first, first + self.batch_size)
        return {
            "index": torch.tensor(index),
            "prompt": [self.prompts[i % len(self.prompts)] for i in index],
            "seed": torch.tensor([image_seed(self.seed, i) for i in index]),
        }


def left_over(
    members: Iterable[Iterable[Hashable]], done: Set[Hashable], at_least: int = 1
) -> list[int]:
    """Numbers of the batches that are not all done.

    Args:
        members: Of each batch, what is in it.
        done: What is.
        at_least: Processes. Where fewer batches are left, but any, they are repeated up to this
            number: Lightning wants a batch for each.
    """
    left = [number for number, own in enumerate(members) if not done >= set(own)]
    if not left:
        return []
    return [left[place % len(left)] for place in range(max(at_least, len(left)))]


def image_seed(seed: int, index: int) -> int:
    """The seed of an image, in [0, 2^63): a pure function of the plan's seed and its index."""
    return mixed_wide(seed, index)
