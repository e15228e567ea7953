"""What a ControlNet's step costs by the shapes of its networks: nothing but a line map is made."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.step_costs import (
    NETWORKS,
    TOKENS,
    Flops,
    counted,
    encoder_flops,
    frozen_parts,
    kept_bytes,
    latent_side,
    latents_and_words,
    millions,
    num_weights,
)
from palmforge.modules.identity_conditions import IdentityConditions
from palmforge.networks.gradient_checkpointing import checkpoint_blocks

CONDITIONS = ("lines",)


def _ours(unet: Any, controlnet: Any) -> None:
    checkpoint_blocks(controlnet)
    checkpoint_blocks(unet)


CHECKPOINTING: dict[str, Callable[[Any, Any], None]] = {
    "plain": lambda unet, controlnet: None,
    "diffusers' script (of the ControlNet)": (
        lambda unet, controlnet: controlnet.enable_gradient_checkpointing()
    ),
    "ours (and of the frozen UNet)": _ours,
}


def without_weights(build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The parts of a pipeline, frozen, with a ControlNet as ours, on the meta device.

    `conditions` alone are on the CPU: they have no weights.
    """
    from diffusers import ControlNetModel

    conditions = IdentityConditions(CONDITIONS, "soft", 0, 0, 0, dial=False)
    with torch.device("meta"):
        parts = frozen_parts(build)
        levels = len(parts["vae"].config.block_out_channels)
        controlnet = ControlNetModel.from_unet(
            parts["unet"],
            conditioning_channels=conditions.num_channels,
            conditioning_embedding_out_channels=(16, 32, 96, 256)[:levels],
        )
        controlnet.train().requires_grad_(True)
    return {**parts, "controlnet": controlnet, "conditions": conditions}


def flops(parts: dict[str, Any], image_size: int) -> Flops:
    """Counted: backward through the UNet's decoder, and to all of the ControlNet's weights.

    Args:
        parts: From `without_weights`.
        image_size: Side of the pictures in pixels.
    """
    tokens = parts["text_encoder"].config.max_position_embeddings
    reference = torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8)
    drawn = counted(lambda: parts["conditions"].control(reference))
    with torch.device("meta"):
        shared = counted(lambda: _predicted(parts, image_size, tokens).sum().backward())
    return Flops(
        encoder_flops(parts, image_size), {"UNet and ControlNet": shared}, {"line map": drawn}
    )


def parameters(parts: dict[str, Any]) -> str:
    """How many each network has."""
    return millions({name: num_weights(parts[name]) for name in (*NETWORKS, "controlnet")})


def saved_bytes(
    parts: dict[str, Any],
    image_size: int,
    dtype: torch.dtype,
    prepare: Callable[[Any, Any], None] = CHECKPOINTING["plain"],
) -> tuple[int, int]:
    """What a step keeps for the backward pass: for each sample, and however many there are.

    The latter are copies of the ControlNet's float32 weights in bfloat16, made by autocast.

    Args:
        parts: From `without_weights`.
        image_size: Side of the picture in pixels.
        dtype: See `kept_bytes`.
        prepare: Gets UNet and ControlNet first, to turn gradient checkpointing on.
    """
    kept = []
    for count in (1, 2):
        copies = {
            **parts,
            "unet": copy.deepcopy(parts["unet"]).train(),
            "controlnet": copy.deepcopy(parts["controlnet"]),
        }
        networks = copies["unet"], copies["controlnet"]
        prepare(*networks)

        def predict(copies: dict[str, Any] = copies, count: int = count) -> Tensor:
            return _predicted(copies, image_size, TOKENS, count)

        kept.append(kept_bytes(networks, dtype, predict))
    return kept[1] - kept[0], 2 * kept[0] - kept[1]


def _predicted(parts: dict[str, Any], image_size: int, tokens: int, count: int = 1) -> Tensor:
    unet, controlnet = parts["unet"], parts["controlnet"]
    side = latent_side(parts, image_size)
    noisy, steps, words = latents_and_words(unet, side, tokens, count)
    channels = parts["conditions"].num_channels
    control = torch.empty(count, channels, image_size, image_size)
    down, middle = controlnet(noisy, steps, words, control, return_dict=False)
    predicted: Tensor = unet(
        noisy,
        steps,
        words,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    ).sample
    return predicted
