"""A Paint-by-Example small enough to be trained on a CPU, built from configs alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from palmforge.networks.stable_diffusion import TinyStableDiffusion, tiny_autoencoder


@dataclass(frozen=True)
class TinyPaintByExample:
    """Sizes of a small exemplar-inpainting stack.

    Attributes:
        latent_channels: Of the autoencoder's code, whose side is a quarter of the picture's. The
            UNet reads twice as many and the mask: nine with the published 4.
        vae_channels: Of the autoencoder, from fine to coarse; the quarter follows from their three.
        unet_channels: Of the UNet, from fine to coarse. All but the coarsest attend to the
            exemplar.
        layers_per_block: Residual blocks on each of the UNet's levels.
        attention_heads: Of the UNet.
        exemplar_size: Side in pixels at which exemplars are read.
        patch_size: Of the encoder; divides `exemplar_size`.
        encoder_dim: Width of the encoder, a multiple of 32.
        encoder_layers: Of CLIP's vision model, at least 4: of the mapper there are
            (encoder_layers + 1) // 5.
        embedding_dim: D, of an exemplar's embedding.
        prediction_type: What the UNet predicts: `epsilon`, `v_prediction` or `sample`.
        beta_schedule: Of the noise.
    """

    latent_channels: int = 4
    vae_channels: tuple[int, int, int] = (16, 32, 64)
    unet_channels: tuple[int, ...] = (64, 96, 160)
    layers_per_block: int = 1
    attention_heads: int = 4
    exemplar_size: int = 64
    patch_size: int = 16
    encoder_dim: int = 96
    encoder_layers: int = 4
    embedding_dim: int = 96
    prediction_type: str = "sample"
    beta_schedule: str = "squaredcos_cap_v2"


def tiny_components(sizes: TinyPaintByExample, image_size: int) -> dict[str, Any]:
    """The parts of a Paint-by-Example, with random weights.

    Args:
        sizes: What to build.
        image_size: Side in pixels of what it inpaints.

    Returns:
        `unet`, `vae`, `image_encoder`, `scheduler`, `feature_extractor`.

    Raises:
        ValueError: Fewer than four layers: the encoder would have no mapper.
    """
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPImageProcessor

    levels, side = len(sizes.unet_channels), sizes.exemplar_size
    unet = UNet2DConditionModel(
        sample_size=image_size // 4,
        in_channels=2 * sizes.latent_channels + 1,
        out_channels=sizes.latent_channels,
        block_out_channels=sizes.unet_channels,
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
        layers_per_block=sizes.layers_per_block,
        attention_head_dim=sizes.attention_heads,  # diffusers' name for how many there are
        cross_attention_dim=sizes.embedding_dim,
        norm_num_groups=16,
    )
    code = TinyStableDiffusion(
        latent_channels=sizes.latent_channels, vae_channels=sizes.vae_channels
    )
    return {
        "unet": unet,
        "vae": tiny_autoencoder(code, image_size),
        "image_encoder": _encoder(sizes),
        "scheduler": DDIMScheduler(
            beta_schedule=sizes.beta_schedule,
            prediction_type=sizes.prediction_type,
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            timestep_spacing="leading",
        ),
        "feature_extractor": CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
    }


def _encoder(sizes: TinyPaintByExample) -> Any:
    from transformers import CLIPVisionConfig

    from palmforge.networks.exemplar_encoder import ExemplarEncoder

    if sizes.encoder_layers < 4:
        raise ValueError(f"encoder_layers: {sizes.encoder_layers}, at least 4 are needed")
    return ExemplarEncoder(
        CLIPVisionConfig(
            hidden_size=sizes.encoder_dim,
            intermediate_size=4 * sizes.encoder_dim,
            projection_dim=sizes.embedding_dim,
            num_hidden_layers=sizes.encoder_layers,
            num_attention_heads=max(1, sizes.encoder_dim // 32),
            image_size=sizes.exemplar_size,
            patch_size=sizes.patch_size,
        )
    )
