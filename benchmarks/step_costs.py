"""What a training step costs by the shapes of its networks: no weights, nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from palmforge.data.generation.prompts import DEFAULT_TEMPLATES, draw_prompts
from palmforge.networks.stable_diffusion import local_tokenizer

TOKENS = 77
NETWORKS = ("vae", "text_encoder", "unet")


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


def frozen_parts(build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The parts of a pipeline, frozen; on the meta device, if that is the default one."""
    parts = build()
    for name in NETWORKS:
        parts[name].requires_grad_(False)
    return parts


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of a step, for one sample, by their part.

    Attributes:
        theirs_alone: Of what is done in every step where nothing is kept: the encoders.
        shared: Of what is trained and what gradients pass, forward and backward.
        ours_alone: Of what we do in a step in place of reading it.
    """

    theirs_alone: dict[str, int]
    shared: dict[str, int]
    ours_alone: dict[str, int]

    @property
    def needed(self) -> int:
        """What both do."""
        return sum(self.shared.values())

    @property
    def ours(self) -> int:
        """All of our step."""
        return self.needed + sum(self.ours_alone.values())

    @property
    def theirs(self) -> int:
        """All of theirs."""
        return self.needed + sum(self.theirs_alone.values())

    @property
    def ceiling(self) -> float:
        """How much faster our step can be."""
        return self.theirs / self.ours

    def __str__(self) -> str:
        parts = {**self.theirs_alone, **self.shared, **self.ours_alone}
        shown = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in parts.items())
        return f"{shown} GFLOP a sample: {self.ceiling:.2f}"


def encoder_flops(parts: dict[str, Any], image_size: int) -> dict[str, int]:
    """Of a picture and its words through the frozen encoders."""
    vae, text = parts["vae"], parts["text_encoder"]
    with torch.device("meta"):
        picture = torch.empty(1, 3, image_size, image_size)
        tokens = torch.zeros(1, text.config.max_position_embeddings, dtype=torch.long)
        return {"VAE": counted(lambda: vae.encode(picture)), "text": counted(lambda: text(tokens))}


def counted(job: Callable[[], object]) -> int:
    """Floating-point operations of whatever runs."""
    with FlopCounterMode(display=False) as counter:
        job()
    return int(counter.get_total_flops())


def latent_side(parts: dict[str, Any], image_size: int) -> int:
    """Side of a picture's latents."""
    return image_size // 2 ** (len(parts["vae"].config.block_out_channels) - 1)


def latents_and_words(unet: Any, side: int, tokens: int, count: int = 1) -> tuple[Tensor, ...]:
    """What a UNet takes: noisy latents, timesteps, words."""
    config = unet.config
    return (
        torch.empty(count, config.in_channels, side, side),
        torch.zeros(count, dtype=torch.long),
        torch.empty(count, tokens, config.cross_attention_dim),
    )


def kept_bytes(
    networks: Sequence[torch.nn.Module], dtype: torch.dtype, predict: Callable[[], Tensor]
) -> int:
    """What a forward pass keeps for the backward pass.

    Each storage counts once, parameters do not. Fake tensors take the way of real ones through
    PyTorch's attention, which keeps no matrix of weights; meta tensors would not.

    Args:
        networks: On the meta device; their parameters are replaced.
        dtype: float32; or bfloat16, for frozen weights in it, autocast, and float32 trained ones.
        predict: Runs them.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    kept: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # held: an address is not given away again
        return tensor

    with FakeTensorMode(), torch.autocast("cpu", torch.bfloat16, dtype == torch.bfloat16):
        for module in (module for network in networks for module in network.modules()):
            for name, weight in module.named_parameters(recurse=False):
                fake = torch.empty(weight.shape, dtype=None if weight.requires_grad else dtype)
                setattr(module, name, torch.nn.Parameter(fake, weight.requires_grad))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = predict().float().square().mean()
        parameters = (weight for network in networks for weight in network.parameters())
        own = {parameter.untyped_storage()._cdata for parameter in parameters}
        total = sum(storage.nbytes() for key, storage in kept.items() if key not in own)
    del loss  # its graph holds what was kept
    return total


def millions(counts: dict[str, int]) -> str:
    """Numbers of parameters, to be read."""
    return ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items())


def num_weights(network: torch.nn.Module) -> int:
    """Parameters of a network."""
    return sum(weight.numel() for weight in network.parameters())
