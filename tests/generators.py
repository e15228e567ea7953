"""A Stable Diffusion of 0.3 million weights, and small trainings of it."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger

from palmforge.callbacks import StepSeed
from palmforge.data.generation.datamodule import GenerationDataModule
from palmforge.data.roi_cache import RoiSettings
from palmforge.modules.identity_generator import IdentityGenerator
from palmforge.modules.stable_diffusion import load_pipeline
from palmforge.networks.lora import LoraSettings
from palmforge.networks.stable_diffusion import TinyStableDiffusion

SIZE = 32
SIZES = TinyStableDiffusion(
    latent_channels=4, vae_channels=(8, 8, 16), unet_channels=(16, 32), attention_heads=2,
    text_dim=32, text_layers=1,
)  # fmt: skip
TWO = {"devices": 2, "strategy": "ddp_fork"}


@cache
def base() -> str:
    """A saved pipeline with random weights, as `from_pretrained` wants it."""
    folder = _kept(tempfile.TemporaryDirectory(prefix="palmforge-tiny-"))
    torch.manual_seed(0)
    load_pipeline(None, sizes=SIZES, image_size=SIZE).save_pretrained(folder)
    return folder


@cache
def base_xl() -> str:
    """A Stable Diffusion XL: two text encoders, pooled words, sizes."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    folder = _kept(tempfile.TemporaryDirectory(prefix="palmforge-tiny-xl-"))
    torch.manual_seed(0)
    parts = load_pipeline(None, sizes=SIZES, image_size=SIZE).components
    words = {**parts["text_encoder"].config.to_dict(), "num_hidden_layers": 2}
    unet = UNet2DConditionModel(
        sample_size=SIZE // 4, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=2,
        cross_attention_dim=64, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32, use_linear_projection=True,
    )  # fmt: skip
    StableDiffusionXLPipeline(
        vae=parts["vae"], unet=unet, scheduler=parts["scheduler"],
        tokenizer=parts["tokenizer"], tokenizer_2=parts["tokenizer"],
        text_encoder=type(parts["text_encoder"])(CLIPTextConfig(**words)),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**words)),
    ).save_pretrained(folder)  # fmt: skip
    return folder


_FOLDERS: list[tempfile.TemporaryDirectory] = []


def _kept(folder: tempfile.TemporaryDirectory) -> str:
    _FOLDERS.append(folder)  # removed at exit
    return folder.name


def generator(**settings: Any) -> IdentityGenerator:
    """Not yet configured; rank 4 on all attention."""
    own = {
        "pretrained_model_name_or_path": base(), "image_size": SIZE, "num_inference_steps": 2,
        "guidance_scale": 2.0, "warmup_steps": 0, "lora": LoraSettings(rank=4, alpha=4.0),
    }  # fmt: skip
    return IdentityGenerator(**{**own, **settings})


def ready(**settings: Any) -> IdentityGenerator:
    """A configured one, whose B has values: as after a training."""
    module = generator(**settings)
    module.configure_model()
    noise = torch.Generator().manual_seed(1)
    for name, weight in module.named_parameters():
        if "lora_B" in name:
            weight.data = 0.2 * torch.randn(weight.shape, generator=noise)
    return module


def palms(root: str, **settings: Any) -> GenerationDataModule:
    """Rendered palms: 4 identities to train on, 2 to validate."""
    own = {
        "root": root, "cache_dir": str(Path(root).parent / "roi_cache"), "image_size": SIZE,
        "roi": RoiSettings(size=40), "fractions": (0.5, 0.25, 0.25), "domains": ["IF"],
        "batch_size": 2, "eval_batch_size": 3, "num_workers": 0, "num_identities": 5,
    }  # fmt: skip
    return GenerationDataModule(**{**own, **settings})


class Losses(L.Callback):
    """What is logged each step."""

    def __init__(self, name: str = "train/loss") -> None:
        self.name = name
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.values.append(float(trainer.callback_metrics[self.name]))


def trainer(folder: Path | None, *callbacks: L.Callback, **settings: Any) -> L.Trainer:
    """On the CPU; with a folder, a run is kept there."""
    own = {
        "max_steps": 4, "limit_val_batches": 0, "num_sanity_val_steps": 0, "log_every_n_steps": 1,
        "gradient_clip_val": 1.0, "max_epochs": -1,
    }  # fmt: skip
    return L.Trainer(
        accelerator="cpu", callbacks=[StepSeed(), *callbacks], enable_progress_bar=False,
        logger=CSVLogger(folder, name=None, version="") if folder else False,
        enable_checkpointing=any(type(c).__name__ == "LastCheckpoint" for c in callbacks),
        enable_model_summary=False, **{**own, **settings},
    )  # fmt: skip


def trained(module: L.LightningModule) -> dict[str, torch.Tensor]:
    """A copy of the weights that are trained."""
    return {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}
