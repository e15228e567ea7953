"""The student: a tiny hashing network, alone or distilled (Shao et al. 2020, §3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, linear

from palmforge.data.feature_cache import FeatureCache
from palmforge.errors import ConfigError
from palmforge.losses.distillation import code_distillation_loss, soft_target_loss
from palmforge.losses.reduction import Reduction
from palmforge.modules.hashing import Batch, HashingModule, cache_keys
from palmforge.modules.hashing_teacher import load_teacher
from palmforge.modules.schedule import Schedule
from palmforge.networks.hashing import HashingOutput, TinyHashing, VGG16Hashing


class HashingStudent(HashingModule):
    """The network of Table 1; with `teacher_ckpt` distilled from a trained teacher.

    L_v = L_h + w L_q + α L_b + β L_T (Eq. 8) updates the hashing network and
    L_c = m L_s + n L_T (Eq. 7) its classifier head, neither the other's weights.
    Without a teacher L_b and L_T are left out.

    Args:
        class_names: The training identities; linked from the data.
        num_bits: B.
        image_size: Input side in pixels; linked from the data.
        teacher_ckpt: A checkpoint of `HashingTeacher`; null trains the student alone.
        margin: t of Eq. 1, squared Euclidean distance.
        quantization_weight: w of Eq. 8.
        code_weight: α of Eq. 8.
        soft_target_weight: β of Eq. 8.
        hard_class_weight: m of Eq. 7.
        soft_class_weight: n of Eq. 7.
        temperature: T of L_T.
        scale_by_t2: Multiply L_T by T² (Hinton et al. 2015; not in the paper).
        reduction: `sum` as in the paper; `mean` does not change with the batch size.
        lr: Peak learning rate of AdamW.
        weight_decay: Of AdamW.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it.
        feature_cache_dir: Keep the teacher's outputs on disk; needs `data.augmentation=none` or
            `data.augmented_views`.
        channels_last: Memory format of images and convolutions.
        compile_network: `torch.compile` it.
    """

    network: TinyHashing
    teacher: VGG16Hashing | None

    def __init__(
        self,
        class_names: Sequence[str],
        num_bits: int = 128,
        image_size: int = 128,
        teacher_ckpt: str | None = None,
        margin: float = 180.0,
        quantization_weight: float = 0.5,
        code_weight: float = 5.0,
        soft_target_weight: float = 10.0,
        hard_class_weight: float = 0.2,
        soft_class_weight: float = 0.8,
        temperature: float = 5.0,
        scale_by_t2: bool = False,
        reduction: Reduction = "mean",
        lr: float = 1e-3,
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
        self.teacher_ckpt = teacher_ckpt
        self.code_weight = code_weight
        self.soft_target_weight = soft_target_weight
        self.hard_class_weight = hard_class_weight
        self.soft_class_weight = soft_class_weight
        self.temperature = temperature
        self.scale_by_t2 = scale_by_t2
        self.feature_cache_dir = feature_cache_dir
        self.architecture = {
            "num_bits": num_bits,
            "num_classes": len(self.class_names),
            "image_size": image_size,
        }
        self.network = TinyHashing(**self.architecture)
        self.teacher = None
        self._teacher_cache: FeatureCache | None = None

    def load_pretrained(self, resuming: bool) -> None:
        """Loads the teacher. Only a fit needs it, and no checkpoint of the student holds it."""
        if self.teacher_ckpt is None or self.teacher is not None:
            return
        teacher, class_names, digest = load_teacher(self.teacher_ckpt)
        if class_names != self.class_names:
            raise ConfigError(
                f"model.teacher_ckpt: {self.teacher_ckpt} was trained on {len(class_names)} "
                f"identities, this data has {len(self.class_names)}, and they are not the same: "
                "its classes say nothing about these images. Train it with the same data settings."
            )
        if teacher.num_bits != self.network.num_bits:
            raise ConfigError(
                f"model.num_bits: {self.network.num_bits}, but the teacher has {teacher.num_bits}"
            )
        self.teacher = teacher
        self._teacher_digest = digest

    def on_train_start(self) -> None:
        """Keeps the teacher in eval mode: Lightning has put everything into train mode."""
        if self.teacher is None:
            return
        self.teacher.eval()
        if self.feature_cache_dir is not None:
            fingerprint = f"{self._teacher_digest}-{self.trainer.precision}"
            self._teacher_cache = FeatureCache(self.feature_cache_dir, fingerprint)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """L_v + L_c; the two have no trained weight in common."""
        images = self.images(batch)
        output = self.network(images)
        losses = self.hashing_losses(output, batch)
        losses |= self._classifier_losses(output, images, batch)
        self.log_losses(losses)
        return torch.stack(list(losses.values())).sum()

    def _classifier_losses(
        self, output: HashingOutput, images: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        head = self.network.classifier
        assert head is not None
        # Eq. 7 is the head's: it reads detached features. Eq. 8 is the trunk's: β L_T goes through
        # the head's present weights without moving them.
        head_logits = head(output.features.detach())
        hard = cross_entropy(head_logits.float(), batch["label"])
        if self.teacher is None:
            return {"class_loss": self.hard_class_weight * hard}
        teacher_codes, teacher_logits = self._teach(images, batch)
        trunk_logits = linear(output.features, head.weight.detach(), head.bias.detach())
        soft = {
            name: soft_target_loss(logits, teacher_logits, self.temperature, self.scale_by_t2)
            for name, logits in (("head", head_logits), ("trunk", trunk_logits))
        }
        return {
            "code_loss": self.code_weight
            * self._global(code_distillation_loss(output.codes, teacher_codes, "mean"), output),
            "soft_target_loss": self.soft_target_weight * self._global(soft["trunk"], output),
            "class_loss": self.hard_class_weight * hard + self.soft_class_weight * soft["head"],
        }

    def _global(self, mean: Tensor, output: HashingOutput) -> Tensor:
        """A mean over this process's images as the paper's sum over all of them, if so asked.

        DDP averages gradients over processes, so a mean stays a mean, and a sum needs the factor.
        """
        if self.reduction == "mean":
            return mean
        return mean * output.codes.shape[0] * self.trainer.world_size

    @torch.no_grad()
    def _teach(self, images: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The teacher's codes `[N, B]` and logits `[N, C]` of the same augmented images."""
        teacher = self.teacher
        assert teacher is not None

        def compute(seen: Tensor) -> dict[str, Tensor]:
            if seen.shape[-1] != teacher.image_size:
                seen = interpolate(seen, (teacher.image_size,) * 2, mode="bilinear", antialias=True)
            taught = teacher(seen)
            return {"codes": taught.codes, "logits": taught.logits}

        if self._teacher_cache is None:
            taught = compute(images)
        else:
            taught = self._teacher_cache.get(
                cache_keys(batch), lambda row: compute(images[row : row + 1])
            )
        return taught["codes"].to(self.device), taught["logits"].to(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leaves the teacher out."""
        super().on_save_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        for name in [name for name in state if name.startswith("teacher.")]:
            del state[name]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts this run's teacher back, so that loading stays strict for everything else."""
        if self.teacher is not None:
            state = {
                f"teacher.{name}": values for name, values in self.teacher.state_dict().items()
            }
            checkpoint["state_dict"].update(state)
        super().on_load_checkpoint(checkpoint)
