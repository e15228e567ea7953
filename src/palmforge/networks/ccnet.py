"""CCNet (Yang et al. 2023, IEEE TIFS 18): Gabor filters that learn, and compete with each other.

Written from the paper and the sizes of its authors' code (github.com/Zi-YuanYang/CCNet).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import SEModule
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize

from palmforge.errors import ConfigError
from palmforge.networks.preparation import Standardize, check_standardize, prepare

# What a 35-pixel filter starts from; one of k pixels is the same filter at another scale.
SIGMA, FREQUENCY, GAMMA, LARGEST_KERNEL = 9.2, 0.057, 2.0, 35


class LearnableGabor(nn.Module):
    """`[N, C, H, W]` → `[N, K, H/2, W/2]`: one Gabor filter in K orientations.

    With x' = x cos θ + y sin θ and y' = −x sin θ + y cos θ, x to the right and y down from the
    middle, in pixels, and θ = kπ/K for k = 0 … K − 1:

        g(x, y) = −exp(−((γ x')² + y'²) / (16 σ²)) cos(2π f x'), less its mean over the kernel.

    γ, σ and f are learned, one each for all orientations: the filters stay Gabor filters. All C
    channels of the input meet the same kernel, so their sum is filtered once: the same, C times
    cheaper.

    Args:
        orientations: K.
        kernel_size: Odd, in pixels.
        scale: r: starts from σ = 9.2 r, f = 0.057 / r, γ = 2.

    Raises:
        ConfigError: If the kernel's side is even.
    """

    x: Tensor
    y: Tensor
    theta: Tensor

    def __init__(self, orientations: int, kernel_size: int, scale: float) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(f"model.kernel_sizes: {kernel_size} has no middle; take an odd one")
        self.gamma = nn.Parameter(torch.tensor(GAMMA))
        self.sigma = nn.Parameter(torch.tensor(SIGMA * scale))
        self.frequency = nn.Parameter(torch.tensor(FREQUENCY / scale))
        half = kernel_size // 2
        steps = torch.arange(-half, half + 1).float()
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        theta = torch.arange(orientations).float() * math.pi / orientations
        self.register_buffer("x", x, persistent=False)
        self.register_buffer("y", y, persistent=False)
        self.register_buffer("theta", theta.view(-1, 1, 1), persistent=False)

    def kernels(self) -> Tensor:
        """`[K, k, k]`, each of mean 0."""
        along = self.x * self.theta.cos() + self.y * self.theta.sin()
        across = -self.x * self.theta.sin() + self.y * self.theta.cos()
        envelope = ((self.gamma * along) ** 2 + across**2) / (16 * self.sigma**2)
        gabor = -torch.exp(-envelope) * torch.cos(2 * math.pi * self.frequency * along)
        return gabor - gabor.mean(dim=(1, 2), keepdim=True)

    def forward(self, maps: Tensor) -> Tensor:
        """See the class."""
        kernels = self.kernels().unsqueeze(1)
        return conv2d(maps.sum(1, keepdim=True), kernels, stride=2, padding=kernels.shape[-1] // 2)


def compete(responses: Tensor, channel_weight: float) -> Tensor:
    """Who wins: w softmax over channels + (1 − w)/2 (softmax over rows + softmax over columns).

    Args:
        responses: `[N, K, H, W]`.
        channel_weight: w in [0, 1].

    Returns:
        `[N, K, H, W]` in [0, 1].
    """
    spatial = responses.softmax(2) + responses.softmax(3)
    return channel_weight * responses.softmax(1) + (1 - channel_weight) / 2 * spatial


class CompetitiveBlock(nn.Module):
    """`[N, 1, S, S]` → `[N, F]`: one branch, with textures of first and second order.

    The second order is the Gabor response of the Gabor response. Each order: competition →
    squeeze and excitation → 5 × 5 convolution of stride 2 → max pooling → flat.

    Args:
        orientations: K.
        kernel_size: Of the Gabor filters.
        channels: Of each order's convolution.
        channel_weight: Share of the competition among channels; the rest is spatial.
        normalized: Batch norm before the convolution. Not in the paper: a softmax over 64 places
            leaves some 1/64 at each, and few steps do not get far from there.
    """

    def __init__(
        self,
        orientations: int,
        kernel_size: int,
        channels: int,
        channel_weight: float,
        normalized: bool = False,
    ) -> None:
        super().__init__()
        scale = 2.0 ** round(math.log2(kernel_size / LARGEST_KERNEL))  # 35, 17, 7 → 1, 1/2, 1/4
        self.channel_weight = channel_weight
        self.first = LearnableGabor(orientations, kernel_size, scale)
        self.second = LearnableGabor(orientations, kernel_size, scale)
        self.read_first = _reading(orientations, channels, normalized)
        self.read_second = _reading(orientations, channels, normalized)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        # Responses of the second order go into the thousands, which bfloat16 knows to ±4; the
        # softmax makes a factor of e of a difference of 1.
        with torch.autocast(images.device.type, enabled=False):
            first = self.first(images.float())
            second = self.second(first)
            won_first = compete(first, self.channel_weight)
            won_second = compete(second, self.channel_weight)
        return torch.cat([self.read_first(won_first), self.read_second(won_second)], dim=1)


class _Branches(nn.ModuleList):
    """Side by side."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([branch(images) for branch in self], dim=1)


class CCNet(nn.Module):
    """`[N, 3, H, W]` RGB in [0, 1], any H and W → `[N, D]` unit vectors.

    One grey channel → three branches of `CompetitiveBlock` → linear (H) → linear (D); nothing
    between the two linear layers. The defaults are the authors': 62.3 M parameters at 128 pixels,
    of which the first linear layer has 53.9 M.

    Args:
        embedding_dim: D.
        hidden_dim: H.
        image_size: S: pictures of another size are resized to S × S.
        kernel_sizes: Of the Gabor filters, one a branch.
        orientations: K, one a branch.
        channels: Of each convolution that reads a competition.
        channel_weight: Share of the competition among channels; the rest is spatial.
        normalized: Batch norm before these convolutions and after the first linear layer; not in
            the paper.
        standardize: `image`: every picture to mean 0 and deviation 1 (the authors leave black
            pixels out of both); or `none`.

    Raises:
        ConfigError: If the settings do not go together.
    """

    def __init__(
        self,
        embedding_dim: int = 2048,
        hidden_dim: int = 4096,
        image_size: int = 128,
        kernel_sizes: Sequence[int] = (35, 17, 7),
        orientations: Sequence[int] = (9, 36, 9),
        channels: int = 16,
        channel_weight: float = 0.8,
        normalized: bool = False,
        standardize: Standardize = "image",
    ) -> None:
        super().__init__()
        check_standardize(standardize)
        if len(kernel_sizes) != len(orientations) or not kernel_sizes:
            raise ConfigError(
                f"model.kernel_sizes and model.orientations: one each a branch, got "
                f"{list(kernel_sizes)} and {list(orientations)}"
            )
        if image_size < 48:
            raise ConfigError(f"model.image_size: {image_size} is too small for CCNet, take >= 48")
        self.config: dict[str, Any] = {
            "embedding_dim": embedding_dim,
            "hidden_dim": hidden_dim,
            "image_size": image_size,
            "kernel_sizes": list(kernel_sizes),
            "orientations": list(orientations),
            "channels": channels,
            "channel_weight": channel_weight,
            "normalized": normalized,
            "standardize": standardize,
        }
        self.image_size = image_size
        self.standardize = standardize
        self.backbone = _Branches(
            CompetitiveBlock(count, size, channels, channel_weight, normalized)
            for size, count in zip(kernel_sizes, orientations, strict=True)
        )
        with torch.no_grad():
            flat = self.backbone.eval()(torch.zeros(1, 1, image_size, image_size)).shape[1]
        self.backbone.train()
        self.hidden = nn.Linear(flat, hidden_dim)
        self.norm = nn.BatchNorm1d(hidden_dim) if normalized else nn.Identity()
        self.linear = nn.Linear(hidden_dim, embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Unit vectors, float32."""
        return normalize(self.features(images).float())

    def features(self, images: Tensor) -> Tensor:
        """`[N, D]` before they are brought to unit length."""
        return self.both_layers(images)[1]

    def both_layers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, H]` and `[N, D]`: the contrastive loss reads both linear layers.

        Raises:
            ValueError: If `images` are not `[N, 3, H, W]` floats.
        """
        pictures = prepare(images, self.image_size, grey=True, standardize=self.standardize)
        hidden = self.norm(self.hidden(self.backbone(pictures)))
        return hidden, self.linear(hidden)


def _reading(inputs: int, channels: int, normalized: bool) -> nn.Sequential:
    return nn.Sequential(
        SEModule(inputs, rd_channels=inputs, bias=False),
        nn.BatchNorm2d(inputs) if normalized else nn.Identity(),
        nn.Conv2d(inputs, channels, kernel_size=5, stride=2),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
