"""P × K batches as a pure function of (seed, epoch), cut over any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, DistributedSampler

from palmforge.errors import ConfigError

Item = tuple[int, int] | tuple[int, int, float]


class IdentityBatchSampler(DistributedSampler[Item]):
    """Yields (row, augmentation seed), P identities × K images after another.

    With `ramp_steps` also how far the augmentation goes, which is a function of the step.

    A *flat* sampler that is a `DistributedSampler`: Lightning leaves it alone and calls its
    `set_epoch`, which never reaches an object given as `batch_sampler=`. With a batch size of
    P·K / processes each process takes every W-th identity of the group, whole; so the global batch
    is the same for any number of processes and workers.

    An epoch shows each identity once, in a random order; what does not fill a group is left out.

    Args:
        labels: `[N]`, the identity of each row.
        identities_per_batch: P, in the global batch.
        images_per_identity: K. Rows are drawn without replacement where an identity has K.
        seed: With the epoch, decides everything.
        rank: This process.
        world_size: W; must divide P.
        ramp_steps: Steps over which the augmentation grows evenly from nothing to all of it.
        least_identities: P must not be smaller: pairs of different palms need two.
        setting: What the user calls P, for messages.

    Raises:
        ConfigError: If P does not fit.
    """

    def __init__(
        self,
        labels: Sequence[int],
        identities_per_batch: int,
        images_per_identity: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        ramp_steps: int = 0,
        least_identities: int = 2,
        setting: str = "data.identities_per_batch",
    ) -> None:
        super().__init__(labels, num_replicas=world_size, rank=rank, seed=seed)  # type: ignore[arg-type]
        table = np.asarray(labels)
        self.pools = [np.flatnonzero(table == label) for label in np.unique(table)]
        if identities_per_batch < least_identities or images_per_identity < 1:
            raise ConfigError(
                f"{setting} must be {least_identities} or more and "
                "data.images_per_identity 1 or more, got "
                f"{identities_per_batch} and {images_per_identity}"
            )
        if identities_per_batch > len(self.pools):
            raise ConfigError(
                f"{setting}: {identities_per_batch} are asked for, the training set has "
                f"{len(self.pools)} identities"
            )
        if identities_per_batch % world_size:
            raise ConfigError(
                f"{setting}: {identities_per_batch} (of the global batch) cannot "
                f"be dealt out to {world_size} processes; take a multiple"
            )
        self.identities = identities_per_batch
        self.images = images_per_identity
        self.ramp_steps = ramp_steps
        self.steps = len(self.pools) // identities_per_batch
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch. A new one begins at its first step."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return self.steps * self.identities * self.images // self.num_replicas

    def __iter__(self) -> Iterator[Item]:
        rng = np.random.default_rng([self.seed, self.epoch])
        plan = rng.permutation(len(self.pools))[: self.steps * self.identities]
        for step, group in enumerate(plan.reshape(self.steps, self.identities)):
            rows = np.stack([self._draw(rng, self.pools[identity]) for identity in group])
            seeds = rng.integers(2**31, size=rows.shape)
            if step >= self.start:
                mine = slice(self.rank, None, self.num_replicas)
                items = zip(rows[mine].ravel().tolist(), seeds[mine].ravel().tolist(), strict=True)
                if not self.ramp_steps:
                    yield from items
                    continue
                strength = min(1.0, (self.epoch * self.steps + step) / self.ramp_steps)
                yield from ((row, own, strength) for row, own in items)

    def _draw(self, rng: np.random.Generator, pool: np.ndarray) -> np.ndarray:
        return rng.choice(pool, self.images, replace=len(pool) < self.images)


class ResumableLoader(DataLoader):
    """A `DataLoader` over an `IdentityBatchSampler` that goes on in mid-epoch.

    Lightning saves `state_dict` with a checkpoint and hands it back on resume.
    """

    done = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator starts at the first next(), which is after Lightning's set_epoch. An eager
        # __iter__ with workers replays epoch 0 after a resume (Lightning #21938).
        self.done = self.sampler.start  # type: ignore[attr-defined]
        for batch in super().__iter__():
            self.done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch and the number of batches of it that were handed out."""
        return {"epoch": self.sampler.epoch, "done": self.done}  # type: ignore[attr-defined]

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on where `state_dict` was taken."""
        self.sampler.epoch, self.sampler.start = state["epoch"], state["done"]  # type: ignore[attr-defined]
        self.done = state["done"]
