"""Fixed banks of Gabor filters that answer to palm lines.

The learnable Gabors of networks are elsewhere: these have the numbers that papers give them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from palmforge.errors import ConfigError


def real_gabors(
    orientations: int = 6, size: int = 17, omega: float = 0.35, kappa: float = 2.78
) -> Tensor:
    """Real parts of the neurophysiology-based Gabor function, brought to mean zero.

    Kong & Zhang 2004, "Competitive coding scheme for palmprint verification", Eq. 1-2, after Lee
    1996, with theta = k·pi / K for filter k:

        psi = omega / (sqrt(2 pi) kappa) · exp(-omega² (4 x'² + y'²) / (8 kappa²))
              · (cos(omega x') - exp(-kappa² / 2)),
        x' = x cos(theta) + y sin(theta),    y' = y cos(theta) - x sin(theta).

    x points right, y down, both 0 at the centre. The wave runs along x', so filter k answers to
    lines along y', at theta + 90°: strongly negative on a dark line, positive on a bright one.
    The term exp(-kappa² / 2) takes away the answer to even grey for an endless filter; a window
    brings some of it back, so the mean is subtracted as well.

    Args:
        orientations: K.
        size: S, odd.
        omega: Radial frequency of the wave in radians a pixel.
        kappa: omega times the deviation of the envelope along the wave, in pixels (across it the
            deviation is twice that). kappa = sqrt(2 ln 2) (2^d + 1) / (2^d - 1) for a bandwidth,
            at half amplitude, of d octaves: 2.78 is 1.3 octaves.

    Returns:
        [K, 1, S, S] float32, for `conv2d`; each filter is the same turned by 180°, so correlation
        and convolution are one.

    Raises:
        ConfigError: If K < 1, S is even, or omega or kappa is not positive.
    """
    if orientations < 1 or size < 1 or size % 2 == 0:
        raise ConfigError(
            f"{orientations} Gabor filters of {size} pixels: at least one, and an odd size, please"
        )
    if not (omega > 0 and kappa > 0):
        raise ConfigError(f"omega = {omega} and kappa = {kappa} must be positive")
    reach = size // 2
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    theta = torch.arange(orientations, dtype=torch.float64).view(-1, 1, 1) * math.pi / orientations
    along = x * theta.cos() + y * theta.sin()
    across = y * theta.cos() - x * theta.sin()
    envelope = torch.exp(-(omega**2) * (4 * along**2 + across**2) / (8 * kappa**2))
    wave = torch.cos(omega * along) - math.exp(-(kappa**2) / 2)
    bank = omega / (math.sqrt(2 * math.pi) * kappa) * envelope * wave
    return (bank - bank.mean((1, 2), keepdim=True)).float()[:, None]
