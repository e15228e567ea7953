"""The parts of a Stable Diffusion that look at pictures and words, beside what is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from palmforge.data.feature_cache import state_digest
from palmforge.modules.stable_diffusion import text_encoders
from palmforge.networks.preparation import as_signed


class Encoders:
    """Autoencoder and text encoders of a pipeline: always float32, so that kept is as computed.

    No `nn.Module`: frozen weights are not in checkpoints, not in DDP's buckets, and may be on
    another device than what is trained.

    Args:
        pipeline: Of diffusers.
        image_size: Side of the pictures, in pixels.
        trains_text: Whether the text encoders are trained, and what they say changes.
    """

    def __init__(self, pipeline: Any, image_size: int, trains_text: bool) -> None:
        self.pipeline = pipeline
        self.image_size = image_size
        self.trains_text = trains_text
        self.num_cut_prompts = 0

    @torch.no_grad()
    def images(self, images: Tensor, device: torch.device) -> dict[str, Tensor]:
        """`[N, 3, S, S]` uint8 → `mean`, `sd` `[N, C, h, w]` of the posterior, scaled float32."""
        vae = self.pipeline.vae.to(device)
        with torch.autocast(device.type, enabled=False):
            posterior = vae.encode(as_signed(images.to(device))).latent_dist
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        scale = vae.config.scaling_factor
        return {"mean": (posterior.mean - shift) * scale, "sd": posterior.std * scale}

    def pictures(self, latents: Tensor) -> Tensor:
        """Scaled latents `[N, C, h, w]` → RGB `[N, 3, S, S]`, about [0, 1]; gradients pass."""
        vae = self.pipeline.vae.to(latents.device)
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        with torch.autocast(latents.device.type, enabled=False):
            decoded: Tensor = vae.decode(latents.float() / vae.config.scaling_factor + shift).sample
        return decoded / 2 + 0.5

    def latent_shape(self, count: int) -> tuple[int, int, int, int]:
        """Of `count` pictures: `[N, C, h, w]`."""
        side = self.image_size // self.pipeline.vae_scale_factor
        return count, self.pipeline.vae.config.latent_channels, side, side

    def prompts(self, prompts: list[str], device: torch.device) -> dict[str, Tensor]:
        """`prompt_embeds` `[N, T, D]`; of Stable Diffusion XL `pooled_embeds` `[N, P]` too."""
        self.count_cut(prompts)
        for encoder in text_encoders(self.pipeline):
            encoder.to(device)
        with (
            torch.autocast(device.type, enabled=False),
            torch.set_grad_enabled(self.trains_text and torch.is_grad_enabled()),
        ):
            encoded = self.pipeline.encode_prompt(
                prompts, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
            )
        rows = {"prompt_embeds": encoded[0]}
        if len(encoded) == 4:
            rows["pooled_embeds"] = encoded[2]
        return rows

    def count_cut(self, prompts: list[str]) -> None:
        """Words beyond the tokenizer's length are not seen: said once, and counted."""
        tokenizer = self.pipeline.tokenizer
        longest = tokenizer.model_max_length
        lengths = [
            len(ids) for ids in tokenizer(prompts, truncation=False, verbose=False).input_ids
        ]
        cut = [prompt for prompt, length in zip(prompts, lengths, strict=True) if length > longest]
        if cut and not self.num_cut_prompts:
            rank_zero_warn(
                f"a prompt has more than the {longest} tokens that the text encoder reads; the "
                f"rest of it is not seen: {cut[0]!r}. Further ones are counted only"
            )
        self.num_cut_prompts += len(cut)

    def images_digest(self) -> str:
        """A name for what decides `images`."""
        vae = self.pipeline.vae
        return state_digest(vae.state_dict(), vae.config.scaling_factor, self.image_size)

    def prompts_digest(self) -> str:
        """A name for what decides `prompts`."""
        states = {
            f"{place}.{name}": value
            for place, encoder in enumerate(text_encoders(self.pipeline))
            for name, value in encoder.state_dict().items()
        }
        vocabulary = sorted(self.pipeline.tokenizer.get_vocab().items())
        return state_digest(states, self.pipeline.tokenizer.model_max_length, vocabulary)

    def release(self) -> None:
        """Frozen ones leave the GPU: everything that they have to say is kept."""
        self.pipeline.vae.to("cpu")
        if not self.trains_text:
            for encoder in text_encoders(self.pipeline):
                encoder.to("cpu")

    @contextmanager
    def at_work(self, device: torch.device, *networks: nn.Module) -> Iterator[None]:
        """All of them on a device; they and other networks in eval mode; afterwards as before."""
        parts = [self.pipeline.vae, *text_encoders(self.pipeline)]
        devices = [part.device for part in parts]
        modes = [(part, part.training) for part in (*networks, *parts)]
        for part, _ in modes:
            part.eval()
        for part in parts:
            part.to(device)
        try:
            yield
        finally:
            for part, before in zip(parts, devices, strict=True):
                part.to(before)
            for part, training in modes:
                part.train(training)
