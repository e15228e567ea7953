"""MTCC: the signs of Gabor responses of a palm, and of the responses to these responses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from palmforge.errors import ConfigError
from palmforge.networks.gabor import real_gabors
from palmforge.recognition.shifted_hamming import pack_maps, shifted_hamming
from palmforge.recognition.texture import sampling_step, texture

ORIENTATIONS = 6


class MultiOrderCode(nn.Module):
    """Hand-crafted: nothing is trained. One template has 1,536 bytes (12 × 32 × 32 bits).

    Yang, Leng, Wu, Li & Chu 2023, "Multi-order texture features for palmprint recognition" (Artif.
    Intell. Rev. 56), Multiple-order Texture Co-occurrence Code. First-order texture: responses of
    the ROI to six zero-mean real Gabor filters. Second-order texture: each response through its own
    filter once more. Their signs are the bits. 17 pixels, omega and kappa are those of the authors'
    code (github.com/Zi-YuanYang/MTCC-2TCC), and so is the equal weight of the two orders.

    Here each of the twelve channels takes the shift that suits it best, and the mean of their
    distances counts; the authors shift the six channels of an order as one, by up to 2
    (`shared_shift=True, max_shift=2`). Beyond its edge a ROI, and a response, is mirrored; the
    authors have zeros there. Both choices gave the lower error on rendered palms.

    Args:
        image_size: Side in pixels that ROIs are resized to.
        grid: Bits a side; the first is half a step from the edge.
        filter_size: Side of the Gabor filters, odd.
        omega: Their radial frequency, radians a pixel (`real_gabors`).
        kappa: Their bandwidth.
        max_shift: Bits by which palms may be displaced, in both directions.
        shared_shift: One shift for the six channels of an order instead of one each.
        batch_size: ROIs that `embed` takes at a time.

    Raises:
        ConfigError: If these do not go together.
    """

    name = "mtcc"

    def __init__(
        self,
        image_size: int = 128,
        grid: int = 32,
        filter_size: int = 17,
        omega: float = 0.35,
        kappa: float = 2.78,
        max_shift: int = 4,
        shared_shift: bool = False,
        batch_size: int = 64,
    ) -> None:
        super().__init__()
        self.step = sampling_step(image_size, grid)
        if filter_size // 2 >= image_size or not 0 <= max_shift < grid:
            raise ConfigError(
                f"filters of {filter_size} pixels or shifts of {max_shift} bits are too large for "
                f"{grid} × {grid} bits on {image_size} pixels"
            )
        self.image_size = image_size
        self.grid = grid
        self.max_shift = max_shift
        self.shared_shift = shared_shift
        self.batch_size = batch_size
        self.filters: Tensor
        self.register_buffer(
            "filters", real_gabors(ORIENTATIONS, filter_size, omega, kappa), persistent=False
        )

    @property
    def template_bytes(self) -> int:
        """Size of one template."""
        return 2 * ORIENTATIONS * self.grid * self.grid // 8

    @torch.no_grad()
    def bits(self, rois: Tensor) -> Tensor:
        """[N, 3, H, W] RGB → [N, 12, grid, grid] bool: is the response positive?

        Channels 0-5 are of the first order, 6-11 of the second. An even ROI has no bit set.
        """
        frame = (self.filters.shape[-1] // 2,) * 4
        first = self.step // 2
        images = texture(rois.to(self.filters.device), self.image_size)
        once = conv2d(pad(images, frame, mode="reflect"), self.filters)
        # The second order is only wanted on the grid.
        framed = pad(once, frame, mode="reflect")[:, :, first:, first:]
        twice = conv2d(framed, self.filters, stride=self.step, groups=ORIENTATIONS)
        return torch.cat([once[:, :, first :: self.step, first :: self.step], twice], 1) > 0

    def embed(self, rois: Tensor) -> Tensor:
        """Templates of any number of ROIs.

        Args:
            rois: [N, 3, H, W] RGB, uint8 or float in [0, 1].

        Returns:
            [N, 12, grid, grid / 8] uint8: `bits`, packed by rows, on the device of the filters.
        """
        return torch.cat([pack_maps(self.bits(part)) for part in rois.split(self.batch_size)])

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Shares of differing bits [Na, Nb] in 0 … 1, of templates."""
        together = ORIENTATIONS if self.shared_shift else 1
        return shifted_hamming(a, b, self.max_shift, together)
