"""The networks of Shao et al. 2020: VGG-16 hashing (teacher), the tiny student of Table 1."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Norm = Literal["none", "batch", "group"]
Normalization = Literal["imagenet", "image"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

VGG16_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class HashingOutput(NamedTuple):
    """What both networks return.

    Attributes:
        codes: `[N, B]` tanh outputs in (−1, 1); their signs are the code, sgn(0) = +1.
        logits: `[N, C]`, or None without a classifier head.
        features: `[N, F]`, the penultimate layer, which both heads read.
    """

    codes: Tensor
    logits: Tensor | None
    features: Tensor


def binarize(codes: Tensor) -> Tensor:
    """B = sgn(h) in {−1, +1}, with sgn(0) = +1. Same shape and dtype as `codes`."""
    return torch.where(codes >= 0, 1.0, -1.0).to(codes.dtype)


class _HashingNetwork(nn.Module):
    """`[N, 3, S, S]` RGB in [0, 1] → features → codes and, from the features, class logits."""

    mean: Tensor
    std: Tensor
    hash_layer: nn.Linear
    classifier: nn.Linear | None

    def __init__(
        self,
        num_bits: int,
        num_classes: int | None,
        image_size: int,
        normalization: Normalization,
    ) -> None:
        super().__init__()
        if normalization not in ("imagenet", "image"):
            raise ValueError(f"normalization must be imagenet or image, got {normalization!r}")
        self.normalization = normalization
        if num_bits < 8 or num_bits % 8:
            raise ValueError(f"num_bits must be a positive multiple of 8, got {num_bits}")
        self.num_bits = num_bits
        self.num_classes = num_classes
        self.image_size = image_size
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def _heads(self, num_features: int) -> None:
        self.hash_layer = nn.Linear(num_features, self.num_bits)
        self.classifier = nn.Linear(num_features, self.num_classes) if self.num_classes else None

    def normalize(self, images: Tensor) -> Tensor:
        """`[N, 3, S, S]` in [0, 1] → what the first convolution reads.

        Raises:
            ValueError: If the pictures are not S × S, which a fully connected layer needs.
        """
        size = self.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ValueError(
                f"images [N, 3, {size}, {size}] expected, got {list(images.shape)}: image_size of "
                "the model and of the data must be the same"
            )
        if self.normalization == "imagenet":
            return (images - self.mean) / self.std
        # Not torch.std_mean: on a CPU it takes eight times as long, as much as all convolutions.
        centred = images - images.mean(dim=(2, 3), keepdim=True)
        return centred / (centred.square().mean(dim=(2, 3), keepdim=True).sqrt() + 1e-3)

    def heads(self, features: Tensor) -> HashingOutput:
        """Codes and logits of penultimate features `[N, F]`."""
        codes = torch.tanh(self.hash_layer(features))
        logits = None if self.classifier is None else self.classifier(features)
        return HashingOutput(codes, logits, features)


class TinyHashing(_HashingNetwork):
    """The student of Table 1: two convolutions, three fully connected layers.

    At 128 × 128 and 128 bits: 243,424 parameters, 973,696 bytes (0.93 MB) in float32. At the
    224 × 224 of VGG: 685,792 parameters. The classifier head (129 per class), which is not needed
    on the device, comes on top.

    Args:
        num_bits: B, a multiple of 8.
        num_classes: C; None leaves out the classifier head.
        image_size: S, in pixels; 55 or more.
        normalization: `image`: each channel of each picture to mean 0 and variance 1, which takes
            exposure and white balance out; `imagenet`: ImageNet's mean and variance.
    """

    def __init__(
        self,
        num_bits: int = 128,
        num_classes: int | None = None,
        image_size: int = 128,
        normalization: Normalization = "image",
    ) -> None:
        super().__init__(num_bits, num_classes, image_size, normalization)
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 16, kernel_size=3, stride=4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, kernel_size=5, stride=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        side = self._side(image_size)
        if side < 1:
            raise ValueError(f"image_size must be 55 or more for this network, got {image_size}")
        self.full3 = nn.Linear(32 * side * side, 512)
        self.full4 = nn.Linear(512, 128)
        self._heads(128)

    @staticmethod
    def _side(size: int) -> int:
        after_first = ((size - 3) // 4 + 1) // 2
        return ((after_first - 5) // 2 + 1) // 2

    def forward(self, images: Tensor) -> HashingOutput:
        """`[N, 3, S, S]` RGB in [0, 1] → `.codes [N, B]`, `.logits [N, C]` or None."""
        hidden = torch.relu(self.full3(self.convolutions(self.normalize(images))))
        return self.heads(torch.tanh(self.full4(hidden)))


class VGG16Hashing(_HashingNetwork):
    """VGG-16 whose last layer gives B bits (Shao et al. 2020, §3.1, Figure 1).

    `blocks[0]` … `blocks[4]` are the five groups of convolutions; `full` the first two fully
    connected layers. At 128 × 128 and 128 bits it has 65.6 M parameters (4 × 4 × 512 inputs to the
    fully connected layers), at 224 × 224 134.8 M.

    Args:
        num_bits: B, a multiple of 8.
        num_classes: C; None leaves out the classifier head.
        image_size: S, in pixels; a multiple of 32.
        width: Channels and hidden units relative to VGG-16. Below 1 it trains in minutes on a CPU,
            from scratch; pretrained weights need 1.
        norm: `"none"` is VGG-16. `"batch"` is torchvision's `vgg16_bn`. `"group"` makes training
            from scratch work without mixing the images of a batch, so that it gives the same
            result however the batch is spread over GPUs.
        dropout: In the fully connected layers, as in VGG-16.
        normalization: Of the input: `imagenet`, which ImageNet weights need, or `image` (see
            `TinyHashing`).
    """

    def __init__(
        self,
        num_bits: int = 128,
        num_classes: int | None = None,
        image_size: int = 128,
        width: float = 1.0,
        norm: Norm = "none",
        dropout: float = 0.5,
        normalization: Normalization = "imagenet",
    ) -> None:
        super().__init__(num_bits, num_classes, image_size, normalization)
        if image_size < 32 or image_size % 32:
            raise ValueError(f"image_size must be a multiple of 32 for VGG-16, got {image_size}")
        self.blocks = nn.ModuleList()
        channels = 3
        for block in VGG16_BLOCKS:
            layers: list[nn.Module] = []
            for out in block:
                out = max(8, round(out * width / 8) * 8)
                layers += [nn.Conv2d(channels, out, 3, padding=1), *_norm(norm, out), nn.ReLU(True)]
                channels = out
            self.blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        hidden = max(64, round(4096 * width / 8) * 8)
        self.full = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * (image_size // 32) ** 2, hidden),
            nn.ReLU(True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(True),
            nn.Dropout(dropout),
        )
        self._heads(hidden)
        self.num_frozen = 0
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He initialisation, as torchvision's VGG has it: the signal survives 13 ReLUs."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
        for layer in self.full:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def freeze(self, num_blocks: int) -> None:
        """Freezes blocks 1 … `num_blocks`: no gradient, and eval mode whatever `train()` says."""
        if not 0 <= num_blocks <= len(self.blocks):
            raise ValueError(f"frozen_blocks must be 0 to {len(self.blocks)}, got {num_blocks}")
        self.num_frozen = num_blocks
        for block in self.blocks[:num_blocks]:
            block.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> VGG16Hashing:
        """As `nn.Module.train`, but frozen blocks stay in eval mode."""
        super().train(mode)
        for block in self.blocks[: self.num_frozen]:
            block.eval()
        return self

    def frozen_features(self, images: Tensor) -> Tensor:
        """What the frozen blocks make of images: `[N, C', S', S']`.

        Without a graph, unless somebody wants the gradient of the images themselves.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
            features = self.normalize(images)
            for block in self.blocks[: self.num_frozen]:
                features = block(features)
        return features

    def forward(self, images: Tensor, frozen_features: Tensor | None = None) -> HashingOutput:
        """`[N, 3, S, S]` RGB in [0, 1] → `.codes [N, B]`, `.logits [N, C]` or None.

        Args:
            images: Not looked at where `frozen_features` are given.
            frozen_features: The output of `frozen_features(images)`, from a cache.
        """
        features = self.frozen_features(images) if frozen_features is None else frozen_features
        for block in self.blocks[self.num_frozen :]:
            features = block(features)
        return self.heads(self.full(features))


def _norm(kind: Norm, channels: int) -> list[nn.Module]:
    if kind == "none":
        return []
    if kind == "batch":
        return [nn.BatchNorm2d(channels)]
    if kind == "group":
        return [nn.GroupNorm(max(1, channels // 16), channels)]
    raise ValueError(f"norm must be 'none', 'batch' or 'group', got {kind!r}")
