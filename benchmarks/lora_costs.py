"""What a LoRA step costs by the shapes of its networks: no weights exist, nothing is computed."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import torch

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
from palmforge.networks.gradient_checkpointing import checkpoint_blocks
from palmforge.networks.lora import LoraSettings, add_lora

LORA = LoraSettings()  # rank 16
CHECKPOINTING: dict[str, Callable[[Any], object]] = {
    "plain": lambda unet: None,
    "gradient checkpointing of diffusers": lambda unet: unet.enable_gradient_checkpointing(),
    "ours": checkpoint_blocks,
}


def without_weights(build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The parts of a pipeline, frozen and with a LoRA, on the meta device."""
    with torch.device("meta"):
        parts = frozen_parts(build)
        add_lora(parts["unet"], LORA, LORA.target_modules, "lora")
    return parts


def flops(parts: dict[str, Any], image_size: int) -> Flops:
    """Counted, not computed; backward to the LoRA: no gradients of frozen weights.

    Args:
        parts: From `without_weights`.
        image_size: Side of the pictures in pixels.
    """
    unet, tokens = parts["unet"], parts["text_encoder"].config.max_position_embeddings
    with torch.device("meta"):
        told = latents_and_words(unet, latent_side(parts, image_size), tokens)
        shared = {"UNet": counted(lambda: unet(*told).sample.sum().backward())}
    return Flops(encoder_flops(parts, image_size), shared, {})


def parameters(parts: dict[str, Any]) -> str:
    """How many each network and the LoRA has."""
    counts = {name: num_weights(parts[name]) for name in NETWORKS}
    trained = [weight for weight in parts["unet"].parameters() if weight.requires_grad]
    counts["LoRA"] = sum(weight.numel() for weight in trained)
    counts["unet"] -= counts["LoRA"]
    return millions(counts)


def saved_bytes(
    parts: dict[str, Any],
    image_size: int,
    dtype: torch.dtype,
    prepare: Callable[[Any], object] = lambda unet: None,
) -> int:
    """What a LoRA step keeps for the backward pass, for one sample.

    Args:
        parts: From `without_weights`.
        image_size: Side of the picture in pixels.
        dtype: See `kept_bytes`.
        prepare: Gets the UNet first, to turn gradient checkpointing on.
    """
    unet = copy.deepcopy(parts["unet"]).train()
    prepare(unet)
    side = latent_side(parts, image_size)
    return kept_bytes([unet], dtype, lambda: unet(*latents_and_words(unet, side, TOKENS)).sample)


def checkpoint_bytes(parts: dict[str, Any]) -> int:
    """A checkpoint's size with a LoRA, AdamW's two moments and an average of the weights.

    Args:
        parts: From `without_weights`.
    """
    shapes = {
        f"unet.{name}": weight.shape
        for name, weight in parts["unet"].named_parameters()
        if weight.requires_grad
    }

    def zeros() -> dict[str, torch.Tensor]:
        return {name: torch.zeros(shape) for name, shape in shapes.items()}

    moments = [
        {"step": torch.zeros(()), "exp_avg": torch.zeros(shape), "exp_avg_sq": torch.zeros(shape)}
        for shape in shapes.values()
    ]
    file = io.BytesIO()
    averages = {"WeightEMA": {"average": zeros()}}
    torch.save({"state_dict": zeros(), "optimizer": moments, "callbacks": averages}, file)
    return file.tell()
