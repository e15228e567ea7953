"""Recognisers whose template is a binary code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from palmforge.metrics.hamming import hamming_distances, pack_bits
from palmforge.networks.hashing import TinyHashing, VGG16Hashing
from palmforge.networks.preparation import as_float


class HashingRecognizer(nn.Module):
    """A trained hashing network (Shao et al. 2020), for using: eval mode, no gradients.

    Args:
        network: With its weights; the classifier head is not looked at.
        name: What to call it.
        class_names: The identities that it was trained on, where they are known.
        batch_size: Pictures that `embed` takes at a time.
    """

    def __init__(
        self,
        network: TinyHashing | VGG16Hashing,
        name: str = "hashing",
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
        return self.network.num_bits // 8

    @torch.no_grad()
    def embed(self, rois: Tensor) -> Tensor:
        """`[N, 3, H, W]` RGB, uint8 or float in [0, 1] → packed codes `[N, B / 8]` uint8."""
        parts = [
            pack_bits(self.network(self._prepared(part)).codes)
            for part in rois.split(self.batch_size)
            if len(part)
        ]
        return torch.cat(parts) if parts else torch.zeros(0, self.template_bytes, dtype=torch.uint8)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Hamming distances in bits, `[Na, Nb]` float32."""
        return torch.from_numpy(hamming_distances(a.cpu(), b.cpu()).astype(np.float32))

    def _prepared(self, rois: Tensor) -> Tensor:
        images = as_float(rois.to(self.network.mean.device)).float()
        size = (self.network.image_size,) * 2
        if tuple(images.shape[2:]) != size:
            images = interpolate(images, size, mode="bilinear", antialias=True)
        return images
