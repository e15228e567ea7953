"""MobileFaceNet (Chen et al. 2018, arXiv 1804.07573), known to timm as `mobilefacenet`."""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from palmforge.errors import ConfigError

# Table 1: expansion t, output channels c, repetitions n, stride s of the first.
BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))
STEM_CHANNELS, LAST_CHANNELS = 64, 512


class Bottleneck(nn.Sequential):
    """1 × 1 to t · inputs → 3 × 3 depthwise → 1 × 1, linear; added to its input where it can be."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        wide = expansion * inputs
        super().__init__(
            _convolution(inputs, wide),
            _convolution(wide, wide, size=3, stride=stride, groups=wide),
            _convolution(wide, outputs, linear=True),
        )
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, maps: Tensor) -> Tensor:
        """`[N, inputs, h, w]` → `[N, outputs, h/s, w/s]`."""
        return maps + super().forward(maps) if self.is_residual else super().forward(maps)


class MobileFaceNet(nn.Module):
    """`[N, C, S, S]` → `[N, 512, S/16, S/16]`, or `[N, num_classes]`.

    Table 1 of the paper. PReLU after every convolution but the linear ones, batch norm after all.
    What makes it a network for faces, and for palms, is the global depthwise convolution: it gives
    every place of the last map its own weight, where others take the mean.

    Args:
        in_chans: C.
        num_classes: Size of the embedding, by a linear 1 × 1 convolution; the paper's is 128. 0:
            none. Needs `gdconv_size`.
        gdconv_size: Side of the last map, S/16, which the global depthwise convolution reads whole:
            7 at the paper's 112 pixels, 8 at 128; the output then is `[N, 512, 1, 1]`. 0: none.
        width: Multiplies all channels.

    Raises:
        ConfigError: If the settings do not go together.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 0,
        gdconv_size: int = 0,
        width: float = 1.0,
    ) -> None:
        super().__init__()
        if num_classes and not gdconv_size:
            raise ConfigError("mobilefacenet: num_classes needs gdconv_size, the last map's side")
        self.gdconv_size = gdconv_size
        self.num_classes = num_classes
        channels, last = round(STEM_CHANNELS * width), round(LAST_CHANNELS * width)
        self.stem = nn.Sequential(
            _convolution(in_chans, channels, size=3, stride=2),
            _convolution(channels, channels, size=3, groups=channels),
        )
        blocks = []
        for expansion, outputs, count, stride in BOTTLENECKS:
            for index in range(count):
                outputs_here = round(outputs * width)
                step = stride if index == 0 else 1
                blocks.append(Bottleneck(channels, outputs_here, expansion, step))
                channels = outputs_here
        self.blocks = nn.Sequential(*blocks)
        self.last = _convolution(channels, last)
        self.num_features = last
        self.gdconv: nn.Module = nn.Identity()
        if gdconv_size:
            self.gdconv = _convolution(
                last, last, size=gdconv_size, padding=0, groups=last, linear=True
            )
        self.embedding: nn.Module = nn.Identity()
        if num_classes:
            self.embedding = nn.Sequential(
                _convolution(last, num_classes, linear=True), nn.Flatten()
            )

    def forward(self, images: Tensor) -> Tensor:
        """See the class.

        Raises:
            ConfigError: If the last map is not of `gdconv_size`.
        """
        maps = self.last(self.blocks(self.stem(images)))
        side = self.gdconv_size
        if side and tuple(maps.shape[2:]) != (side, side):
            raise ConfigError(
                f"model.backbone_args.gdconv_size: {side}, but pictures of {images.shape[-1]} "
                f"pixels give a last map of {maps.shape[2]} × {maps.shape[3]}: set it to that side"
            )
        return self.embedding(self.gdconv(maps))


@register_model
def mobilefacenet(
    pretrained: bool = False,
    in_chans: int = 3,
    num_classes: int = 0,
    global_pool: str = "",
    gdconv_size: int = 0,
    width: float = 1.0,
    **_of_timm: Any,
) -> MobileFaceNet:
    """What `timm.create_model("mobilefacenet", …)` calls; see `MobileFaceNet`.

    Raises:
        ValueError: If weights or a pooling are asked for; there are none.
    """
    unknown = _of_timm.keys() - {"pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"}
    if unknown:
        raise TypeError(f"mobilefacenet has no argument {', '.join(sorted(unknown))}")
    if pretrained or global_pool:
        raise ValueError("mobilefacenet has neither pretrained weights nor a global_pool")
    return MobileFaceNet(in_chans, num_classes, gdconv_size, width)


def _convolution(
    inputs: int,
    outputs: int,
    size: int = 1,
    stride: int = 1,
    padding: int | None = None,
    groups: int = 1,
    linear: bool = False,
) -> nn.Sequential:
    around = size // 2 if padding is None else padding
    convolution = nn.Conv2d(inputs, outputs, size, stride, around, groups=groups, bias=False)
    layers: list[nn.Module] = [convolution, nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([] if linear else [nn.PReLU(outputs)]))
