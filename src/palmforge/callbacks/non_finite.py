"""A loss that is NaN or infinite ends the run, with the names of the images."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from palmforge.errors import TrainingError


class StopOnNonFiniteLoss(L.Callback):
    """Checks each loss before its gradients are computed.

    No checkpoint is written on this error (`LastCheckpoint`): weights that give such a loss may be
    past use, and the one that is there is from before.
    """

    _batch: Any = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remembers the batch."""
        self._batch = batch

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        """Raises TrainingError for a loss that is not finite."""
        if torch.isfinite(loss):
            return
        records = getattr(getattr(trainer, "datamodule", None), "train", None)
        rows = self._batch["index"].tolist() if isinstance(self._batch, dict) else []
        files = [records.records[row].path for row in rows] if records is not None else rows
        raise TrainingError(
            f"the loss is {loss.item()} at step {trainer.global_step} (epoch "
            f"{trainer.current_epoch}). The batch of rank {trainer.global_rank} was:\n  "
            + "\n  ".join(map(str, files))
            + "\nLower model.lr, or look at these pictures. The last checkpoint is from before."
        )
