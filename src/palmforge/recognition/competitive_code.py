"""Competitive Code: at each point of a palm, which way its line runs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from palmforge.errors import ConfigError
from palmforge.networks.gabor import real_gabors
from palmforge.recognition.shifted_hamming import pack_maps, shifted_hamming
from palmforge.recognition.texture import sampling_step, texture

ORIENTATIONS = 6
# Kong & Zhang 2004, Table 1. The Hamming distance of two codes is their distance on the circle of
# six orientations: 0 … 3 steps of 30°.
BITS = ((0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 1, 0), (1, 0, 0))


class CompetitiveCode(nn.Module):
    """Hand-crafted: nothing is trained. One template has 384 bytes (32 × 32 codes of three bits).

    Kong & Zhang 2004, "Competitive coding scheme for palmprint verification" (ICPR). Six real Gabor
    filters compete at each point; lines are dark, so the smallest response wins (Eq. 3). Two codes
    are compared by the angle between their winners (Eq. 4), at all shifts, and the least counts.

    The paper leaves numbers open, or has others: the filter's are those of MTCC's published code,
    in a window that holds the whole envelope; the paper's shifts are ±2; its mask of points that
    are no palm is left out, because our ROIs are all palm. Beyond its edge a ROI is mirrored: zeros
    there would give every palm the same frame of lines.

    Args:
        image_size: Side in pixels that ROIs are resized to.
        grid: Codes a side; the first is half a step from the edge.
        filter_size: Side of the Gabor filters, odd.
        omega: Their radial frequency, radians a pixel (`real_gabors`).
        kappa: Their bandwidth.
        max_shift: Codes by which palms may be displaced, in both directions.
        batch_size: ROIs that `embed` takes at a time.

    Raises:
        ConfigError: If these do not go together.
    """

    name = "competitive-code"

    def __init__(
        self,
        image_size: int = 128,
        grid: int = 32,
        filter_size: int = 35,
        omega: float = 0.35,
        kappa: float = 2.78,
        max_shift: int = 4,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        self.step = sampling_step(image_size, grid)
        if filter_size // 2 >= image_size or not 0 <= max_shift < grid:
            raise ConfigError(
                f"filters of {filter_size} pixels or shifts of {max_shift} codes are too large for "
                f"{grid} × {grid} codes on {image_size} pixels"
            )
        self.image_size = image_size
        self.grid = grid
        self.max_shift = max_shift
        self.batch_size = batch_size
        self.filters: Tensor
        self.register_buffer(
            "filters", real_gabors(ORIENTATIONS, filter_size, omega, kappa), persistent=False
        )

    @property
    def template_bytes(self) -> int:
        """Size of one template."""
        return 3 * self.grid * self.grid // 8

    @torch.no_grad()
    def codes(self, rois: Tensor) -> Tensor:
        """Which filter wins where: [N, 3, H, W] RGB → [N, grid, grid] int64 in 0 … 5.

        Code k is a dark line at 90° + 30° k from the x axis, y down: 0 upright, 3 level. An even
        ROI has code 0 everywhere.
        """
        reach = self.filters.shape[-1] // 2
        images = texture(rois.to(self.filters.device), self.image_size)
        framed = pad(images, (reach,) * 4, mode="reflect")
        first = self.step // 2
        return conv2d(framed[:, :, first:, first:], self.filters, stride=self.step).argmin(1)

    def embed(self, rois: Tensor) -> Tensor:
        """Templates of any number of ROIs.

        Args:
            rois: [N, 3, H, W] RGB, uint8 or float in [0, 1].

        Returns:
            [N, 3, grid, grid / 8] uint8: the three bits of each code, packed by rows, on the device
            of the filters.
        """
        bits = torch.tensor(BITS, dtype=torch.bool, device=self.filters.device)
        parts = [
            pack_maps(bits[self.codes(part)].permute(0, 3, 1, 2))
            for part in rois.split(self.batch_size)
        ]
        return torch.cat(parts)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Angular distances [Na, Nb] in 0 … 1 (1: all lines at right angles), of templates."""
        return shifted_hamming(a, b, self.max_shift, together=3)
