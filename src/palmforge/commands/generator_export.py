"""`train.py generator export`: a checkpoint → what plain diffusers loads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console

from palmforge.data.atomic import check_writable
from palmforge.errors import ConfigError
from palmforge.modules.checkpoint_files import read_checkpoint
from palmforge.modules.identity_controlnet import load_controlnet
from palmforge.modules.identity_generator import load_generator
from palmforge.modules.palm_autoencoder import load_autoencoder

_KINDS = ("IdentityGenerator", "IdentityControlNet", "PalmAutoencoder")


def export(
    checkpoint: str,
    out: str,
    format: Literal["diffusers", "kohya"] = "diffusers",
    half: bool = True,
    averaged: bool = True,
) -> None:
    """Writes a LoRA, a pipeline, a ControlNet or an autoencoder, by what the checkpoint is of.

    Args:
        checkpoint: Of a run of `IdentityGenerator`, `IdentityControlNet` or `PalmAutoencoder`.
        out: A new folder: `pipe.load_lora_weights(out)`, `DiffusionPipeline.from_pretrained(out)`,
            `ControlNetModel.from_pretrained(out)`, `AutoencoderKL.from_pretrained(out)`.
        format: Of a LoRA: `diffusers` (PEFT), or `kohya` for web interfaces.
        half: Whole models in float16. A LoRA stays in float32.
        averaged: The averages of `WeightEMA`, where there are any.
    """
    folder = Path(out)
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"out: {out} is not empty. Give a new folder")
    kind = read_checkpoint(checkpoint, *_KINDS)["network_class"]
    check_writable(folder, "out")
    if kind == "PalmAutoencoder":
        load_autoencoder(checkpoint, averaged).export(folder, half)
    elif kind == "IdentityControlNet":
        load_controlnet(checkpoint, averaged).export(folder, half)
    else:
        load_generator(checkpoint, averaged).export(folder, format, half)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20
    Console(markup=False).print(f"{out}: {kind}, {size:.1f} MiB")
