"""Low-rank adapters of a diffusion model, through peft."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from palmforge.errors import ConfigError


@dataclass(frozen=True)
class LoraSettings:
    """LoRA (Hu et al. 2022): W + (alpha / rank) · B A.

    Attributes:
        rank: r of the matrices A and B.
        alpha: Scale of the update is alpha / rank; with `use_rslora` alpha / √rank.
        dropout: Of the adapter's input.
        target_modules: Names of the UNet's linear layers, or their ends.
        text_encoder: Adapt the text encoder too. Its embeddings cannot be cached then.
        text_encoder_modules: The layers of the text encoder.
        use_dora: DoRA (Liu et al. 2024): magnitude and direction apart.
        use_rslora: Rank-stabilised scale (Kalajdzievski 2023).
        init: Of A and B: `gaussian` (A normal / r, B zero), `kaiming` (peft's default), or `pissa`,
            `olora`.
    """

    rank: int = 16
    alpha: float = 16.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    text_encoder: bool = False
    text_encoder_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    use_dora: bool = False
    use_rslora: bool = False
    init: Literal["gaussian", "kaiming", "pissa", "olora"] = "gaussian"

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "model.lora: rank >= 1, alpha > 0 and dropout in [0, 1) are needed, got "
                f"{self.rank}, {self.alpha} and {self.dropout}"
            )


def add_lora(network: Any, settings: LoraSettings, modules: tuple[str, ...], key: str) -> None:
    """Adds the adapter `default`; all of it, and nothing else, is trained, in float32.

    Trained in bf16, most entries of A never move: an update of 1e-4 is less than half a step of a
    number of order 1e-2 with 8 bits.

    Args:
        network: A UNet of diffusers or a text encoder of transformers; frozen here.
        settings: Of the adapter.
        modules: Names of its layers, or their ends.
        key: The setting that names them, for the message.

    Raises:
        ConfigError: If no layer has one of the names.
    """
    from peft import LoraConfig

    network.requires_grad_(False)
    known = {name for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    convolutions = {n for n, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    unmet = [end for end in modules if not any(_is(name, end) for name in known | convolutions)]
    if unmet or not modules:
        ends = sorted({name.rsplit(".", 1)[-1] for name in known if not name[-1].isdigit()})
        raise ConfigError(
            f"{key}: no layer of the {type(network).__name__} is called "
            f"{', '.join(unmet) or 'nothing'}. There are, for example: {', '.join(ends[:12])}"
        )
    network.add_adapter(
        LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,  # type: ignore[arg-type]  # a float is as good
            lora_dropout=settings.dropout,
            target_modules=list(modules),
            use_dora=settings.use_dora,
            use_rslora=settings.use_rslora,
            init_lora_weights=True if settings.init == "kaiming" else settings.init,
        )
    )
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)


def _is(name: str, end: str) -> bool:
    return name == end or name.endswith("." + end)
