"""What the hashing teacher and the hashing student have in common: all but the training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import lightning as L
import torch
from torch import Tensor

from palmforge.errors import CheckpointError, ConfigError
from palmforge.losses.hashing import pairwise_hash_loss, quantization_loss
from palmforge.losses.reduction import Reduction
from palmforge.metrics.accuracy import ClassifierAccuracy
from palmforge.metrics.verification_metric import VerificationMetrics
from palmforge.modules.judged import log_figures, same_classes
from palmforge.modules.schedule import Schedule, scheduled_adamw
from palmforge.networks.hashing import HashingOutput, TinyHashing, VGG16Hashing, binarize

Batch = dict[str, Any]


def cache_keys(batch: Batch) -> list[str]:
    """The names of a batch's pictures, for a feature cache.

    Raises:
        ConfigError: If the pictures have none, because no picture comes twice.
    """
    if "key" not in batch:
        raise ConfigError(
            "model.feature_cache_dir: with endless augmentation no picture comes twice. Set "
            "data.augmented_views, or data.augmentation=none"
        )
    return batch["key"]


class HashingModule(L.LightningModule):
    """A hashing network with its optimizer and its evaluation. See the two subclasses.

    Args:
        class_names: The training identities, in the order of the labels; linked from the data.
        margin: t of Eq. 1, squared Euclidean distance.
        quantization_weight: w of Eq. 3.
        reduction: Of the losses: `sum` as in the paper, or `mean`.
        lr: Peak learning rate of AdamW.
        weight_decay: Of AdamW.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it, up to `trainer.max_steps`.
        channels_last: Memory format of images and convolutions; faster in bf16.
        compile_network: `torch.compile` it.
    """

    network: TinyHashing | VGG16Hashing
    architecture: dict[str, Any]  # the network's arguments

    def __init__(
        self,
        class_names: Sequence[str],
        margin: float,
        quantization_weight: float,
        reduction: Reduction,
        lr: float,
        weight_decay: float,
        warmup_steps: int,
        lr_schedule: Schedule,
        channels_last: bool,
        compile_network: bool,
    ) -> None:
        super().__init__()
        self.class_names = list(class_names)
        self.margin = margin
        self.quantization_weight = quantization_weight
        self.reduction = reduction
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.lr_schedule = lr_schedule
        self.channels_last = channels_last
        self.compile_network = compile_network
        self.val_verification = VerificationMetrics("hamming", fars=(1e-1, 1e-2, 1e-3))
        self.test_verification = VerificationMetrics("hamming", bootstrap=200)
        self.val_accuracy = ClassifierAccuracy()
        self.test_accuracy = ClassifierAccuracy()

    def load_pretrained(self, resuming: bool) -> None:
        """Loads what a fit starts from, once. The CLI calls it before any data is touched."""

    def setup(self, stage: str) -> None:
        """For those who use the module without the CLI."""
        if stage == "fit":
            self.load_pretrained(resuming=self.trainer.ckpt_path is not None)

    def configure_model(self) -> None:
        """Memory format and compilation, before the strategy wraps the module."""
        if self.channels_last:
            self.network.to(memory_format=torch.channels_last)
        if self.compile_network:
            self.network.compile()  # in place: torch.compile(network) would rename the weights

    def forward(self, images: Tensor) -> HashingOutput:
        """`[N, 3, S, S]` RGB in [0, 1] → codes and logits."""
        return self.network(images)

    def images(self, batch: Batch) -> Tensor:
        """uint8 → [0, 1], here and not in the loader: a quarter of the bytes cross the bus."""
        images = batch["image"].to(self.network.mean.dtype).div_(255)
        return (
            images.contiguous(memory_format=torch.channels_last) if self.channels_last else images
        )

    def gather_codes(self, codes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Codes and labels of the global batch, so that pairs are those of all processes.

        Gradients flow back to every process's codes. Each process then has the whole loss, its
        gradient arrives once from each of the W processes, and DDP divides by W.
        """
        if self._trainer is None or self.trainer.world_size == 1:
            return codes, labels
        everyone = cast(Tensor, self.all_gather(codes, sync_grads=True))
        return everyone.flatten(0, 1), cast(Tensor, self.all_gather(labels)).flatten()

    def hashing_losses(self, output: HashingOutput, batch: Batch) -> dict[str, Tensor]:
        """L_h and w L_q (Eqs. 1 to 3) of the global batch."""
        codes, labels = self.gather_codes(output.codes, batch["label"])
        quantization = quantization_loss(codes, self.reduction)
        return {
            "hash_loss": pairwise_hash_loss(codes, labels, self.margin, self.reduction),
            "quantization_loss": self.quantization_weight * quantization,
        }

    def log_losses(self, losses: dict[str, Tensor]) -> None:
        """Logs `train/*`, averaged over processes."""
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log_dict({f"train/{k}": v.detach() for k, v in losses.items()}, sync_dist=True)
        total = torch.stack([value.detach() for value in losses.values()]).sum()
        self.log("train/loss", total, prog_bar=True, sync_dist=True)
        self.log("train/lr", rate)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collects codes for the pairs of all validation images."""
        self._evaluate(batch, self.val_verification, self.val_accuracy)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Collects codes for the pairs of all test images."""
        self._evaluate(batch, self.test_verification, self.test_accuracy)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """`codes [N, B]` of −1 and +1, `predicted [N]` class or −1 for unknown, `index [N]`."""
        output = self(self.images(batch))
        known = output.logits.isfinite().all(dim=1)
        predicted = torch.where(known, output.logits.argmax(dim=1), -1)
        return {"codes": binarize(output.codes), "predicted": predicted, "index": batch["index"]}

    def on_validation_epoch_end(self) -> None:
        """Logs `val/*`."""
        self._log_evaluation("val", self.val_verification, self.val_accuracy)

    def on_test_epoch_end(self) -> None:
        """Logs `test/*`."""
        self._log_evaluation("test", self.test_verification, self.test_accuracy)

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """AdamW over what is trained, and nothing else."""
        return scheduled_adamw(
            [p for p in self.parameters() if p.requires_grad],
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=self.lr_schedule,
            warmup_steps=self.warmup_steps,
            total_steps=int(self.trainer.estimated_stepping_batches),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the names of the classes, and what the network is rebuilt from."""
        checkpoint["class_names"] = self.class_names
        checkpoint["network_class"] = type(self.network).__name__
        checkpoint["architecture"] = self.architecture

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to go on training with other identities; evaluation leaves the classifier out."""
        self._check_architecture(checkpoint["state_dict"])
        theirs = checkpoint.get("class_names", self.class_names)
        left_out = "codes are evaluated, the classifier is not (accuracy is NaN)"
        if same_classes(self, self.class_names, theirs, left_out):
            return
        state = checkpoint["state_dict"]
        for name, values in self.state_dict().items():
            if name.startswith("network.classifier."):
                state[name] = torch.full_like(values, float("nan"))

    def _check_architecture(self, theirs: dict[str, Tensor]) -> None:
        """Says which network a checkpoint is of; the classifier's size may differ."""
        ours = {k: v for k, v in self.state_dict().items() if ".classifier." not in k}
        shapes = {k: v.shape for k, v in theirs.items() if ".classifier." not in k}
        wrong = sorted(
            shapes.keys() ^ ours.keys()
            | {k for k, v in ours.items() if k in shapes and shapes[k] != v.shape}
        )
        if wrong:
            raise CheckpointError(
                f"the checkpoint is of another network than this config: {len(wrong)} tensors "
                f"differ, the first is {wrong[0]}. The config that it was trained with is the "
                "config.yaml of its run"
            )

    def _evaluate(
        self, batch: Batch, verification: VerificationMetrics, accuracy: ClassifierAccuracy
    ) -> None:
        output = self(self.images(batch))
        verification.update(output.codes, batch["label"], batch["index"], batch["role"])
        accuracy.update(output.logits, batch["label"], batch["index"])

    def _log_evaluation(
        self,
        split: Literal["val", "test"],
        verification: VerificationMetrics,
        accuracy: ClassifierAccuracy,
    ) -> None:
        accuracies = {"accuracy": float(accuracy.compute())}
        log_figures(self, split, verification.compute() | accuracies)
        verification.reset()
        accuracy.reset()
