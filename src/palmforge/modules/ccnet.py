"""CCNet as a recogniser: the network of Yang et al. 2023 with its two losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from palmforge.losses.margin import MarginLoss, SupervisedContrastiveLoss
from palmforge.modules.embedding import Batch, EmbeddingModule
from palmforge.modules.schedule import Schedule
from palmforge.networks.ccnet import CCNet
from palmforge.networks.preparation import Standardize


class CCNetRecognizer(EmbeddingModule):
    """L = (1 − w) ArcFace + w SupCon (Yang et al. 2023; theirs: 0.8 and 0.2).

    ArcFace reads the embedding after dropout, the supervised contrastive loss both linear layers
    side by side. The authors train 3,000 epochs in batches of 1,024 pairs; the margin, which they
    have from the start, can be phased in for shorter runs.

    Args:
        class_names: The training identities, in the order of the labels; linked from the data.
        image_size: S, the input's side in pixels; linked from the data.
        embedding_dim: D.
        hidden_dim: H, the linear layer before it.
        kernel_sizes: Of the Gabor filters, one a branch, in pixels.
        orientations: Of the Gabor filters, one number a branch.
        channels: Of each convolution that reads a competition.
        channel_weight: Share of the competition among channels; the rest is spatial.
        normalized: Batch norm, which the paper has not; with it a few hundred steps are enough to
            learn something.
        standardize: `image`: every picture to mean 0 and deviation 1; or `none`.
        dropout: Of the embedding, for ArcFace.
        margin: m of ArcFace, radians.
        scale: s of ArcFace.
        margin_start_step: Until this step there is no margin.
        margin_full_step: From this step on it is all there; in between it grows evenly.
        contrastive_weight: w.
        temperature: τ of the contrastive loss.
        lr: Peak learning rate of AdamW.
        weight_decay: Of AdamW; 0 is the authors' Adam.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it, up to `trainer.max_steps`; theirs falls to 0.26 of it in
            steps.
        channels_last: Memory format of images and convolutions; faster in bf16.
        compile_network: `torch.compile` its branches.
        weights: What the network starts from: a checkpoint of this module, or a folder that
            `train.py recognizer export` wrote; null: random numbers.
    """

    network: CCNet

    def __init__(
        self,
        class_names: Sequence[str],
        image_size: int = 128,
        embedding_dim: int = 2048,
        hidden_dim: int = 4096,
        kernel_sizes: Sequence[int] = (35, 17, 7),
        orientations: Sequence[int] = (9, 36, 9),
        channels: int = 16,
        channel_weight: float = 0.8,
        normalized: bool = False,
        standardize: Standardize = "image",
        dropout: float = 0.5,
        margin: float = 0.5,
        scale: float = 30.0,
        margin_start_step: int = 0,
        margin_full_step: int = 0,
        contrastive_weight: float = 0.2,
        temperature: float = 0.07,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        warmup_steps: int = 0,
        lr_schedule: Schedule = "cosine",
        channels_last: bool = True,
        compile_network: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__(
            class_names, margin_start_step, margin_full_step, contrastive_weight, lr, weight_decay,
            warmup_steps, lr_schedule, channels_last, compile_network, weights,
        )  # fmt: skip
        self.network = CCNet(
            embedding_dim, hidden_dim, image_size, kernel_sizes, orientations, channels,
            channel_weight, normalized, standardize,
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.loss = MarginLoss("arcface", len(self.class_names), embedding_dim, margin, scale)
        self.contrastive = SupervisedContrastiveLoss(temperature)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """ArcFace over the training identities, and the contrastive loss among the batch."""
        hidden, embeddings = self.network.both_layers(self.images(batch))
        strength = self.margin_strength(self.global_step)
        arcface = self.loss(self.dropout(embeddings), batch["label"], strength)
        both = torch.cat([hidden, embeddings], dim=1)
        return self.weighed(arcface, self.contrastive(both, batch["label"]))
