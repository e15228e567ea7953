"""A Paint-by-Example of 0.2 million weights, and it in the layouts that there are of it."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from palmforge.modules.paint_by_example import (
    PaintByExample,
    load_paint_by_example,
    save_paint_by_example,
    tiny_paint_by_example,
)
from palmforge.networks.paint_by_example import TinyPaintByExample

SIZE, WIDTH = 32, 32  # pixels of a picture; numbers of an exemplar
SIZES = TinyPaintByExample(
    vae_channels=(8, 8, 16), unet_channels=(16, 32), attention_heads=2, exemplar_size=32,
    encoder_dim=32, encoder_layers=9, embedding_dim=WIDTH, prediction_type="epsilon",
)  # fmt: skip
_FOLDERS: list[tempfile.TemporaryDirectory] = []


def fresh(seed: int = 0) -> PaintByExample:
    """With random weights; a vector for no exemplar and a scale as a trained one has them."""
    from diffusers import AutoencoderKL, PNDMScheduler

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = tiny_paint_by_example(SIZES, SIZE)
        model.image_encoder.uncond_vector.data.normal_()
        config = {**model.vae.config, "mid_block_add_attention": True, "scaling_factor": 0.18215}
        vae = AutoencoderKL.from_config(config).requires_grad_(False).eval()
    scheduler = PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    return PaintByExample(
        model.unet, vae, model.image_encoder, scheduler, model.feature_extractor
    )  # the published one's, smaller


@cache
def saved() -> str:
    """A folder of it, as `save_paint_by_example` writes it."""
    folder = tempfile.TemporaryDirectory(prefix="palmforge-exemplars-")
    _FOLDERS.append(folder)  # removed at exit
    save_paint_by_example(fresh(), folder.name)
    return folder.name


@cache
def model() -> PaintByExample:
    """Loaded from `saved`; for tests that do not change it."""
    return load_paint_by_example(saved())


def copied(out: Path) -> Path:
    """A copy of `saved` to break."""
    shutil.copytree(saved(), out)
    return out


def rewritten(path: Path, **changes: Any) -> None:
    """Other values in a JSON file; None takes a key out."""
    record = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in record.items() if v is not None}))


def as_published(out: Path) -> Path:
    """As the hub has it: written by diffusers 0.10 and transformers 4, in PyTorch's pickles."""
    copied(out)
    rewritten(
        out / "model_index.json",
        _diffusers_version="0.10.0.dev0",
        feature_extractor=["transformers", "CLIPFeatureExtractor"],
        image_encoder=["paint_by_example", "PaintByExampleImageEncoder"],
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
    )
    (out / "feature_extractor" / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "crop_size": SIZES.exemplar_size, "size": SIZES.exemplar_size, "do_resize": True,
                "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
                "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3,
                "image_mean": [0.48145466, 0.4578275, 0.40821073],
                "image_std": [0.26862954, 0.26130258, 0.27577711],
            }
        )
    )  # fmt: skip
    for part, name, rename in (
        ("unet", "diffusion_pytorch_model.bin", lambda key: key),
        ("vae", "diffusion_pytorch_model.bin", _old_attention),
        ("image_encoder", "pytorch_model.bin", _old_clip),
    ):
        (file,) = (out / part).glob("*.safetensors")
        state = {rename(key): value for key, value in load_file(file).items()}
        if part == "image_encoder":
            patches = (SIZES.exemplar_size // SIZES.patch_size) ** 2
            state["model.vision_model.embeddings.position_ids"] = torch.arange(patches + 1)[None]
        file.unlink()
        torch.save(state, out / part / name)
    return out


def _old_attention(key: str) -> str:
    if "attentions" in key:
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value")):
            key = key.replace(new, old)
        key = key.replace("to_out.0", "proj_attn")
    return key


def _old_clip(key: str) -> str:
    if key.startswith("model.") and not key.startswith("model.vision_model."):
        key = f"model.vision_model.{key.removeprefix('model.')}"
    return key


@cache
def pipeline() -> Any:
    """The pipeline of diffusers, of its own parts: for as long as there is one."""
    import pytest

    from_diffusers = pytest.importorskip(
        "diffusers.pipelines.deprecated.paint_by_example.image_encoder"
    )
    from diffusers import AutoencoderKL, PaintByExamplePipeline, UNet2DConditionModel

    own = Path(saved())
    found = PaintByExamplePipeline(
        vae=AutoencoderKL.from_pretrained(own / "vae"),
        image_encoder=from_diffusers.PaintByExampleImageEncoder.from_pretrained(
            own / "image_encoder"
        ).eval(),
        unet=UNet2DConditionModel.from_pretrained(own / "unet"),
        scheduler=model().scheduler,
        safety_checker=None,
        feature_extractor=model().feature_extractor,
    )
    found.set_progress_bar_config(disable=True)
    return found


def pictures(count: int = 1, height: int = SIZE, width: int = SIZE, seed: int = 3) -> torch.Tensor:
    """Noise with a slope, `[N, 3, H, W]` uint8."""
    draw = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 128, (count, 3, height, width), generator=draw)
    return (noise + torch.linspace(0, 127, width).long()).to(torch.uint8)


def masks(count: int = 1, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    """A rectangle that keeps to no grid of latents, `[N, 1, H, W]`."""
    found = torch.zeros(count, 1, height, width, dtype=torch.bool)
    found[:, :, 7 : height - 5, 9 : width - 10] = True
    return found
