"""A ControlNet on the Stable Diffusion of `generators`, and small trainings of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from generators import SIZE, base

from palmforge.data.generation.capture_datamodule import CaptureDataModule
from palmforge.data.roi_cache import RoiSettings
from palmforge.modules.identity_controlnet import IdentityControlNet


def controlnet(**settings: Any) -> IdentityControlNet:
    """Not yet configured."""
    own = {
        "pretrained_model_name_or_path": base(), "image_size": SIZE, "num_inference_steps": 2,
        "guidance_scale": 2.0, "warmup_steps": 0,
    }  # fmt: skip
    return IdentityControlNet(**{**own, **settings})


def ready(**settings: Any) -> IdentityControlNet:
    """A configured one that says something: as after a training, its last layers are not zero."""
    module = controlnet(**settings)
    module.configure_model()
    noise = torch.Generator().manual_seed(1)
    for name, weight in module.controlnet.named_parameters():
        if "controlnet_" in name or "conv_out" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=noise)
    return module


def captures(root: str, **settings: Any) -> CaptureDataModule:
    """Rendered palms: 4 identities of 7 captures to train on, 2 to validate, 2 to test."""
    own = {
        "root": root, "cache_dir": str(Path(root).parent / "roi_cache"), "image_size": SIZE,
        "roi": RoiSettings(size=40), "fractions": (0.5, 0.25, 0.25), "domains": ["IF"],
        "batch_size": 2, "eval_batch_size": 3, "num_workers": 0, "num_identities": 2,
        "captures": 4,
    }  # fmt: skip
    return CaptureDataModule(**{**own, **settings})


def references(count: int) -> torch.Tensor:
    """Pictures with dark lines on light ground, each another, `[N, 3, S, S]` uint8."""
    noise = torch.Generator().manual_seed(7)
    coarse = torch.rand(count, 3, 5, 5, generator=noise)
    images = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic")
    return (images.clamp(0, 1) * 255).to(torch.uint8)


def batch(count: int = 2, **parts: Any) -> dict[str, Any]:
    """As the DataLoader gives it."""
    noise = torch.Generator().manual_seed(0)
    own = {
        "mean": torch.randn(count, 4, 8, 8, generator=noise),
        "sd": torch.zeros(count, 4, 8, 8), "seed": torch.arange(1, count + 1),
        "index": torch.arange(count), "prompt": ["a palm"] * count,
        "reference": references(count), "keep_control": torch.ones(count),
    }  # fmt: skip
    return {**own, **parts}


def quiet(module: IdentityControlNet) -> IdentityControlNet:
    """For steps without a trainer."""
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return module
