"""The teacher: VGG-16 deep hashing (Shao et al. 2020, §3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from palmforge.data.feature_cache import FeatureCache, state_digest
from palmforge.errors import CheckpointError
from palmforge.losses.reduction import Reduction
from palmforge.modules.hashing import Batch, HashingModule, cache_keys
from palmforge.modules.schedule import Schedule
from palmforge.modules.vgg_weights import load_pretrained_blocks
from palmforge.networks.hashing import HashingOutput, Norm, Normalization, VGG16Hashing


class HashingTeacher(HashingModule):
    """DHN on VGG-16: L_h + w L_q trains the network, softened cross-entropy its classifier head.

    Args:
        class_names: The training identities; linked from the data.
        num_bits: B.
        image_size: Input side in pixels; linked from the data.
        weights: Of the convolution blocks: `IMAGENET1K_V1` (torchvision's), `SYNTHETIC_V1` (the
            embedded ones, of a quarter of the width), a file, or null: from scratch.
        frozen_blocks: Convolution blocks that stay as they are; null: 4 with pretrained weights
            (as in the paper), 0 without.
        width: Channels relative to VGG-16.
        norm: `none` (VGG-16), `batch` (vgg16_bn) or `group`.
        normalization: Of the input: `imagenet`, or `image` (each picture by itself).
        dropout: In the fully connected layers.
        margin: t of Eq. 1, squared Euclidean distance.
        quantization_weight: w of Eq. 3.
        temperature: T of the classifier's cross-entropy (§3.2: 20).
        objective: `hashing`, or `classification`: the cross-entropy alone trains the whole network.
            That is how weights for the convolution blocks are made from palms.
        reduction: `sum` as in the paper; `mean` does not change with the batch size.
        lr: Peak learning rate of AdamW.
        weight_decay: Of AdamW.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it.
        feature_cache_dir: Keep the frozen blocks' output on disk; needs frozen blocks, and
            `data.augmentation=none` or `data.augmented_views`.
        channels_last: Memory format of images and convolutions.
        compile_network: `torch.compile` it.
    """

    network: VGG16Hashing

    def __init__(
        self,
        class_names: Sequence[str],
        num_bits: int = 128,
        image_size: int = 128,
        weights: str | None = None,
        frozen_blocks: int | None = None,
        width: float = 1.0,
        norm: Norm = "none",
        normalization: Normalization = "imagenet",
        dropout: float = 0.5,
        margin: float = 180.0,
        quantization_weight: float = 0.5,
        temperature: float = 20.0,
        objective: Literal["hashing", "classification"] = "hashing",
        reduction: Reduction = "mean",
        lr: float = 1e-4,
        weight_decay: float = 1e-4,
        warmup_steps: int = 100,
        lr_schedule: Schedule = "cosine",
        feature_cache_dir: str | None = None,
        channels_last: bool = False,
        compile_network: bool = False,
    ) -> None:
        super().__init__(
            class_names, margin, quantization_weight, reduction, lr, weight_decay,
            warmup_steps, lr_schedule, channels_last, compile_network,
        )  # fmt: skip
        self.save_hyperparameters(logger=False)
        self.temperature = temperature
        self.objective = objective
        self.weights = weights
        self.feature_cache_dir = feature_cache_dir
        self.architecture = {
            "num_bits": num_bits,
            "num_classes": len(self.class_names),
            "image_size": image_size,
            "width": width,
            "norm": norm,
            "normalization": normalization,
            "dropout": dropout,
        }
        self.network = VGG16Hashing(**self.architecture)  # type: ignore[arg-type]
        frozen = frozen_blocks if frozen_blocks is not None else (4 if weights else 0)
        self.network.freeze(frozen)
        self._has_weights = False
        self._feature_cache: FeatureCache | None = None

    def load_pretrained(self, resuming: bool) -> None:
        """Fills the convolution blocks, unless a checkpoint will fill them all."""
        if self.weights and not resuming and not self._has_weights:
            load_pretrained_blocks(self.network, self.weights)
            self._has_weights = True

    def on_fit_start(self) -> None:
        """Names the feature cache by what decides the features, checkpoint weights included."""
        if self.feature_cache_dir is None:
            return
        if not self.network.num_frozen:
            raise ValueError(
                "model.feature_cache_dir needs frozen blocks (model.frozen_blocks ≥ 1)"
            )
        frozen = self.network.blocks[: self.network.num_frozen].state_dict()
        settings = (self.trainer.precision, self.channels_last, self.architecture)
        digest = state_digest(frozen, *settings)
        self._feature_cache = FeatureCache(self.feature_cache_dir, digest)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """L = L_h + w L_q (Eq. 3), and cross-entropy at T = 20 for the classifier head alone."""
        output = self._forward_cached(batch)
        if self.objective == "classification":
            losses = {"class_loss": self._class_loss(output.features, batch)}
        else:
            losses = {
                **self.hashing_losses(output, batch),
                "class_loss": self._class_loss(output.features.detach(), batch),
            }
        self.log_losses(losses)
        return torch.stack(list(losses.values())).sum()

    def _class_loss(self, features: Tensor, batch: Batch) -> Tensor:
        assert self.network.classifier is not None
        logits = self.network.classifier(features).float()
        return cross_entropy(logits / self.temperature, batch["label"])

    def _forward_cached(self, batch: Batch) -> HashingOutput:
        images = self.images(batch)
        if self._feature_cache is None:
            return self.network(images)

        def compute(row: int) -> dict[str, Tensor]:
            return {"features": self.network.frozen_features(images[row : row + 1])}

        features = self._feature_cache.get(cache_keys(batch), compute)["features"]
        return self.network(images, features.to(self.device))


def load_teacher(path: str) -> tuple[VGG16Hashing, list[str], str]:
    """Loads a trained teacher from a checkpoint of `HashingTeacher`.

    Args:
        path: A `.ckpt` file on this machine.

    Returns:
        network: In eval mode, without gradients.
        class_names: What its logits mean.
        digest: A name for its weights.

    Raises:
        CheckpointError: If the file is missing, unsafe or of another model.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(
            f"model.teacher_ckpt: no file {path!r}. Train a teacher first: python train.py fit "
            "--config configs/experiment/dhn_teacher.yaml"
        ) from None
    except Exception as error:
        raise CheckpointError(f"model.teacher_ckpt: {path} cannot be read: {error}") from error
    if checkpoint.get("network_class") != VGG16Hashing.__name__:
        raise CheckpointError(f"model.teacher_ckpt: {path} is not a checkpoint of HashingTeacher")
    network = VGG16Hashing(**checkpoint["architecture"])
    prefix = "network."
    state = checkpoint["state_dict"].items()
    network.load_state_dict({k.removeprefix(prefix): v for k, v in state if k.startswith(prefix)})
    digest = state_digest(network.state_dict(), checkpoint["architecture"])
    return network.eval().requires_grad_(False), checkpoint["class_names"], digest
