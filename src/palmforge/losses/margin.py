"""Angular-margin softmax over the training identities, its margin phased in from outside.

ArcFace, CosFace and sub-centre ArcFace are those of pytorch-metric-learning. AdaFace, which the
library lacks, is written here from the paper.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from palmforge.errors import ConfigError

MarginHead = Literal["arcface", "cosface", "subcenter", "adaface"]


class MarginLoss(nn.Module):
    """`-log p(identity)` from scaled cosines to one trained centre an identity, less a margin.

    A margin from the first step on keeps a network that knows nothing from learning anything: give
    `strength` 0 until the loss falls, then raise it to 1.

    Args:
        head: `arcface` (Deng et al. 2019): cos(θ + m), m in radians. `cosface` (Wang et al. 2018):
            cos θ − m. `subcenter` (Deng et al. 2020): ArcFace with three centres an identity.
            `adaface` (Kim et al. 2022): m by the picture's quality, told by the embedding's norm.
        num_classes: C.
        embedding_dim: D.
        margin: m.
        scale: s, what cosines are multiplied by.

    Raises:
        ConfigError: If `head` is unknown.
    """

    def __init__(
        self,
        head: MarginHead,
        num_classes: int,
        embedding_dim: int,
        margin: float,
        scale: float,
    ) -> None:
        super().__init__()
        self.margin = margin
        # Here, not above: importing the library takes 2 s, of every command.
        from pytorch_metric_learning import losses

        sizes = {"num_classes": num_classes, "embedding_size": embedding_dim, "scale": scale}
        self.head: nn.Module
        if head == "cosface":
            self.head = losses.CosFaceLoss(margin=margin, **sizes)
        elif head == "arcface":
            self.head = losses.ArcFaceLoss(margin=math.degrees(margin), **sizes)
        elif head == "subcenter":
            self.head = losses.SubCenterArcFaceLoss(margin=math.degrees(margin), **sizes)
        elif head == "adaface":
            self.head = AdaFaceLoss(num_classes, embedding_dim, margin, scale)
        else:
            raise ConfigError(
                f"model.head: {head!r} is not one of arcface, cosface, subcenter, adaface"
            )

    def forward(self, embeddings: Tensor, labels: Tensor, strength: float = 1.0) -> Tensor:
        """The mean over the batch.

        Args:
            embeddings: `[N, D]`, before they are brought to unit length.
            labels: `[N]` int64 in 0 … C − 1.
            strength: In [0, 1]; multiplies the margin.

        Returns:
            A scalar, computed in float32 whatever the autocast.
        """
        # A plain attribute, in radians for ArcFace, as the library keeps it.
        setattr(self.head, "margin", strength * self.margin)  # noqa: B010  (not a Tensor)
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.head(embeddings.float(), labels)


class SupervisedContrastiveLoss(nn.Module):
    """Supervised contrastive loss (Khosla et al. 2020, Eq. 2) among the pictures of a batch.

    Args:
        temperature: τ, what cosines are divided by.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        from pytorch_metric_learning import losses

        self.loss = losses.SupConLoss(temperature=temperature)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """`[N, D]`, `[N]` → a scalar, in float32; 0 if no two pictures share a label."""
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.loss(embeddings.float(), labels)


class AdaFaceLoss(nn.Module):
    """AdaFace (Kim et al. 2022, Eqs. 8 to 13): hard pictures are stressed only if they are good.

    With q the embedding's norm, normalised by running mean and deviation, times `concentration`
    and clipped to ±1: logit of the own identity = s (cos(θ − m q) − m (q + 1)).

    Args:
        num_classes: C.
        embedding_dim: D.
        margin: m; the paper's is 0.4.
        scale: s; the paper's is 64.
        concentration: h; the paper's is 0.333.
        momentum: Of the running mean and deviation; the paper's is 0.99.
    """

    norm_mean: Tensor
    norm_sd: Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        margin: float = 0.4,
        scale: float = 64.0,
        concentration: float = 0.333,
        momentum: float = 0.99,
    ) -> None:
        super().__init__()
        self.margin = margin
        self.scale = scale
        self.concentration = concentration
        self.momentum = momentum
        self.W = nn.Parameter(nn.init.normal_(torch.empty(embedding_dim, num_classes)))
        self.register_buffer("norm_mean", torch.tensor(20.0))
        self.register_buffer("norm_sd", torch.tensor(100.0))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """`[N, D]` float32, `[N]` → the mean loss."""
        own = torch.arange(len(labels), device=labels.device), labels
        cosines = normalize(embeddings) @ normalize(self.W, dim=0)
        quality = self._quality(embeddings.detach().norm(dim=1))
        angle = torch.acos(cosines[own].clamp(-1 + 1e-6, 1 - 1e-6))
        turned = (angle - self.margin * quality).clamp(1e-3, math.pi - 1e-3)
        mine = turned.cos() - self.margin * (quality + 1)
        return cross_entropy(self.scale * cosines.index_put(own, mine), labels)

    def _quality(self, norms: Tensor) -> Tensor:
        """`[N]` in [−1, 1]."""
        norms = norms.clamp(1e-3, 100.0)
        if self.training and len(norms) > 1:
            self.norm_mean.lerp_(norms.mean(), 1 - self.momentum)
            self.norm_sd.lerp_(norms.std(), 1 - self.momentum)
        normalised = (norms - self.norm_mean) / (self.norm_sd + 1e-3)
        return (normalised * self.concentration).clamp(-1, 1)
