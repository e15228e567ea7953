"""A Stable Diffusion as a diffusers pipeline: from the hub, a folder, the package, or configs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from palmforge.data.generation.prompts import DEFAULT_TEMPLATES, draw_prompts
from palmforge.errors import CheckpointError, first_line
from palmforge.networks.stable_diffusion import TinyStableDiffusion, tiny_components

EMBEDDED = "embedded"
EMBEDDED_PATH = Path(__file__).resolve().parents[1] / "assets" / "stable_diffusion_tiny"


def base_path(name_or_path: str | None) -> Path | None:
    """The folder of a base model; None: it is of the hub, or has random weights."""
    path = EMBEDDED_PATH if name_or_path == EMBEDDED else Path(name_or_path or "")
    return path if name_or_path and path.is_dir() else None


def load_pipeline(
    name_or_path: str | None,
    vae_name_or_path: str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    sizes: TinyStableDiffusion | None = None,
    image_size: int = 64,
) -> Any:
    """A text-to-image pipeline of diffusers, in float32 on the CPU.

    Args:
        name_or_path: A hub id or a folder in diffusers' layout (Stable Diffusion 1.x, 2.x, XL);
            `embedded`: the small one of the package; None: a small one with random weights.
        vae_name_or_path: An autoencoder in place of its own.
        revision: Of the hub's repository.
        variant: Of the weights' files, such as `fp16`.
        sizes: Of the small one (None: the defaults).
        image_size: Of the small one.

    Raises:
        CheckpointError: If it cannot be had, or its parts do not fit together.
    """
    from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionPipeline

    pipeline: Any
    if name_or_path is None:
        texts = draw_prompts(2000, DEFAULT_TEMPLATES, seed=0)  # every word of the grammar
        parts = tiny_components(sizes or TinyStableDiffusion(), image_size, texts)
        pipeline = StableDiffusionPipeline(**parts, **_NO_CHECKER)
    else:
        path = str(EMBEDDED_PATH) if name_or_path == EMBEDDED else name_or_path
        options = {"revision": revision, "variant": variant}
        pipeline = _loaded(
            DiffusionPipeline, "pretrained_model_name_or_path", path, **options, **_CHECKER_OFF
        )
    if vae_name_or_path is not None:
        pipeline.register_modules(
            vae=_loaded(AutoencoderKL, "pretrained_vae_model_name_or_path", vae_name_or_path)
        )
        # Computed by the pipeline's constructor, from the autoencoder that it had.
        pipeline.vae_scale_factor = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    _check_parts(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    for name in _LONG_PROMPTS:  # `Encoders` says it once, and counts
        logging.getLogger(name).setLevel(logging.ERROR)
    return pipeline


_LONG_PROMPTS = (
    "transformers.tokenization_utils_base",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion",
    "diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl",
)
_CHECKER_OFF = {"safety_checker": None, "requires_safety_checker": False}
_NO_CHECKER = {**_CHECKER_OFF, "feature_extractor": None}


def _loaded(kind: Any, key: str, path: str, **options: Any) -> Any:
    """`from_pretrained`, with a message that says what to do."""
    try:
        return kind.from_pretrained(path, use_safetensors=True, dtype=torch.float32, **options)
    except (OSError, ValueError) as error:
        what = "is not a folder" if not Path(path).is_dir() else "cannot be read"
        raise CheckpointError(
            f"model.{key}: {path!r} {what} here, and could not be had from the hub "
            f"({first_line(error)}). Without a network: `hf download {path} --local-dir DIR` on a "
            f"machine that has one, and give DIR. Weights must be safetensors"
        ) from error


def _check_parts(pipeline: Any) -> None:
    """Parts of two models would fail in the middle of the first step, or train nonsense."""
    for name in ("vae", "unet", "text_encoder", "tokenizer", "scheduler"):
        if getattr(pipeline, name, None) is None:
            raise CheckpointError(
                f"model.pretrained_model_name_or_path: a {type(pipeline).__name__} without {name} "
                "is not a Stable Diffusion"
            )
    latent, taken = pipeline.vae.config.latent_channels, pipeline.unet.config.in_channels
    if latent != taken:
        raise CheckpointError(
            f"model: the autoencoder gives {latent} latent channels, the UNet takes {taken}. They "
            "are not of one model: see pretrained_vae_model_name_or_path"
        )
    wide = sum(encoder.config.hidden_size for encoder in text_encoders(pipeline))
    if wide != pipeline.unet.config.cross_attention_dim:
        raise CheckpointError(
            f"model: the text encoder gives {wide} numbers a token, the UNet takes "
            f"{pipeline.unet.config.cross_attention_dim}. They are not of one model"
        )


def text_encoders(pipeline: Any) -> list[Any]:
    """One, or two of Stable Diffusion XL."""
    found = [getattr(pipeline, name, None) for name in ("text_encoder", "text_encoder_2")]
    return [encoder for encoder in found if encoder is not None]
