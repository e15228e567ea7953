"""Inpainting a palm by exemplars: the sampling of paper 001 (§III-B), for batches of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from palmforge.errors import ConfigError
from palmforge.modules.paint_by_example import PaintByExample
from palmforge.modules.sampling import step_options

Fusion = Literal["mean", "tokens"]
Unmasked = Literal["original", "background", "free"]
_GREY = 127.5  # what is masked becomes 0 in [-1, 1]


@dataclass(frozen=True)
class InpaintingSettings:
    """What the paper leaves to choose, with its values.

    Attributes:
        fusion: Of several exemplars: `mean` of their embeddings (Eq. 1); `tokens`: all are kept,
            and the UNet attends to each.
        alpha: α of Eq. 2: 0 shows the UNet nothing of the palm, 1 all of it.
        unmasked: Latents outside the mask while sampling. `original`: those of the picture, at each
            step's noise level ("remain unchanged", §III-B5); `background`: those of the masked
            picture, which know no pixel of the palm; `free`: sampled like the rest, as the
            authors' code and diffusers' pipeline do.
        num_inference_steps: Of the scheduler.
        guidance_scale: Of the exemplars against the learned vector for none; 1: none.
        eta: Of DDIM.
    """

    fusion: Fusion = "mean"
    alpha: float = 0.1
    unmasked: Unmasked = "original"
    num_inference_steps: int = 50
    guidance_scale: float = 3.0
    eta: float = 0.0

    def __post_init__(self) -> None:
        if self.fusion not in ("mean", "tokens"):
            raise ConfigError(f"fusion: {self.fusion!r} is neither mean nor tokens")
        if self.unmasked not in ("original", "background", "free"):
            raise ConfigError(f"unmasked: {self.unmasked!r} is not original, background or free")
        if not 0.0 <= self.alpha <= 1.0:
            raise ConfigError(f"alpha: {self.alpha} does not lie in [0, 1]")
        if not self.guidance_scale >= 1.0:
            raise ConfigError(f"guidance_scale: {self.guidance_scale} is below 1, which is none")
        if self.num_inference_steps < 1:
            raise ConfigError(f"num_inference_steps: {self.num_inference_steps} is below 1")


PAPER = InpaintingSettings()
AUTHORS = InpaintingSettings(unmasked="free")  # their code, where it differs from their text


def fuse_exemplars(embeddings: Tensor, rule: Fusion = "mean") -> Tensor:
    """Semantic-guided embedding fusion, after the encoder's projection (paper 001, Eq. 1).

    Args:
        embeddings: `[N, E, D]`, E exemplars of each picture; `[N, 1, D]` stays as it is.
        rule: `mean` or `tokens`; see `InpaintingSettings`.

    Returns:
        `[N, T, D]`: T = 1 for `mean`, E for `tokens`.
    """
    return embeddings.mean(1, keepdim=True) if rule == "mean" else embeddings


def interpolate_prior(original: Tensor, background: Tensor, alpha: float) -> Tensor:
    """Prior interpolation: z_in = α z_o + (1 − α) z_bg (paper 001, Eq. 2).

    Args:
        original: z_o, latents of the picture, `[N, C, h, w]`.
        background: z_bg, latents of the picture without its palm.
        alpha: α in [0, 1].
    """
    return alpha * original + (1.0 - alpha) * background


def without_masked(images: Tensor, masks: Tensor) -> Tensor:
    """Pictures `[N, 3, H, W]` in 0 … 255, grey where `masks` `[N, 1, H, W]` is True; float32."""
    return torch.where(masks, _GREY, images.float())


def with_mask(seen: Tensor, masks: Tensor) -> Tensor:
    """What the UNet reads behind the noisy latents, in training as in sampling.

    Args:
        seen: Latents of what is to be seen of the pictures, `[N, C, h, w]`.
        masks: `[N, 1, H, W]` bool.

    Returns:
        `[N, C + 1, h, w]`: the last channel is 1 where the picture is to be seen, nearest pixels.
    """
    return torch.cat([seen, interpolate((~masks).float(), seen.shape[2:])], 1)


def masked_latents(masks: Tensor, factor: int) -> Tensor:
    """1 for a latent of which any pixel is masked: none keeps a rim of the palm.

    Args:
        masks: `[N, 1, H, W]` bool.
        factor: Pixels on a side of a latent.

    Returns:
        `[N, 1, h, w]` float32, 0 or 1.
    """
    return max_pool2d(masks.float(), factor)


@torch.no_grad()
def inpaint_with_exemplar(
    model: PaintByExample,
    images: Tensor,
    masks: Tensor,
    exemplars: Tensor,
    seeds: Sequence[int],
    settings: InpaintingSettings = PAPER,
) -> Tensor:
    """Repaints what is masked; a picture's result depends on its own seed, not on its batch.

    All that is drawn for a picture comes from one generator of its seed, on the CPU: start noise,
    the autoencoder's (the same for z_o and z_bg), then that of the steps. It is what
    `PaintByExamplePipeline` gives for these generators, with α = 0, one exemplar, `free`.

    Args:
        model: On its device; the UNet may be in fewer digits, what is sampled is float32.
        images: `[N, 3, H, W]` uint8; H and W are multiples of `model.vae_scale_factor`.
        masks: `[N, 1, H, W]` bool; True is repainted.
        exemplars: Embeddings `[N, E, D]`, as `model.embed` gives them.
        seeds: [N], >= 0.
        settings: What to choose.

    Returns:
        `[N, 3, H, W]` float32 in [0, 1]. Outside the mask too it is what the autoencoder makes of
        the picture: what is there must be pasted from the original.

    Raises:
        ValueError: Shapes or types that do not fit, or a mask that masks nothing.
    """
    _check(model, images, masks, exemplars, seeds)
    scheduler, device = model.scheduler, model.device
    images, masks = images.to(device), masks.to(device)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = _latent_shape(model, images)
    start = _normal(shape, generators, device)
    seen, kept = _latents(model, images, masks, _normal(shape, generators, device), settings)
    predict = _Predict(model, with_mask(seen, masks), exemplars.to(device), settings)
    repainted = masked_latents(masks, model.vae_scale_factor)
    scheduler.set_timesteps(settings.num_inference_steps, device=device)
    options = step_options(scheduler, settings.eta, generators)
    latents = start * scheduler.init_noise_sigma
    for step, t in enumerate(scheduler.timesteps):
        prediction = predict(scheduler.scale_model_input(latents, t), t)
        latents = scheduler.step(prediction, t, latents, **options).prev_sample
        if kept is not None:
            unmasked = _after(scheduler, step, kept, start)
            latents = repainted * latents + (1 - repainted) * unmasked
    return model.decode(latents)


class _Predict:
    """(x_t, t) → prediction, with classifier-free guidance in one call of the UNet.

    Args:
        model: Whose UNet is asked.
        context: z_in and the mask, `[N, C + 1, h, w]`.
        exemplars: Embeddings, `[N, E, D]`.
        settings: Fusion and guidance.
    """

    def __init__(
        self,
        model: PaintByExample,
        context: Tensor,
        exemplars: Tensor,
        settings: InpaintingSettings,
    ) -> None:
        self.unet = model.unet
        self.guidance = settings.guidance_scale
        words = fuse_exemplars(exemplars.float(), settings.fusion)
        if self.guidance > 1:
            nothing = model.image_encoder.uncond_vector.float().expand_as(words)
            words, context = torch.cat([nothing, words]), torch.cat([context, context])
        self.words, self.context = words.to(self.unet.dtype), context.to(self.unet.dtype)

    def __call__(self, noisy: Tensor, t: Tensor) -> Tensor:
        guided = self.guidance > 1
        both = torch.cat([noisy, noisy]) if guided else noisy
        read = torch.cat([both.to(self.unet.dtype), self.context], 1)
        found: Tensor = self.unet(read, t, encoder_hidden_states=self.words).sample.float()
        if not guided:
            return found
        without, shown = found.chunk(2)
        return without + self.guidance * (shown - without)


def _latents(
    model: PaintByExample,
    images: Tensor,
    masks: Tensor,
    noise: Tensor,
    settings: InpaintingSettings,
) -> tuple[Tensor, Tensor | None]:
    """What the UNet sees of the picture, z_in, and what stays where nothing is masked."""
    background = model.encode(without_masked(images, masks), noise)
    if settings.alpha == 0 and settings.unmasked != "original":
        # Nothing asks for z_o: no pixel of the palm is looked at, however little it would weigh.
        return background, None if settings.unmasked == "free" else background
    original = model.encode(images, noise)
    kept = {"original": original, "background": background, "free": None}[settings.unmasked]
    return interpolate_prior(original, background, settings.alpha), kept


def _after(scheduler: Any, step: int, clean: Tensor, noise: Tensor) -> Tensor:
    """Clean latents at the noise level that a step leads to; after the last one as they are."""
    following = scheduler.timesteps[step + 1 : step + 2]
    if len(following) == 0:
        return clean
    noisy: Tensor = scheduler.add_noise(clean, noise, following)
    return noisy


def _normal(
    shape: tuple[int, ...], generators: list[torch.Generator], device: torch.device
) -> Tensor:
    """`[N, …]` float32, each row of its own generator."""
    return torch.stack([torch.randn(shape[1:], generator=g) for g in generators]).to(device)


def _latent_shape(model: PaintByExample, images: Tensor) -> tuple[int, int, int, int]:
    factor, channels = model.vae_scale_factor, model.vae.config.latent_channels
    return len(images), channels, images.shape[2] // factor, images.shape[3] // factor


def _check(
    model: PaintByExample, images: Tensor, masks: Tensor, exemplars: Tensor, seeds: Sequence[int]
) -> None:
    count, factor = len(seeds), model.vae_scale_factor
    if count == 0:
        raise ValueError("seeds: one for each picture, got none")
    if images.ndim != 4 or images.shape[:2] != (count, 3) or images.dtype != torch.uint8:
        raise ValueError(f"images: uint8 [{count}, 3, H, W] expected, got {_told(images)}")
    if images.shape[2] % factor or images.shape[3] % factor:
        raise ValueError(
            f"images: {images.shape[2]} × {images.shape[3]} pixels are no multiples of {factor}"
        )
    wanted = (count, 1, *images.shape[2:])
    if masks.shape != wanted or masks.dtype != torch.bool:
        raise ValueError(f"masks: bool {list(wanted)} expected, got {_told(masks)}")
    width = model.unet.config.cross_attention_dim
    if exemplars.ndim != 3 or len(exemplars) != count or exemplars.shape[1:2] == (0,):
        raise ValueError(f"exemplars: [{count}, E, {width}] expected, got {_told(exemplars)}")
    if exemplars.shape[2] != width:
        raise ValueError(f"exemplars: {exemplars.shape[2]} numbers each, the UNet takes {width}")
    empty = (~masks.flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:  # it would come out with its palm
        raise ValueError(f"masks: nothing is masked in pictures {empty}")


def _told(tensor: Tensor) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"
