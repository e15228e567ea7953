"""What the generator makes of the same words and noise, as training goes on."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from palmforge.callbacks.run_folder import run_folder, save_figure
from palmforge.data.generation.plan import image_seed
from palmforge.data.generation.prompts import draw_prompts
from palmforge.plots import montage


class SampleGrid(L.Callback):
    """With each validation, `figures/samples_<step>.png`: fixed prompts, fixed seeds.

    Processes make a share each with the modules that are in memory. Under `WeightEMA` it is the
    averages that are shown.

    Args:
        num_images: In the grid.
        prompts: They are gone through again and again; null: some of the grammar.
        batch_size: Generated at once.
        log_images: Also give it to the loggers. Off by default: generated palms may resemble those
            of people, and nothing leaves the machine unasked.
        seed: Of the start noise.
    """

    def __init__(
        self,
        num_images: int = 16,
        prompts: list[str] | None = None,
        batch_size: int = 8,
        log_images: bool = False,
        seed: int = 0,
    ) -> None:
        chosen = prompts or draw_prompts(num_images, seed=seed)
        self.prompts = [chosen[place % len(chosen)] for place in range(num_images)]
        self.batch_size = batch_size
        self.log_images = log_images
        self.seed = seed

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before `WeightEMA` takes its averages out again."""
        folder = run_folder(trainer)
        if folder is None or trainer.sanity_checking:
            return
        images = self._generated(trainer, pl_module)
        if trainer.is_global_zero:
            pixels = images.permute(0, 2, 3, 1).numpy()
            figure = montage(pixels, [""] * len(pixels))
            name = f"samples_{trainer.global_step:07d}"
            save_figure(folder, trainer, name, figure, log=self.log_images)

    def _generated(self, trainer: L.Trainer, module: Any) -> Tensor:
        """`[num_images, 3, S, S]` uint8, of all processes."""
        last, share = len(self.prompts) - 1, -(-len(self.prompts) // trainer.world_size)
        # As many on each process; the last image again where there are no more.
        mine = [min(trainer.global_rank + trainer.world_size * k, last) for k in range(share)]
        parts = [
            module.sample(
                [self.prompts[i] for i in mine[start : start + self.batch_size]],
                [image_seed(self.seed, i) for i in mine[start : start + self.batch_size]],
            )
            for start in range(0, share, self.batch_size)
        ]
        if trainer.world_size == 1:
            return torch.cat(parts)
        every = module.all_gather(torch.cat(parts).to(module.device)).cpu()
        # Image i is row i // W of process i % W.
        return every.transpose(0, 1).flatten(0, 1)[: len(self.prompts)]
