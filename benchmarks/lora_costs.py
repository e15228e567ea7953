"""What a LoRA step costs by the shapes of its networks: no weights exist, nothing is computed."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from palmforge.data.generation.prompts import DEFAULT_TEMPLATES, draw_prompts
from palmforge.networks.gradient_checkpointing import checkpoint_blocks
from palmforge.networks.lora import LoraSettings, add_lora
from palmforge.networks.stable_diffusion import local_tokenizer

LORA = LoraSettings()  # rank 16
TOKENS = 77
CHECKPOINTING: dict[str, Callable[[Any], object]] = {
    "plain": lambda unet: None,
    "gradient checkpointing of diffusers": lambda unet: unet.enable_gradient_checkpointing(),
    "ours": checkpoint_blocks,
}


def stable_diffusion_15() -> dict[str, Any]:
    """The parts of Stable Diffusion 1.5 from its configs, with random weights."""
    from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = local_tokenizer(draw_prompts(2000, DEFAULT_TEMPLATES, seed=0), TOKENS)
    words = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        projection_dim=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    )
    noise = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
    )
    return {
        "vae": vae,
        "text_encoder": CLIPTextModel(words),
        "tokenizer": tokenizer,
        "unet": UNet2DConditionModel(sample_size=64, cross_attention_dim=768),
        "scheduler": noise,
    }


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of a step, for one sample.

    Attributes:
        vae: Of the encoder.
        words: Of the text encoder.
        unet: Forward, and backward to the LoRA: no gradients of frozen weights.
    """

    vae: int
    words: int
    unet: int

    @property
    def ceiling(self) -> float:
        """How much faster a step can be that has latents and embeddings already."""
        return (self.vae + self.words + self.unet) / self.unet

    def __str__(self) -> str:
        parts = {"VAE": self.vae, "text": self.words, "UNet": self.unet}
        shown = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in parts.items())
        return f"{shown} GFLOP a sample: {self.ceiling:.2f}"


def without_weights(build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The parts of a pipeline, frozen and with a LoRA, on the meta device."""
    with torch.device("meta"):
        parts = build()
        for name in _NETWORKS:
            parts[name].requires_grad_(False)
        add_lora(parts["unet"], LORA, LORA.target_modules, "lora")
    return parts


def flops(parts: dict[str, Any], image_size: int) -> Flops:
    """Counted, not computed.

    Args:
        parts: From `without_weights`.
        image_size: Side of the pictures in pixels.
    """
    vae, text, unet = (parts[name] for name in _NETWORKS)
    side = image_size // 2 ** (len(vae.config.block_out_channels) - 1)
    with torch.device("meta"):
        picture = torch.empty(1, 3, image_size, image_size)
        tokens = torch.zeros(1, text.config.max_position_embeddings, dtype=torch.long)
        return Flops(
            _counted(lambda: vae.encode(picture)),
            _counted(lambda: text(tokens)),
            _counted(lambda: _predicted(unet, side, tokens.shape[1]).sum().backward()),
        )


def parameters(parts: dict[str, Any]) -> str:
    """How many each network and the LoRA has."""
    weights = {name: list(parts[name].parameters()) for name in _NETWORKS}
    weights["LoRA"] = [weight for weight in weights["unet"] if weight.requires_grad]
    counts = {name: sum(weight.numel() for weight in some) for name, some in weights.items()}
    counts["unet"] -= counts["LoRA"]
    return ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items())


def saved_bytes(
    parts: dict[str, Any],
    image_size: int,
    dtype: torch.dtype,
    prepare: Callable[[Any], object] = lambda unet: None,
) -> int:
    """What a LoRA step keeps for the backward pass, for one sample.

    Each storage counts once, parameters do not. Fake tensors take the way of real ones through
    PyTorch's attention, which keeps no matrix of weights; meta tensors would not.

    Args:
        parts: From `without_weights`.
        image_size: Side of the picture in pixels.
        dtype: float32; or bfloat16, for frozen weights in it, autocast, and a float32 LoRA.
        prepare: Gets the UNet first, to turn gradient checkpointing on.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    kept: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held: an address is not given away again
        return tensor

    side = image_size // 2 ** (len(parts["vae"].config.block_out_channels) - 1)
    unet = copy.deepcopy(parts["unet"]).train()
    prepare(unet)
    with FakeTensorMode(), torch.autocast("cpu", torch.bfloat16, dtype == torch.bfloat16):
        for module in unet.modules():
            for name, weight in module.named_parameters(recurse=False):
                fake = torch.empty(weight.shape, dtype=None if weight.requires_grad else dtype)
                setattr(module, name, torch.nn.Parameter(fake, weight.requires_grad))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = _predicted(unet, side, TOKENS).float().square().mean()
        own = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
        total = sum(storage.nbytes() for key, storage in kept.items() if key not in own)
    del loss  # its graph holds what was kept
    return total


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


_NETWORKS = ("vae", "text_encoder", "unet")


def _predicted(unet: Any, side: int, tokens: int) -> torch.Tensor:
    config = unet.config
    noisy = torch.empty(1, config.in_channels, side, side)
    words = torch.empty(1, tokens, config.cross_attention_dim)
    predicted: torch.Tensor = unet(noisy, torch.zeros(1, dtype=torch.long), words).sample
    return predicted


def _counted(job: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        job()
    return int(counter.get_total_flops())
