"""Palms out of the box: the embedded Stable Diffusion, from the command line and in diffusers."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from palmforge.data.digests import checkpoint_digest
from palmforge.errors import CheckpointError, ConfigError
from palmforge.modules.stable_diffusion import EMBEDDED_PATH

TINY = ("--config=configs/experiment/identity_lora_tiny.yaml", "--trainer.accelerator=cpu")
FEW = ("--data.num_identities=3", "--data.eval_batch_size=3", "--model.num_inference_steps=3")


def test_palms_are_generated_without_data_and_without_training(cli, tmp_path):
    out = tmp_path / "palms"
    writer = ("--trainer.callbacks=ImageWriter", f"--trainer.callbacks.directory={out}")
    cli("predict", *TINY, *FEW, *writer, "--ckpt_path=pretrained", "--data.root=/nowhere")
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    assert len(rows) == 3 and all("palm" in row["prompt"] for row in rows)
    made_by = json.loads((out / "generation.json").read_text())
    assert made_by["pretrained_model_sha256"] == checkpoint_digest(EMBEDDED_PATH)
    pixels = np.stack([np.asarray(Image.open(out / row["file"])) for row in rows]).astype(float)
    assert pixels.shape == (3, 64, 64, 3)
    # Skin: red before green before blue, neither black nor white; and no two alike.
    red, green, blue = pixels.mean((0, 1, 2))
    assert 255 * 0.9 > red > green > blue > 255 * 0.1
    assert np.abs(pixels[0] - pixels[1]).mean() > 4

    from diffusers import StableDiffusionPipeline

    plain = StableDiffusionPipeline.from_pretrained(EMBEDDED_PATH, dtype=torch.float32)
    generators = [torch.Generator().manual_seed(row["seed"]) for row in rows]
    same = plain(
        [row["prompt"] for row in rows], generator=generators, num_inference_steps=3,
        guidance_scale=2.0, output_type="np",
    ).images  # fmt: skip
    assert np.abs(same * 255 - pixels).max() <= 1


@pytest.mark.parametrize(
    "command",
    [
        ("fit", *TINY),
        ("test", "--config=configs/experiment/dhn_student.yaml"),
        ("predict", *TINY, "--model.pretrained_model_name_or_path=null"),
    ],
)
def test_pretrained_is_for_using_what_is_pretrained(cli, command):
    with pytest.raises(CheckpointError, match="pretrained is for validate, test and predict"):
        cli(*command, "--ckpt_path=pretrained")


def test_the_embedded_model_is_small():
    size = sum(file.stat().st_size for file in EMBEDDED_PATH.rglob("*") if file.is_file())
    assert size < 16e6


def test_a_prompt_that_is_too_long_is_told_once_and_counted(cli, tmp_path, caplog, recwarn):
    long = "a left palm, " * 30
    cli(
        "predict", *TINY, *FEW, "--ckpt_path=pretrained", f"--data.out={tmp_path / 'long'}",
        f"--data.prompts=['{long}']", "--data.num_identities=6",
    )  # fmt: skip
    told = [str(w.message) for w in recwarn if "more than the 40 tokens" in str(w.message)]
    assert len(told) == 1
    assert "6 prompts were cut to 40 tokens" in caplog.text
    assert "truncated" not in caplog.text


def test_another_checkpoint_needs_another_folder_and_out_gives_it(cli, tmp_path):
    out = tmp_path / "palms"
    ask = ("predict", *TINY, *FEW, "--ckpt_path=pretrained")
    cli(*ask, f"--data.out={out}")
    with pytest.raises(ConfigError, match=r"guidance_scale: 2.0 there, 3.0 now.*--data.out"):
        cli(*ask, f"--data.out={out}", "--model.guidance_scale=3")
    cli(*ask, f"--data.out={tmp_path / 'other'}", "--model.guidance_scale=3")
    assert (tmp_path / "other" / "manifest.parquet").exists()
