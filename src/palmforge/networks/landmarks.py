"""Two small networks that find palms: one says where they are, the other where their points are.

Both stand on the same trunk of plain 3 × 3 convolutions. Depthwise ones have fewer operations, but
on a CPU with bfloat16 units they train three times slower (timm mobilenetv3_large: 41 images a
second, resnet10t: 129, at 128 pixels), and the networks have to be trainable on one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, normalize, softmax

from palmforge.networks.hashing import IMAGENET_MEAN, IMAGENET_STD

DETECTOR_STRIDE = 8  # input pixels a cell of the detector's map
LANDMARK_STRIDE = 4  # input pixels a cell of the heat maps
NUM_POINTS = 35  # 14 of XJTU-UP, then 21 of the hand
PEAK_RADIUS = 3  # cells around the highest one of which a point is the mean


class DetectorOutput(NamedTuple):
    """What the detector says of each cell of its map (stride 8).

    Attributes:
        heat: `[N, h, w]` logits: whether the centre of a palm's ROI is here.
        offset: `[N, 2, h, w]` (x, y) from the middle of the cell to the centre, in cells.
        log_side: `[N, h, w]` natural logarithm of the ROI's side in cells.
        up: `[N, 2, h, w]` (x, y), towards the fingers; length 1 only after normalization.
        left: `[N, h, w]` logits: whether it is a left hand, seen from the palm.
    """

    heat: Tensor
    offset: Tensor
    log_side: Tensor
    up: Tensor
    left: Tensor


class LandmarkOutput(NamedTuple):
    """What the landmark network says of each crop.

    Attributes:
        heat: `[N, 35, h, w]` logits over the cells (stride 4) for each point.
        visible: `[N, 35]` logits: whether the point is in view and not hidden.
        present: `[N]` logits: whether there is a palm in the middle of the crop.
        mirrored: `[N]` logits: whether the crop shows the palm the wrong way round, as a left hand.
    """

    heat: Tensor
    visible: Tensor
    present: Tensor
    mirrored: Tensor


def _convolution(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class _Block(nn.Module):
    """The basic block of ResNet (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, 3, stride)
        self.second = _convolution(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(inputs, outputs, 1, stride)
        norm = self.second[1]
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.zeros_(norm.weight)  # starts as the identity

    def forward(self, features: Tensor) -> Tensor:
        hidden = self.second(torch.relu(self.first(features)))
        return torch.relu(hidden + self.shortcut(features))


class PalmTrunk(nn.Module):
    """RGB → features at 1/8 that have seen 1/16 and 1/32 (a feature pyramid, Lin et al. 2017).

    Args:
        widths: Channels at 1/4, 1/8, 1/16 and 1/32.
        depths: Blocks at each of them.
        neck: Channels of the output.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 192),
        depths: Sequence[int] = (1, 2, 2, 1),
        neck: int = 96,
    ) -> None:
        super().__init__()
        if len(widths) != 4 or len(depths) != 4:
            raise ValueError(f"four widths and four depths expected, got {widths} and {depths}")
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        self.stem = nn.Sequential(
            _convolution(3, 16, 3, 2), nn.ReLU(), _convolution(16, widths[0], 3, 2), nn.ReLU()
        )
        self.stages = nn.ModuleList()
        channels = widths[0]
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = []
            for number in range(depth):
                blocks.append(_Block(channels, width, 2 if level and not number else 1))
                channels = width
            self.stages.append(nn.Sequential(*blocks))
        self.lateral = nn.ModuleList(_convolution(width, neck, 1) for width in widths[1:])
        self.smooth = nn.Sequential(nn.ReLU(), _convolution(neck, neck), nn.ReLU())
        self.top_channels = widths[3]
        self.neck_channels = neck

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, 3, H, W]` in [0, 1], sides multiples of 32 → `[N, neck, H/8, W/8]`, the 1/32 level.

        Raises:
            ValueError: If a side is not a multiple of 32.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % 32 or images.shape[3] % 32:
            raise ValueError(
                "images [N, 3, H, W] with sides of multiples of 32 expected, got "
                f"{list(images.shape)}"
            )
        features = self.stages[0](self.stem((images - self.mean) / self.std))
        levels = []
        for stage in list(self.stages)[1:]:
            features = stage(features)
            levels.append(features)
        merged = self.lateral[2](levels[2])
        for level in (1, 0):
            upper = interpolate(merged, scale_factor=2.0, mode="nearest")
            merged = self.lateral[level](levels[level]) + upper
        return self.smooth(merged), features


class PalmDetector(nn.Module):
    """Centres, sizes, directions and hands of all palms in a picture, in one pass.

    A palm is the peak of a heat map (Zhou et al. 2019, "Objects as points"); what else is known of
    it is read off at the peak.

    Args:
        widths: Of the trunk.
        depths: Of the trunk.
        neck: Of the trunk.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 192),
        depths: Sequence[int] = (1, 2, 2, 1),
        neck: int = 64,
    ) -> None:
        super().__init__()
        self.trunk = PalmTrunk(widths, depths, neck)
        self.head = nn.Sequential(_convolution(neck, neck), nn.ReLU(), nn.Conv2d(neck, 7, 1))
        last = self.head[2]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
        with torch.no_grad():
            last.bias[0] = -4.0  # few cells are centres: so the first steps are not spent on that

    def forward(self, images: Tensor) -> DetectorOutput:
        """`[N, 3, H, W]` RGB in [0, 1], sides multiples of 32 → maps at 1/8."""
        features, _ = self.trunk(images)
        maps = self.head(features).float()
        return DetectorOutput(maps[:, 0], maps[:, 1:3], maps[:, 3], maps[:, 4:6], maps[:, 6])


class PalmLandmarks(nn.Module):
    """14 + 21 points of the palm in a crop, fingers up and index side on the right.

    Args:
        widths: Of the trunk.
        depths: Of the trunk.
        neck: Of the trunk.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 192),
        depths: Sequence[int] = (1, 2, 2, 1),
        neck: int = 96,
    ) -> None:
        super().__init__()
        self.trunk = PalmTrunk(widths, depths, neck)
        # 1/8 → 1/4: each cell gives the four below it.
        self.maps = nn.Conv2d(neck, 4 * NUM_POINTS, 1)
        self.unfold = nn.PixelShuffle(2)
        self.facts = nn.Linear(self.trunk.top_channels + neck, NUM_POINTS + 2)

    def forward(self, images: Tensor) -> LandmarkOutput:
        """`[N, 3, S, S]` RGB in [0, 1], S a multiple of 32 → heat maps at 1/4 and logits."""
        features, top = self.trunk(images)
        pooled = torch.cat([top.mean(dim=(2, 3)), features.mean(dim=(2, 3))], dim=1)
        facts = self.facts(pooled).float()
        heat = self.unfold(self.maps(features)).float()
        return LandmarkOutput(
            heat, facts[:, :NUM_POINTS], facts[:, NUM_POINTS], facts[:, NUM_POINTS + 1]
        )


def detector_peaks(output: DetectorOutput, num_peaks: int) -> Tensor:
    """The highest peaks of the detector's map, decoded.

    Args:
        output: Of the detector.
        num_peaks: K.

    Returns:
        `[N, K, 7]`: x, y, side (pixels of the input, centres at integers), up x, up y (length 1),
        probability of a left hand, score in (0, 1); the surest first. Cells that are no peak have
        score 0.
    """
    heat = output.heat.sigmoid()
    # A cell is a peak if none of its eight neighbours is higher.
    heat = torch.where(max_pool2d(heat[:, None], 3, 1, 1)[:, 0] == heat, heat, 0.0)
    rows, columns = heat.shape[1:]
    score, cell = heat.flatten(1).topk(min(num_peaks, rows * columns), dim=1)

    def at(values: Tensor) -> Tensor:
        return values.flatten(1).gather(1, cell)

    x = (cell % columns + 0.5 + at(output.offset[:, 0])) * DETECTOR_STRIDE - 0.5
    y = (cell // columns + 0.5 + at(output.offset[:, 1])) * DETECTOR_STRIDE - 0.5
    side = at(output.log_side).clamp(-3, 6).exp() * DETECTOR_STRIDE
    up = torch.stack([at(output.up[:, 0]), at(output.up[:, 1])], dim=2)
    up = normalize(up, dim=2)
    left = at(output.left).sigmoid()
    return torch.stack([x, y, side, up[..., 0], up[..., 1], left, score], dim=2)


def expected_points(heat: Tensor) -> Tensor:
    """Mean place of each heat map, `[N, K, h, w]` logits → `[N, K, 2]` (x, y) pixels of the crop.

    Differentiable ("integral regression", Sun et al. 2018).
    """
    return _mean_place(softmax(heat.flatten(2), dim=2).view_as(heat))


def peak_points(heat: Tensor) -> tuple[Tensor, Tensor]:
    """Where each heat map is highest, to a fraction of a cell.

    The mean over the neighbourhood of the highest cell: a second, lower peak elsewhere, which would
    pull the mean over all cells between the two, does not count.

    Args:
        heat: `[N, K, h, w]` logits.

    Returns:
        points: `[N, K, 2]` (x, y) pixels of the crop, centres at integers.
        mass: `[N, K]` in (0, 1], the share of the map that lies in the neighbourhood.
    """
    weights = softmax(heat.flatten(2), dim=2)
    best = weights.argmax(dim=2)
    width = heat.shape[3]
    rows = torch.arange(heat.shape[2], device=heat.device)
    columns = torch.arange(width, device=heat.device)
    near_row = ((best // width)[..., None] - rows).abs() <= PEAK_RADIUS
    near_column = ((best % width)[..., None] - columns).abs() <= PEAK_RADIUS
    weights = weights.view_as(heat) * (near_row[..., :, None] & near_column[..., None, :])
    mass = weights.sum(dim=(2, 3))
    return _mean_place(weights / mass[..., None, None]), mass


def _mean_place(weights: Tensor) -> Tensor:
    columns = cell_centres(weights.shape[3], weights.device)
    rows = cell_centres(weights.shape[2], weights.device)
    return torch.stack(
        [(weights.sum(dim=2) * columns).sum(dim=2), (weights.sum(dim=3) * rows).sum(dim=2)], dim=2
    )


def cell_centres(
    count: int, device: torch.device | None = None, stride: int = LANDMARK_STRIDE
) -> Tensor:
    """`[count]` pixel coordinates of the middles of cells; pixel centres are integers."""
    return (torch.arange(count, device=device) + 0.5) * stride - 0.5
