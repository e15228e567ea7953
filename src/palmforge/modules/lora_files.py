"""A trained generator as files that other programs read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

from palmforge.data.atomic import write_aside

Format = Literal["diffusers", "kohya"]
KOHYA_NAME = "pytorch_lora_weights_kohya.safetensors"


def save_generator(pipeline: Any, is_lora: bool, directory: Path, format: Format) -> None:
    """Writes a LoRA, or a whole pipeline.

    Args:
        pipeline: Of diffusers; its UNet and perhaps text encoders carry the adapter `default`.
        is_lora: Whether it is the adapter that is written.
        directory: Where to.
        format: `diffusers`: what `load_lora_weights` reads, rank and alpha in its metadata;
            `kohya`: the names and alphas of kohya's scripts and of web interfaces.
    """
    if not is_lora:
        pipeline.save_pretrained(directory)
    elif format == "diffusers":
        _save_diffusers(pipeline, directory)
    else:
        _save_kohya(pipeline, directory / KOHYA_NAME)


def _adapted(pipeline: Any) -> dict[str, Any]:
    """Part → network, for those that carry an adapter."""
    parts = {n: getattr(pipeline, n, None) for n in ("unet", "text_encoder", "text_encoder_2")}
    return {n: part for n, part in parts.items() if getattr(part, "peft_config", None)}


def _save_diffusers(pipeline: Any, directory: Path) -> None:
    from diffusers.training_utils import _collate_lora_metadata
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import get_peft_model_state_dict

    layers = {
        f"{name}_lora_layers": convert_state_dict_to_diffusers(get_peft_model_state_dict(part))
        for name, part in _adapted(pipeline).items()
    }
    pipeline.save_lora_weights(directory, **layers, **_collate_lora_metadata(_adapted(pipeline)))


def _save_kohya(pipeline: Any, path: Path) -> None:
    from diffusers.utils import convert_state_dict_to_kohya
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    state: dict[str, torch.Tensor] = {}
    for name, part in _adapted(pipeline).items():
        peft = {f"{name}.{key}": value for key, value in get_peft_model_state_dict(part).items()}
        settings = part.peft_config["default"]
        kohya = convert_state_dict_to_kohya(peft)
        for key in kohya:
            if key.endswith(".alpha"):  # diffusers writes the rank there
                scale = settings.lora_alpha
                if settings.use_rslora:  # kohya's scale is always alpha / rank
                    scale *= settings.r**0.5
                kohya[key] = torch.tensor(float(scale))
        state |= kohya
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(settings.r),
        "ss_network_alpha": str(settings.lora_alpha),
        "ss_network_args": json.dumps({"use_rslora": settings.use_rslora}),
    }
    with write_aside(path) as aside:
        save_file({key: value.contiguous() for key, value in state.items()}, aside, metadata)
