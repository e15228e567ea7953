"""A palm recogniser trained by an angular margin and judged on palms it has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from palmforge.errors import CheckpointError
from palmforge.losses.margin import MarginHead, MarginLoss, SupervisedContrastiveLoss
from palmforge.metrics.verification_metric import VerificationMetrics
from palmforge.modules.judged import log_figures, same_classes
from palmforge.modules.schedule import Schedule, scheduled_adamw
from palmforge.networks.embedding import PalmEmbedding, Standardize
from palmforge.recognition.weights import load

Batch = dict[str, Any]


class MarginRecognizer(L.LightningModule):
    """A timm backbone → unit embedding, trained to tell the training identities apart.

    Verification is by cosine distance. Over several processes each has the loss of its own
    pictures; DDP averages the gradients, the classifier's included (it is replicated: beyond some
    100,000 identities its D × C weights are what limits).

    Args:
        class_names: The training identities, in the order of the labels; linked from the data.
        image_size: S, the input's side in pixels; linked from the data.
        backbone: A timm name.
        backbone_args: For `timm.create_model`.
        embedding_dim: D.
        standardize: `image`: every picture to mean 0 and deviation 1; or `none`.
        grey: Read one grey channel.
        grid_channels: Channels of the last map that are read place by place; 0: their mean.
        head: `arcface`, `cosface`, `subcenter` or `adaface`.
        margin: m, radians for `arcface` and `subcenter`, a cosine for `cosface`.
        scale: s.
        margin_start_step: Until this step there is no margin. With one from the start, training on
            hard augmentation does not begin.
        margin_full_step: From this step on it is all there; in between it grows evenly.
        contrastive_weight: Share of the supervised contrastive loss (Khosla et al. 2020) among the
            batch's pictures; the margin softmax has the rest. It needs no classifier, so it teaches
            from the first step on.
        temperature: Of that loss.
        classifier_warmup_steps: Until this step the margin softmax trains its classifier alone. A
            random one, let loose on `weights`, undoes them (EER 23 to 43 % in 1,000 steps).
        early_image_size: Train at this smaller side first; null: at S all the time. 96 instead of
            128 makes a step 1.7 times faster.
        early_steps: How long.
        lr: Peak learning rate of AdamW.
        weight_decay: Of AdamW.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it, up to `trainer.max_steps`.
        channels_last: Memory format of images and convolutions; faster in bf16.
        compile_network: `torch.compile` it.
        weights: What the network starts from: a checkpoint of this module, or a directory that
            `train.py recognizer export` wrote; null: random numbers. Palms spoilt by bad cameras
            teach nothing to a network that has not seen good ones.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        image_size: int = 128,
        backbone: str = "resnet18",
        backbone_args: dict[str, Any] | None = None,
        embedding_dim: int = 256,
        standardize: Standardize = "image",
        grey: bool = True,
        grid_channels: int = 0,
        head: MarginHead = "cosface",
        margin: float = 0.25,
        scale: float = 24.0,
        margin_start_step: int = 300,
        margin_full_step: int = 900,
        contrastive_weight: float = 0.0,
        temperature: float = 0.1,
        classifier_warmup_steps: int = 0,
        early_image_size: int | None = None,
        early_steps: int = 0,
        lr: float = 2e-3,
        weight_decay: float = 0.05,
        warmup_steps: int = 100,
        lr_schedule: Schedule = "cosine",
        channels_last: bool = True,
        compile_network: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.class_names = list(class_names)
        self.margin_start_step = margin_start_step
        self.margin_full_step = margin_full_step
        self.contrastive_weight = contrastive_weight
        self.classifier_warmup_steps = classifier_warmup_steps
        self.early_image_size = early_image_size
        self.early_steps = early_steps
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.lr_schedule = lr_schedule
        self.channels_last = channels_last
        self.compile_network = compile_network
        self.weights = weights
        self.network = PalmEmbedding(
            backbone, embedding_dim, image_size, standardize, grey, grid_channels, backbone_args
        )
        self.loss = MarginLoss(head, len(self.class_names), embedding_dim, margin, scale)
        self.contrastive = SupervisedContrastiveLoss(temperature)
        self.val_verification = VerificationMetrics("cosine", fars=(1e-1, 1e-2, 1e-3, 1e-4))
        self.test_verification = VerificationMetrics("cosine", bootstrap=200)

    def load_pretrained(self, resuming: bool) -> None:
        """Loads `weights`, unless a checkpoint of this run is about to be loaded anyway.

        Raises:
            CheckpointError: If they are missing or are of another network.
        """
        if self.weights is None or resuming:
            return
        theirs = load(self.weights).network
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

    def margin_strength(self, step: int) -> float:
        """How much of the margin there is at a step, in [0, 1]."""
        length = max(1, self.margin_full_step - self.margin_start_step)
        return min(1.0, max(0.0, (step - self.margin_start_step) / length))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The margin softmax over the training identities, and the contrastive loss."""
        early = self.global_step < self.early_steps
        embeddings = self.network.features(_images(batch), self.early_image_size if early else None)
        strength = self.margin_strength(self.global_step)
        warming = self.global_step < self.classifier_warmup_steps
        margin = self.loss(embeddings.detach() if warming else embeddings, batch["label"], strength)
        loss = margin
        if self.contrastive_weight:
            contrastive = self.contrastive(embeddings, batch["label"])
            loss = (1 - self.contrastive_weight) * margin + self.contrastive_weight * contrastive
            self.log("train/contrastive_loss", contrastive.detach(), sync_dist=True)
            self.log("train/margin_loss", margin.detach(), sync_dist=True)
        self.log("train/loss", loss.detach(), prog_bar=True, sync_dist=True)
        self.log("train/margin_strength", strength)
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
        return {"embeddings": self(_images(batch)), "index": batch["index"]}

    def on_validation_epoch_end(self) -> None:
        """Logs `val/*`."""
        self._log_verification("val", self.val_verification)

    def on_test_epoch_end(self) -> None:
        """Logs `test/*`."""
        self._log_verification("test", self.test_verification)

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
        verification.update(self(_images(batch)), batch["label"], batch["index"], batch["role"])

    def _log_verification(
        self, split: Literal["val", "test"], verification: VerificationMetrics
    ) -> None:
        log_figures(self, split, verification.compute())
        verification.reset()


def _images(batch: Batch) -> Tensor:
    """uint8 → [0, 1], here and not in the loader: a quarter of the bytes cross the bus."""
    return batch["image"].float().div_(255)
