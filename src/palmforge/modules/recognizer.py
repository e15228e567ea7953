"""A palm recogniser trained by an angular margin and judged on palms it has never seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from palmforge.losses.margin import MarginHead, MarginLoss, SupervisedContrastiveLoss
from palmforge.modules.embedding import Batch, EmbeddingModule
from palmforge.modules.schedule import Schedule
from palmforge.networks.embedding import PalmEmbedding
from palmforge.networks.preparation import Standardize


class MarginRecognizer(EmbeddingModule):
    """A timm backbone → unit embedding, trained to tell the training identities apart.

    Verification is by cosine distance. Over several processes each has the loss of its own
    pictures; DDP averages the gradients, the classifier's included. It is whole on each of them: no
    maintained library shards it (PartialFC is in insightface's training scripts, not in its
    package). At D = 256 its weights, gradients and AdamW's moments are 0.41 GB for 100,000
    identities and 4.1 GB for 1,000,000, and each of 8 processes sends 0.18 and 1.8 GB of gradients
    a step. That is the limit.

    Args:
        class_names: The training identities, in the order of the labels; linked from the data.
        image_size: S, the input's side in pixels; linked from the data.
        backbone: A timm name; `mobilefacenet` (Chen et al. 2018) is one too.
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

    network: PalmEmbedding

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
        super().__init__(
            class_names, margin_start_step, margin_full_step, contrastive_weight, lr, weight_decay,
            warmup_steps, lr_schedule, channels_last, compile_network, weights,
        )  # fmt: skip
        self.classifier_warmup_steps = classifier_warmup_steps
        self.early_image_size = early_image_size
        self.early_steps = early_steps
        self.network = PalmEmbedding(
            backbone, embedding_dim, image_size, standardize, grey, grid_channels, backbone_args
        )
        self.loss = MarginLoss(head, len(self.class_names), embedding_dim, margin, scale)
        self.contrastive = SupervisedContrastiveLoss(temperature)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The margin softmax over the training identities, and the contrastive loss."""
        early = self.global_step < self.early_steps
        size = self.early_image_size if early else None
        embeddings = self.network.features(self.images(batch), size)
        warming = self.global_step < self.classifier_warmup_steps
        read = embeddings.detach() if warming else embeddings
        margin = self.loss(read, batch["label"], self.margin_strength(self.global_step))
        contrastive = None
        if self.contrastive_weight:
            contrastive = self.contrastive(embeddings, batch["label"])
        return self.weighed(margin, contrastive)
