"""What the recognisers that learn an embedding have in common: all but network and step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor

from palmforge.errors import CheckpointError
from palmforge.losses.margin import MarginLoss
from palmforge.metrics.verification_metric import VerificationMetrics
from palmforge.modules.judged import log_figures, same_classes
from palmforge.modules.schedule import Schedule, scheduled_adamw
from palmforge.networks.ccnet import CCNet
from palmforge.networks.embedding import PalmEmbedding
from palmforge.recognition.weights import load_network

Batch = dict[str, Any]


class EmbeddingModule(L.LightningModule):
    """A network → unit embedding, with its optimizer and its evaluation by cosine distance.

    A subclass sets `network` and `loss` and writes `training_step`. Over several processes each has
    the loss of its own pictures; DDP averages the gradients, the classifier's included.

    Args:
        class_names: The training identities, in the order of the labels; linked from the data.
        margin_start_step: Until this step there is no margin.
        margin_full_step: From this step on it is all there; in between it grows evenly.
        contrastive_weight: Share of the contrastive loss; the margin softmax has the rest.
        lr: Peak learning rate of AdamW.
        weight_decay: Of AdamW.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it, up to `trainer.max_steps`.
        channels_last: Memory format of images and convolutions; faster in bf16.
        compile_network: `torch.compile` its backbone.
        weights: What the network starts from: a checkpoint, or a folder that `train.py recognizer
            export` wrote; null: random numbers.
    """

    network: PalmEmbedding | CCNet
    loss: MarginLoss

    def __init__(
        self,
        class_names: Sequence[str],
        margin_start_step: int,
        margin_full_step: int,
        contrastive_weight: float,
        lr: float,
        weight_decay: float,
        warmup_steps: int,
        lr_schedule: Schedule,
        channels_last: bool,
        compile_network: bool,
        weights: str | None,
    ) -> None:
        super().__init__()
        self.class_names = list(class_names)
        self.margin_start_step = margin_start_step
        self.margin_full_step = margin_full_step
        self.contrastive_weight = contrastive_weight
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.lr_schedule = lr_schedule
        self.channels_last = channels_last
        self.compile_network = compile_network
        self.weights = weights
        self.val_verification = VerificationMetrics("cosine", fars=(1e-1, 1e-2, 1e-3, 1e-4))
        self.test_verification = VerificationMetrics("cosine", bootstrap=200)

    def load_pretrained(self, resuming: bool) -> None:
        """Loads `weights`, unless a checkpoint of this run is about to be loaded anyway.

        Raises:
            CheckpointError: If they are missing or are of another network.
        """
        if self.weights is None or resuming:
            return
        theirs = load_network(self.weights)
        if theirs.config != self.network.config:
            raise CheckpointError(
                f"model.weights: {self.weights} holds another network ({theirs.config}) than this "
                f"config ({self.network.config})"
            )
        self.network.load_state_dict(theirs.state_dict())

    def setup(self, stage: str) -> None:
        """For those who use the module without the CLI."""
        if stage == "fit":
            self.load_pretrained(resuming=self.trainer.ckpt_path is not None)

    def configure_model(self) -> None:
        """Memory format and compilation, before the strategy wraps the module."""
        if self.channels_last:
            self.network.to(memory_format=torch.channels_last)
        if self.compile_network:
            self.network.backbone.compile()

    def forward(self, images: Tensor) -> Tensor:
        """`[N, 3, H, W]` RGB in [0, 1] → `[N, D]` unit vectors."""
        return self.network(images)

    def images(self, batch: Batch) -> Tensor:
        """uint8 → [0, 1], here and not in the loader: a quarter of the bytes cross the bus."""
        return batch["image"].float().div_(255)

    def margin_strength(self, step: int) -> float:
        """How much of the margin there is at a step, in [0, 1]."""
        length = max(1, self.margin_full_step - self.margin_start_step)
        return min(1.0, max(0.0, (step - self.margin_start_step) / length))

    def weighed(self, margin: Tensor, contrastive: Tensor | None) -> Tensor:
        """(1 − w) margin + w contrastive, logged with its terms."""
        loss = margin
        if contrastive is not None:
            loss = (1 - self.contrastive_weight) * margin + self.contrastive_weight * contrastive
            self.log("train/contrastive_loss", contrastive.detach(), sync_dist=True)
            self.log("train/margin_loss", margin.detach(), sync_dist=True)
        self.log("train/loss", loss.detach(), prog_bar=True, sync_dist=True)
        self.log("train/margin_strength", self.margin_strength(self.global_step))
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collects embeddings for the pairs of all validation images."""
        self._collect(batch, self.val_verification)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Collects embeddings for the pairs of all test images."""
        self._collect(batch, self.test_verification)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """`embeddings [N, D]` of unit length and `index [N]`."""
        return {"embeddings": self(self.images(batch)), "index": batch["index"]}

    def on_validation_epoch_end(self) -> None:
        """Logs `val/*`."""
        log_figures(self, "val", self.val_verification.compute())
        self.val_verification.reset()

    def on_test_epoch_end(self) -> None:
        """Logs `test/*`."""
        log_figures(self, "test", self.test_verification.compute())
        self.test_verification.reset()

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """AdamW; neither norms nor biases decay."""
        decayed = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": decayed},
            {"params": others, "weight_decay": 0.0},
        ]
        return scheduled_adamw(
            groups,
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=self.lr_schedule,
            warmup_steps=self.warmup_steps,
            total_steps=int(self.trainer.estimated_stepping_batches),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the names of the classes, and what the network is rebuilt from."""
        checkpoint["class_names"] = self.class_names
        checkpoint["embedding_config"] = self.network.config
        checkpoint["network_class"] = type(self.network).__name__

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses another network; refuses other identities too, but only to go on training."""
        network = checkpoint.get("embedding_config")
        if network != self.network.config:
            raise CheckpointError(
                f"the checkpoint is of another network ({network}) than this config "
                f"({self.network.config}). Its own config is the config.yaml of its run"
            )
        theirs = checkpoint["class_names"]
        if not same_classes(self, self.class_names, theirs, "its classifier is left out"):
            ours = {k: v for k, v in self.state_dict().items() if k.startswith("loss.")}
            checkpoint["state_dict"].update(ours)

    def _collect(self, batch: Batch, verification: VerificationMetrics) -> None:
        embeddings = self(self.images(batch))
        verification.update(embeddings, batch["label"], batch["index"], batch["role"])
