"""A trained generator as files that other programs read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from palmforge.data.atomic import write_aside
from palmforge.errors import ConfigError

State = dict[str, torch.Tensor]
Adapters = dict[str, tuple[State, Any]]  # part → weights, peft's settings
Format = Literal["diffusers", "kohya"]
KOHYA_NAME = "pytorch_lora_weights_kohya.safetensors"


def starting_adapters(pipeline: Any) -> dict[str, State]:
    """Part → a copy of its adapter, where making the adapter changed the weights under it.

    PiSSA and OLoRA begin with a part of W itself and take it out of W. Exported alone, what was
    learned would lie over a W that nobody else has.
    """
    from peft import get_peft_model_state_dict

    return {
        name: {key: value.clone() for key, value in get_peft_model_state_dict(part).items()}
        for name, part in _adapted(pipeline).items()
        if part.peft_config["default"].init_lora_weights in ("pissa", "olora")
    }


def save_generator(
    pipeline: Any, is_lora: bool, directory: Path, format: Format, start: dict[str, State]
) -> None:
    """Writes a LoRA, or a whole pipeline.

    Args:
        pipeline: Of diffusers; its UNet and perhaps text encoders carry the adapter `default`.
        is_lora: Whether it is the adapter that is written.
        directory: Where to.
        format: `diffusers`: what `load_lora_weights` reads, rank and alpha in its metadata;
            `kohya`: the names and alphas of kohya's scripts and of web interfaces.
        start: Of `starting_adapters`.

    Raises:
        ConfigError: For DoRA in kohya's format.
    """
    if not is_lora:
        pipeline.save_pretrained(directory)
        return
    adapters = {name: _adapter(part, start.get(name)) for name, part in _adapted(pipeline).items()}
    if format == "diffusers":
        _save_diffusers(pipeline, adapters, directory)
    else:
        _save_kohya(adapters, directory / KOHYA_NAME)


def _adapted(pipeline: Any) -> dict[str, Any]:
    """Part → network, for those that carry an adapter."""
    parts = {n: getattr(pipeline, n, None) for n in ("unet", "text_encoder", "text_encoder_2")}
    return {n: part for n, part in parts.items() if getattr(part, "peft_config", None)}


def _adapter(part: Any, start: State | None) -> tuple[State, Any]:
    """Its weights and settings, as they are laid over the weights that everybody has.

    After PiSSA and OLoRA that is B A − B_0 A_0, of twice the rank.
    """
    from peft import get_peft_model_state_dict

    state, settings = get_peft_model_state_dict(part), part.peft_config["default"]
    if start is not None:
        for key, value in state.items():
            if "lora_A" in key:
                state[key] = torch.cat([value, start[key]])
            elif "lora_B" in key:
                state[key] = torch.cat([value, -start[key]], dim=1)
        alpha = settings.lora_alpha * (2**0.5 if settings.use_rslora else 2)
        settings = replace(settings, r=2 * settings.r, lora_alpha=alpha, init_lora_weights=True)
    if "CLIPText" in type(part).__name__:  # transformers 5 has dropped a level of names
        state = {f"text_model.{key.removeprefix('text_model.')}": v for key, v in state.items()}
    return state, settings


def _save_diffusers(pipeline: Any, adapters: Adapters, directory: Path) -> None:
    from diffusers.utils import convert_state_dict_to_diffusers

    layers = {
        f"{name}_lora_layers": convert_state_dict_to_diffusers(state)
        for name, (state, _) in adapters.items()
    }
    metadata = {
        f"{name}_lora_adapter_metadata": settings.to_dict()
        for name, (_, settings) in adapters.items()
    }
    pipeline.save_lora_weights(directory, **layers, **metadata)
    for file in directory.glob("*.safetensors"):
        file.chmod(0o644)  # diffusers leaves it to its owner alone


def _save_kohya(adapters: Adapters, path: Path) -> None:
    from diffusers.utils import convert_state_dict_to_kohya
    from safetensors.torch import save_file

    state: State = {}
    for name, (weights, settings) in adapters.items():
        if settings.use_dora:
            raise ConfigError(
                "format: programs do not agree on DoRA in kohya's files. Take format=diffusers"
            )
        kohya = convert_state_dict_to_kohya({f"{name}.{key}": v for key, v in weights.items()})
        for key in kohya:
            if key.endswith(".alpha"):  # diffusers writes the rank there
                scale = settings.lora_alpha
                if settings.use_rslora:  # kohya's scale is always alpha / rank
                    scale *= settings.r**0.5
                kohya[key] = torch.tensor(float(scale))
        state |= kohya
    if "text_encoder_2" not in adapters:  # the two of XL alone have numbers
        state = {key.replace("lora_te1_", "lora_te_"): value for key, value in state.items()}
    metadata = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(settings.r),
        "ss_network_alpha": str(settings.lora_alpha),
        "ss_network_args": json.dumps({"use_rslora": settings.use_rslora}),
    }
    with write_aside(path) as aside:
        save_file({key: value.contiguous() for key, value in state.items()}, aside, metadata)
