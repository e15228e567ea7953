"""The creases and lines of a palm as a picture: a condition for a generator. Nothing is learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    adaptive_max_pool2d,
    avg_pool2d,
    conv2d,
    interpolate,
    max_pool2d,
    pad,
)

from palmforge.errors import ConfigError
from palmforge.losses.reduction import widen
from palmforge.networks.preparation import GREY_WEIGHTS, as_float

LineMode = Literal["soft", "binary"]

_SMALLEST = 16  # pixels a side: principal lines are two pixels apart
_SHADING = 0.06  # of the side: half the width over which light is averaged at the edges
_DARKEST = 0.03  # added before the logarithm: below it a camera sees noise, not skin
_FAINTEST = 0.004  # of the logarithm: fainter than a grey level, lines are the raster's
_CHECK_EVERY = 8  # steps of growth between looks whether it has ended: each look waits for the GPU


def half_line_filters(num_orientations: int, elongation: float, distance: float) -> Tensor:
    """How much brighter the skin on one side of a line is than the line.

    Filter j is a Gaussian of deviation 1 pixel, `elongation` times as long along the line, whose
    middle lies `distance` pixels from the centre in the direction j·pi / K, minus the same Gaussian
    at the centre. Filters j and j + K are the two sides of one line: their sum is an oriented
    second derivative (as a difference). `networks.gabor` would answer as well, but beside each line
    it finds the line's echoes, and at the edge of a shadow a line: of two sides each can be asked.

    Args:
        num_orientations: K >= 1, over 180°.
        elongation: >= 1.
        distance: > 0.

    Returns:
        `[2 K, 1, S, S]` float32 for `conv2d`, S odd; the sum of each is 0. x points right, y down.
    """
    reach = math.ceil(max(2.5 * elongation, 2.5 + distance))
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angles = torch.arange(2 * num_orientations, dtype=torch.float64).view(-1, 1, 1)
    angles = angles * math.pi / num_orientations
    across = x * angles.cos() + y * angles.sin()
    along = (y * angles.cos() - x * angles.sin()) / elongation

    def gaussian(middle: float) -> Tensor:
        bump = torch.exp(-0.5 * ((across - middle).square() + along.square()))
        return bump / bump.sum((1, 2), keepdim=True)

    return (gaussian(distance) - gaussian(0.0)).float()[:, None]


class LineFilters(nn.Module):
    """Principal lines and the stronger wrinkles of a palm, `[N, 1, H, W]` in [0, 1].

    1. Grey (`GREY_WEIGHTS`) and its logarithm: light multiplies, so it becomes an addition, and
       gamma becomes a factor.
    2. At each scale the picture is brought to a side at which the scale is one pixel, and meets one
       bank (`half_line_filters`). A point's response is that of its best orientation: how much
       brighter the skin beside it is, less so if that is true of one side only, as at an edge.
    3. The mean over the scales, divided by the root mean square of the second derivatives around
       (in all orientations, of dark and bright), is the strength of a line: skin tone, contrast and
       the amount of light do not change it, and noise lowers it.
    4. `soft`: strength^gain / (strength^gain + threshold^gain).

    Scales are shares of the picture's shorter side: pictures of one palm in 64 and in 512 pixels
    give one map, up to resolution. Finer than the finest scale nothing is seen, whatever the size.

    Differentiable in the picture, in both modes.

    Args:
        mode: `soft`: graded; `binary`: 0 or 1. Lines that somewhere reach `seed_level` of the soft
            map are kept as far as they stay above `keep_level`; backwards the gradient is that of
            the soft map (straight-through).
        num_orientations: K, over 180°.
        scales: Deviations across a line, as shares of the side. A crease is 0.01 to 0.03 wide.
        elongation: Length of the filters by their width: long ones join, and see less noise.
        distance: Of the skin that a line is compared with, in deviations.
        sidedness: In [0, 1]. 1: a line counts as much as it is darker than the skin on its lesser
            side; 0: than both on average, and the edge of a hard shadow is half a line. Creases
            that are lit from one side want less than 1.
        threshold: Strength at which the soft map is 0.5.
        gain: Steepness of the soft map about it.
        locality: In [0, 1]: how much of that mean square is of the neighbourhood, and not of the
            whole picture.
        neighbourhood: Side of the neighbourhood, as a share of the picture's.
        seed_level: In [keep_level, 1]: where a binary line begins.
        keep_level: In (0, 1): where it ends.

    Raises:
        ConfigError: If a number is out of its range.
    """

    def __init__(
        self,
        mode: LineMode = "soft",
        num_orientations: int = 8,
        scales: Sequence[float] = (0.01, 0.014, 0.02),
        elongation: float = 4.0,
        distance: float = 2.5,
        sidedness: float = 0.75,
        threshold: float = 1.3,
        gain: float = 4.0,
        locality: float = 0.35,
        neighbourhood: float = 0.3,
        seed_level: float = 0.75,
        keep_level: float = 0.35,
    ) -> None:
        super().__init__()
        if mode not in ("soft", "binary"):
            raise ConfigError(f"mode: {mode!r} is neither soft nor binary")
        if num_orientations < 2 or elongation < 1 or min(distance, threshold) <= 0 or gain < 1:
            raise ConfigError(
                f"num_orientations = {num_orientations} must be >= 2, elongation = {elongation} "
                f"and gain = {gain} >= 1, distance = {distance} and threshold = {threshold} > 0"
            )
        shares = (locality, sidedness, neighbourhood)
        if min(shares) < 0 or max(shares) > 1 or not 0 < keep_level <= seed_level < 1:
            raise ConfigError(
                f"locality = {locality}, sidedness = {sidedness} and neighbourhood = "
                f"{neighbourhood} must be in 0 … 1, and 0 < keep_level = {keep_level} <= "
                f"seed_level = {seed_level} < 1"
            )
        self.mode = mode
        self.scales = tuple(sorted(scales))
        self.sidedness = sidedness
        self.threshold = threshold
        self.gain = gain
        self.locality = locality
        self.neighbourhood = neighbourhood
        self.seed_level = seed_level
        self.keep_level = keep_level
        self.filters: Tensor
        bank = half_line_filters(num_orientations, elongation, distance)
        self.register_buffer("filters", bank, persistent=False)
        reach = bank.shape[-1] // 2
        if not self.scales or self.scales[0] < 0.002 or 1 / self.scales[-1] <= reach + 1:
            raise ConfigError(
                f"scales = {tuple(scales)}: at least one, each from 0.002 to {1 / (reach + 2):.3f} "
                f"of the side (filters reach {reach} times the scale)"
            )

    def forward(self, images: Tensor) -> Tensor:
        """Line maps.

        Args:
            images: `[N, 3, H, W]` RGB, uint8 or floats in [0, 1]; H and W >= 16, any.

        Returns:
            `[N, 1, H, W]` in [0, 1], float32 (float64 of float64), on the device of the images.

        Raises:
            ValueError: If the images are anything else.
        """
        size = images.shape[2:]
        with torch.autocast(images.device.type, enabled=False):  # differences of near-equals
            powered = self.strength(images) ** self.gain
            soft = powered / (powered + self.threshold**self.gain)
            lines = _resized(soft, size)
            if self.mode == "soft":
                return lines
            region = soft >= self.keep_level
            kept = grow(soft >= self.seed_level, region).to(soft.dtype)
            kept = adaptive_max_pool2d(kept, size) > 0
            binary = (kept & (lines >= self.keep_level)).to(lines.dtype)
            return binary + (lines - lines.detach())

    def strength(self, images: Tensor) -> Tensor:
        """Lines in units of the bank's root mean square: `[N, 1, h, w]` >= 0 at the finest scale.

        Args:
            images: As `forward`.
        """
        _check(images)
        values = widen(as_float(images))
        weights = values.new_tensor(GREY_WEIGHTS).view(3, 1, 1)
        grey = (values * weights).sum(1, keepdim=True)
        light = (grey.clamp(min=0) + _DARKEST).log()  # a generator's picture may be below black
        lines, energy = self._responses(light, self.scales[0])
        size = lines.shape[2:]
        for scale in self.scales[1:]:
            coarser = self._responses(light, scale)
            lines = lines + _resized(coarser[0], size)
            energy = energy + _resized(coarser[1], size)
        lines, energy = lines / len(self.scales), energy / len(self.scales)
        radius = max(1, round(self.neighbourhood * min(size) / 2))
        around = _means(pad(energy, (radius,) * 4, mode="reflect"), radius)
        mean = energy.mean((2, 3), keepdim=True)
        energy = torch.lerp(mean.expand_as(around), around, self.locality)
        return lines / (energy + _FAINTEST**2).sqrt()

    def _responses(self, light: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Lines, and the mean square of the second derivatives: `[N, 1, h, w]` each."""
        ratio = 1 / (scale * min(light.shape[2:]))
        texture = _resized(light, [round(side * ratio) for side in light.shape[2:]])
        # Beyond the edge creases are mirrored, but shading goes straight on: mirrored, a slope of
        # light would be a valley there, and gone straight on, noise would be streaks.
        radius, reach = max(1, round(_SHADING / scale)), self.filters.shape[-1] // 2
        shading = _means(_straight_on(texture, radius), radius)
        framed = pad(texture - shading, (reach,) * 4, mode="reflect")
        framed = framed + _straight_on(shading, reach)
        sides = conv2d(framed, self.filters.to(framed.dtype))
        one, other = sides.chunk(2, dim=1)
        curved, slope = (one + other) / 2, (one - other) / 2
        lines = (curved - self.sidedness * slope.abs()).amax(1, keepdim=True).clamp(min=0)
        return lines, curved.square().mean(1, keepdim=True)


def grow(seeds: Tensor, region: Tensor) -> Tensor:
    """The parts of a region that hold a seed (hysteresis), 8 neighbours a pixel.

    Args:
        seeds: `[N, 1, h, w]` bool.
        region: The same shape.

    Returns:
        `[N, 1, h, w]` bool, within the region.
    """
    room = region.float()
    grown = seeds.float() * room
    while True:
        before = grown
        for _ in range(_CHECK_EVERY):
            grown = torch.minimum(max_pool2d(grown, 3, stride=1, padding=1), room)
        if torch.equal(grown, before):
            return grown > 0


def _straight_on(pictures: Tensor, margin: int) -> Tensor:
    """With a margin about them: a slope at the edge goes on, as its mirror image upside down."""
    mirrored = pad(pictures, (margin,) * 4, mode="reflect")
    return 2 * pad(pictures, (margin,) * 4, mode="replicate") - mirrored


def _means(framed: Tensor, radius: int) -> Tensor:
    """Means of squares of 2 radius + 1 pixels, as many fewer at each edge; one axis at a time."""
    width = 2 * radius + 1
    return avg_pool2d(avg_pool2d(framed, (width, 1), 1), (1, width), 1)


def _resized(pictures: Tensor, size: Sequence[int]) -> Tensor:
    """Antialiased: else the lines of a large picture would fall between the pixels."""
    if tuple(pictures.shape[2:]) == tuple(size):
        return pictures
    return interpolate(pictures, tuple(size), mode="bilinear", align_corners=False, antialias=True)


def _check(images: Tensor) -> None:
    right = images.ndim == 4 and images.shape[1] == 3 and min(images.shape[2:]) >= _SMALLEST
    if not right or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ValueError(
            f"images [N, 3, H, W] of {_SMALLEST} pixels a side or more, uint8 or floats in [0, 1], "
            f"expected, got {images.dtype} {list(images.shape)}"
        )
