"""What a factory is asked for."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from palmforge.data.factory.filters import Filters
from palmforge.data.factory.plan import FactoryPlan
from palmforge.data.generation.prompts import DEFAULT_TEMPLATES, draw_prompts, read_prompts
from palmforge.errors import ConfigError

_DRAWN = 2000  # prompts of the grammar


class FactoryDataModule(L.LightningDataModule):
    """N palms × M captures for `PalmFactory`; `FactoryWriter` keeps them.

    Args:
        num_identities: N.
        captures: M, of each.
        reference_prompts: What palms are like: a text file with a prompt a line, or a list; null:
            new ones of the grammar.
        prompts: What captures are like, likewise. One is drawn for each picture.
        templates: Of the grammar: `palmforge.data.generation.prompts`.
        batch_size: Pictures at once; attempts at captures go by so many, of one palm. M, or an even
            part of it, wastes least; more than M is made in vain, each time.
        filters: What is kept.
        max_attempts: Attempts a capture that is wanted; then the palm is given up for another.
        patience: So many in a row rejected, and it stops.
        out: Where they are written; null: as `FactoryWriter.directory` says.
        shard_identities: Palms a WebDataset shard; 0: a folder of PNGs a palm.
        image_size: Pixels a side.
        seed: Of palms, prompts and noise. Linked to `seed_everything`.
    """

    def __init__(
        self,
        num_identities: int = 100,
        captures: int = 10,
        reference_prompts: str | list[str] | None = None,
        prompts: str | list[str] | None = None,
        templates: list[str] = list(DEFAULT_TEMPLATES),  # noqa: B006  (never changed)
        batch_size: int = 10,
        filters: Filters = Filters(),  # noqa: B008  (frozen)
        max_attempts: int = 5,
        patience: int = 200,
        out: str | None = None,
        shard_identities: int = 0,
        image_size: int = 512,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if shard_identities < 0:
            raise ConfigError(f"data.shard_identities must be 0 or more, got {shard_identities}")
        self.out = out
        self.shard_identities = shard_identities
        self.image_size = image_size
        drawn = draw_prompts(_DRAWN, templates, seed)
        self.plan = FactoryPlan(
            num_identities,
            captures,
            drawn if reference_prompts is None else read_prompts(reference_prompts),
            drawn if prompts is None else read_prompts(prompts),
            batch_size,
            filters,
            max_attempts,
            patience,
            seed,
        )

    def setup(self, stage: str) -> None:
        """Tells the plan who works on it.

        Raises:
            ConfigError: If it is asked for anything but `predict`.
        """
        if stage != "predict" or self.trainer is None:
            raise ConfigError("FactoryDataModule: a factory has nothing to train; use predict")
        self.plan.rank, self.plan.world_size = self.trainer.global_rank, self.trainer.world_size

    def check_kept(self) -> None:
        """When all callbacks are set up.

        Raises:
            ConfigError: If nobody keeps the pictures: the plan would wait for ever.
        """
        if not hasattr(self.plan, "load_reference"):
            raise ConfigError("trainer.callbacks: FactoryWriter is missing; it keeps the pictures")

    def predict_dataloader(self) -> DataLoader:
        """Batches of the plan, made in this process: what comes next depends on the last ones.

        Raises:
            ConfigError: As `check_kept`.
        """
        self.check_kept()
        return DataLoader(self.plan, batch_size=None, num_workers=0)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Stays on the CPU: both stages move what they need."""
        return batch
