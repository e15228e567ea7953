"""`train.py generator export`: a checkpoint → what plain diffusers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console

from palmforge.data.atomic import check_writable
from palmforge.errors import ConfigError
from palmforge.modules.checkpoint_files import read_checkpoint
from palmforge.modules.controlnet_files import PRETRAINED, PRETRAINED_PATH
from palmforge.modules.exemplar_inpainter import load_inpainter
from palmforge.modules.identity_controlnet import load_controlnet
from palmforge.modules.identity_generator import load_generator
from palmforge.modules.palm_autoencoder import load_autoencoder
from palmforge.modules.stable_diffusion import EMBEDDED_PATH

_KINDS = ("IdentityGenerator", "IdentityControlNet", "PalmAutoencoder", "ExemplarInpainter")


def export(
    checkpoint: str,
    out: str,
    format: Literal["diffusers", "kohya"] = "diffusers",
    half: bool = True,
    averaged: bool = True,
) -> None:
    """Writes a LoRA, a pipeline, a ControlNet, an autoencoder or a Paint-by-Example, by what it is.

    Args:
        checkpoint: Of a run of `IdentityGenerator`, `IdentityControlNet`, `PalmAutoencoder` or
            `ExemplarInpainter`.
        out: A new folder: `pipe.load_lora_weights(out)`, `DiffusionPipeline.from_pretrained(out)`,
            `ControlNetModel.from_pretrained(out)`, `AutoencoderKL.from_pretrained(out)`; of an
            `ExemplarInpainter` what `Deidentifier` takes, a LoRA merged into it.
        format: Of a LoRA: `diffusers` (PEFT), or `kohya` for web interfaces.
        half: Whole models in float16. A LoRA stays in float32.
        averaged: The averages of `WeightEMA`, where there are any.
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"out: {out} is not empty. Give a new folder")
    if checkpoint == PRETRAINED:
        raise ConfigError(
            f"checkpoint: {PRETRAINED} is in diffusers' layout already, and there are two. Load "
            f"the ControlNet from {PRETRAINED_PATH}, the Stable Diffusion from {EMBEDDED_PATH}"
        )
    kind = read_checkpoint(checkpoint, *_KINDS)["network_class"]
    check_writable(folder, "out")
    if kind == "PalmAutoencoder":
        load_autoencoder(checkpoint, averaged).export(folder, half)
    elif kind == "IdentityControlNet":
        load_controlnet(checkpoint, averaged).export(folder, half)
    elif kind == "ExemplarInpainter":
        load_inpainter(checkpoint, averaged).export(folder, half)
    else:
        load_generator(checkpoint, averaged).export(folder, format, half)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    Console(markup=False).print(f"{out}: {kind}, {size:.1f} MiB")
