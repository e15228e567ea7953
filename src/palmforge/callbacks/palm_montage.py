"""A look at what the network gets."""

from __future__ import annotations

from typing import Any

import lightning as L

from palmforge.callbacks.run_folder import run_folder, save_figure
from palmforge.plots import montage


class PalmMontage(L.Callback):
    """Draws the first training batch, augmentation and all, as `figures/first_batch.png`.

    Args:
        log_images: Also give it to the loggers. Palms are biometric data: off by default, and the
            picture stays in the run's folder.
        most: Images drawn.
    """

    def __init__(self, log_images: bool = False, most: int = 40) -> None:
        self.log_images = log_images
        self.most = most

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Once a run, on rank 0."""
        if trainer.global_step or batch_idx or trainer.current_epoch:
            return
        folder = run_folder(trainer)
        if folder is None or not trainer.is_global_zero:
            return
        pixels = batch["image"][: self.most].permute(0, 2, 3, 1).cpu().numpy()
        figure = montage(pixels, batch["label"][: self.most].tolist())
        save_figure(folder, trainer, "first_batch", figure, log=self.log_images)
