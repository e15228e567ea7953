"""A palm ROI as one unit vector: any timm backbone, and a small neck."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from palmforge.errors import ConfigError
from palmforge.networks.preparation import Standardize, check_standardize, prepare


class PalmEmbedding(nn.Module):
    """`[N, 3, H, W]` RGB in [0, 1], any H and W → `[N, D]` unit vectors.

    backbone → (1 × 1 convolution → places kept apart, or their mean) → batch norm → linear.

    Args:
        backbone: A timm name. It is not pretrained: nothing is downloaded.
        embedding_dim: D.
        image_size: S: pictures of another size are resized to S × S.
        standardize: `image`: each picture and channel has mean 0 and deviation 1, so that exposure
            and white balance are gone before the first convolution (without it palms are hardly
            learned); `none`: as given.
        grey: Read one grey channel: what is learned cannot lean on colour.
        grid_channels: With a number, the last map is reduced to so many channels and read place by
            place: a palm is aligned, and where a line runs matters. 0: the mean over places.
        backbone_args: For `timm.create_model`.

    Raises:
        ConfigError: If timm does not know the backbone or its arguments.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        embedding_dim: int = 256,
        image_size: int = 128,
        standardize: Standardize = "image",
        grey: bool = True,
        grid_channels: int = 0,
        backbone_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_standardize(standardize)
        self.config: dict[str, Any] = {
            "backbone": backbone,
            "embedding_dim": embedding_dim,
            "image_size": image_size,
            "standardize": standardize,
            "grey": grey,
            "grid_channels": grid_channels,
            "backbone_args": dict(backbone_args or {}),
        }
        self.image_size = image_size
        self.standardize = standardize
        self.grey = grey
        self.backbone = _backbone(backbone, 1 if grey else 3, backbone_args or {})
        channels, height, width = _shape_of_maps(self.backbone, 1 if grey else 3, image_size)
        if grid_channels:
            self.pool: nn.Module = nn.Sequential(
                nn.Conv2d(channels, grid_channels, 1, bias=False),
                nn.BatchNorm2d(grid_channels),
                nn.AdaptiveAvgPool2d((height, width)),  # for inputs of another size than S
                nn.Flatten(),
            )
            channels = grid_channels * height * width
        else:
            self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.norm = nn.BatchNorm1d(channels)
        self.linear = nn.Linear(channels, embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Unit vectors, float32."""
        return normalize(self.features(images).float())

    def features(self, images: Tensor, size: int | None = None) -> Tensor:
        """`[N, D]` before they are brought to unit length; their norm tells quality (AdaFace).

        Args:
            images: `[N, 3, H, W]` RGB in [0, 1].
            size: Read the pictures at this side instead of `image_size`.
        """
        maps = self.backbone(self.prepare(images, size or self.image_size))
        return self.linear(self.norm(self.pool(maps)))

    def prepare(self, images: Tensor, size: int) -> Tensor:
        """What the first convolution reads: `[N, 1 or 3, size, size]`."""
        return prepare(images, size, self.grey, self.standardize)


def _backbone(name: str, channels: int, arguments: dict[str, Any]) -> nn.Module:
    """`[N, channels, S, S]` → `[N, C, h, w]`."""
    import palmforge.networks.mobilefacenet  # noqa: F401  (makes timm know it)

    try:
        return timm.create_model(
            name, pretrained=False, in_chans=channels, num_classes=0, global_pool="", **arguments
        )
    except (RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"model.backbone: timm makes no {name!r} with {arguments}: {error}"
        ) from error


def _shape_of_maps(backbone: nn.Module, channels: int, size: int) -> tuple[int, int, int]:
    with torch.no_grad():
        maps = backbone.eval()(torch.zeros(1, channels, size, size))
    backbone.train()
    if maps.ndim != 4:
        raise ConfigError(
            f"model.backbone: it gives {list(maps.shape)}, not maps [N, C, h, w]; take a "
            "convolutional one"
        )
    return int(maps.shape[1]), int(maps.shape[2]), int(maps.shape[3])
