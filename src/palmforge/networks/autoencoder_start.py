"""A start for small autoencoders: they bring back a thumbnail before their first step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LEVEL = 6.0  # of two channels that never change: beside them a norm forgets no picture's colours
_SIGNS = (1.0, -1.0)


@torch.no_grad()
def start_as_thumbnail(vae: Any) -> None:
    """Sets weights so that three latents are the picture's colours, and the decoder shows them.

    From random weights an `AutoencoderKL` spends most of a short training on learning to hand
    colours through its norms. Here +RGB and −RGB go through side by side, and come out again as
    SiLU(a) − SiLU(−a) = a; residual branches begin at nothing; the other channels stay as they are,
    for details.

    Args:
        vae: Of one group per norm (`vae_norm_groups: 1`), without attention, of 3 latents or more.
    """
    for name, module in vae.named_modules():
        if name.endswith("conv2"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        elif name.endswith("conv_shortcut"):
            _hand_through(module.weight, module.bias, 8, _centre(module.weight))
        elif name.endswith("downsamplers.0.conv"):
            _hand_through(module.weight, module.bias, 8, (slice(0, 2), slice(0, 2)))
        elif name.endswith("upsamplers.0.conv"):
            _hand_through(module.weight, module.bias, 8, _centre(module.weight))
    for half in (vae.encoder, vae.decoder):
        _pairs_in(half.conv_in)
        _pairs_out(half.conv_out)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        _hand_through(conv.weight, conv.bias, conv.weight.shape[1], _centre(conv.weight))
    latents = vae.config.latent_channels
    nn.init.zeros_(vae.encoder.conv_out.weight[latents:])
    nn.init.constant_(vae.encoder.conv_out.bias[latents:], -6.0)  # of log σ²


def _centre(weight: Tensor) -> tuple[int, int]:
    return weight.shape[2] // 2, weight.shape[3] // 2


def _hand_through(weight: Tensor, bias: Tensor, count: int, taps: Any) -> None:
    """The first channels come out as they went in: the mean of `taps`."""
    count = min(count, weight.shape[0], weight.shape[1])
    weight[:count] = 0
    bias[:count] = 0
    one = weight[0, 0][taps].numel()
    for channel in range(count):
        weight[channel, channel][taps] = 1 / one


def _pairs_in(conv: nn.Conv2d) -> None:
    """Channels 0–2: +RGB, 3–5: −RGB, 6 and 7: ± a constant."""
    assert conv.bias is not None
    conv.weight[:8] = 0
    conv.bias[:8] = 0
    row, column = _centre(conv.weight)
    for half, sign in enumerate(_SIGNS):
        for channel in range(3):
            conv.weight[3 * half + channel, channel, row, column] = sign
        conv.bias[6 + half] = sign * _LEVEL


def _pairs_out(conv: nn.Conv2d) -> None:
    """SiLU(a) − SiLU(−a) = a, about in the norm's units."""
    assert conv.bias is not None
    unit = (2 * _LEVEL**2 / conv.weight.shape[1]) ** 0.5
    conv.weight[:3] = 0
    conv.bias[:3] = 0
    row, column = _centre(conv.weight)
    for half, sign in enumerate(_SIGNS):
        for channel in range(3):
            conv.weight[channel, 3 * half + channel, row, column] = sign * unit
