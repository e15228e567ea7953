"""What the modules have in common that train a part of a large model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from palmforge.errors import CheckpointError
from palmforge.metrics.mean_by_index import MeanByIndex
from palmforge.modules.objective import Objective
from palmforge.modules.schedule import Schedule, scheduled
from palmforge.networks.sharded_tensors import grad_norm

Batch = dict[str, Any]


class TrainedPart(L.LightningModule):
    """A diffusion model of which some weights are trained, and are all that a checkpoint holds.

    A subclass builds the whole in `configure_model`, with `objective`, and tells in `architecture`
    what it is built from.

    Args:
        optimizer: Class and arguments, its learning rate the peak.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it.
    """

    strict_loading = False  # checkpoints hold what is trained
    adapter_setting: ClassVar[str]  # by which other weights would be trained

    objective: Objective

    def __init__(
        self, optimizer: OptimizerCallable, warmup_steps: int, lr_schedule: Schedule
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.warmup_steps = warmup_steps
        self.lr_schedule = lr_schedule
        self.fixed_loss = torch.nn.ModuleDict({"val": MeanByIndex(), "test": MeanByIndex()})

    def architecture(self) -> dict[str, Any]:
        """Constructor arguments, in plain types, from which a checkpoint can be used again."""
        raise NotImplementedError

    def load_pretrained(self, resuming: bool) -> None:
        """Before the data is touched: a wrong name is known at once."""
        self.configure_model()

    def log_fixed_loss(
        self,
        batch: Batch,
        latents: Tensor,
        predict: Callable[[Tensor, Tensor], Tensor],
        split: str,
        places: Tensor | None = None,
    ) -> None:
        """Logs the denoising loss at four fixed noise levels a picture, with fixed noise.

        Args:
            batch: Has `index` and `seed`.
            latents: x_0, `[N, C, h, w]`.
            predict: (x_t, t) → prediction.
            split: `val` or `test`.
            places: How much each latent counts, `[N, 1, h, w]`; None: all the same.
        """
        metric = cast(MeanByIndex, self.fixed_loss[split])
        for quarter in range(4):
            steps = self.objective.fixed_timesteps(batch["index"], quarter)
            losses = self.objective.losses(predict, latents, batch["seed"] + quarter, steps, places)
            metric.update(losses, 4 * batch["index"] + quarter)
        self.log(f"{split}/loss", metric, batch_size=len(latents), prog_bar=split == "val")

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Logs the norm of the gradients before they are clipped."""
        if (norm := grad_norm(self)) is not None:
            self.log("train/grad_norm", norm)

    def configure_optimizers(self) -> Any:
        """The optimizer, with a warm-up and a decay."""
        trained = [p for p in self.parameters() if p.requires_grad]
        total = int(self.trainer.estimated_stepping_batches)
        return scheduled(self.optimizer(trained), self.lr_schedule, self.warmup_steps, total)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Only what is trained: megabytes of a LoRA, not gigabytes of what it is laid over."""
        trained = self._trained()
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if k in trained}
        checkpoint["network_class"] = type(self).__name__
        checkpoint["architecture"] = self.architecture()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of other weights than are trained here.

        Raises:
            CheckpointError: If names or shapes differ.
        """
        self.configure_model()
        ours = {name: parameter.shape for name, parameter in self._trained().items()}
        theirs = {name: value.shape for name, value in checkpoint["state_dict"].items()}
        differing = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
        if differing:
            raise CheckpointError(
                f"the checkpoint is of another model, or another {self.adapter_setting}: "
                f"{len(differing)} of its weights differ, first {differing[0]!r}"
            )

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in self.named_parameters() if p.requires_grad}
