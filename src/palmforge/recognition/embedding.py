"""Recognisers whose template is a unit vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from palmforge.metrics.embeddings import pairwise_distances
from palmforge.networks.ccnet import CCNet
from palmforge.networks.embedding import PalmEmbedding
from palmforge.networks.preparation import as_float


class EmbeddingRecognizer(nn.Module):
    """A trained `PalmEmbedding` or `CCNet`, for using: in eval mode, without gradients.

    Args:
        network: With its weights.
        name: What to call it.
        class_names: The identities that it was trained on, where they are known.
        batch_size: Pictures that `embed` takes at a time.
    """

    def __init__(
        self,
        network: PalmEmbedding | CCNet,
        name: str = "embedding",
        class_names: Sequence[str] | None = None,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.class_names = class_names
        self.batch_size = batch_size
        self.requires_grad_(False)
        self.eval()

    @property
    def template_bytes(self) -> int:
        """Size of one template."""
        return 4 * self.network.linear.out_features

    def train(self, mode: bool = True) -> EmbeddingRecognizer:
        """Stays in eval mode, whatever holds it: batch norm must not see the batch."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """`[N, 3, H, W]` float RGB in [0, 1], any H and W → `[N, D]` unit vectors.

        Weights are frozen, but a gradient reaches `images` if they ask for one: so it can guide a
        generator.
        """
        return self.network(images)

    def embed(self, rois: Tensor) -> Tensor:
        """Templates of any number of ROIs.

        Args:
            rois: `[N, 3, H, W]` RGB, uint8 or float in [0, 1].

        Returns:
            `[N, D]` float32 unit vectors, on the device of the network.
        """
        return self.embed_with_quality(rois)[0]

    @torch.no_grad()
    def embed_with_quality(self, rois: Tensor) -> tuple[Tensor, Tensor]:
        """`embed`, and how much of a palm each picture shows.

        Quality is the length of a vector before it is brought to 1 (Kim et al., AdaFace, 2022):
        where noise, blur or darkness hide the lines, vectors are short. Its scale is each network's
        own: `train.py recognizer verify` tells what to refuse (`--min_quality`).

        Args:
            rois: As for `embed`.

        Returns:
            `[N, D]` and `[N]` float32, on the device of the network.
        """
        linear = self.network.linear
        empty = torch.zeros(0, linear.out_features, device=linear.weight.device)
        parts = [
            self.network.features(as_float(part.to(linear.weight.device))).float()
            for part in rois.split(self.batch_size)
            if len(part)
        ]
        vectors = torch.cat([empty, *parts])
        return normalize(vectors), vectors.norm(dim=1)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Cosine distances `[Na, Nb]`, in 0 … 2, of templates `[Na, D]` and `[Nb, D]`."""
        return pairwise_distances(a, b, "cosine")
