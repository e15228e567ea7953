"""Randomness on the device, as a function of the step."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch

from palmforge.data.seeds import mixed_wide


class StepSeed(L.Callback):
    """Seeds torch before each training batch from (seed, epoch, batch, rank).

    Dropout then depends on where training is, not on how it got there, so that a killed run
    resumes to the same bits. (Batches and augmentation have their own seeds, see
    `palmforge.data.sampler`.)

    Args:
        seed: Linked to `seed_everything`.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seeds every device's generator."""
        # The sampler's epoch. After a second resume from an epoch's last batch, Lightning's
        # `current_epoch` is one too many.
        progress: Any = trainer.fit_loop.epoch_progress.current
        place = (self.seed, progress.processed, batch_idx, trainer.global_rank)
        torch.manual_seed(mixed_wide(*place))
