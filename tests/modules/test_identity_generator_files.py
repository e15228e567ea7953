"""Checkpoints of the identity generator, and what other programs read of it."""

from __future__ import annotations

import os
from functools import partial

import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionPipeline
from generators import SIZE, SIZES, base, base_xl, generator, palms, ready, trained, trainer
from runs import load
from safetensors import safe_open
from safetensors.torch import load_file

from palmforge.callbacks import LastCheckpoint, WeightEMA
from palmforge.commands.generator_export import export
from palmforge.errors import CheckpointError, ConfigError
from palmforge.modules.identity_generator import load_generator
from palmforge.modules.lora_files import KOHYA_NAME
from palmforge.modules.palm_autoencoder import PalmAutoencoder
from palmforge.networks.lora import LoraSettings

PROMPTS, SEEDS = ["a left palm", "a right palm, flash"], [3, 4]
TEXT = {"rank": 4, "alpha": 4.0, "text_encoder": True}


def drawn(pipeline) -> torch.Tensor:
    """What plain diffusers makes of the same words and seeds."""
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        PROMPTS, negative_prompt=["", ""], height=SIZE, width=SIZE, num_inference_steps=2,
        guidance_scale=2.0, output_type="pt",
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
    ).images  # fmt: skip
    return (images * 255).round().to(torch.uint8)


def assert_same_pictures(one: torch.Tensor, other: torch.Tensor) -> None:
    assert one.shape == other.shape == (2, 3, SIZE, SIZE)
    assert (one.int() - other.int()).abs().max() <= 1


def predicted(module) -> torch.Tensor:
    batch = {"index": torch.arange(2), "prompt": PROMPTS, "seed": torch.tensor(SEEDS)}
    made = module.predict_step(batch, 0)
    assert made["image"].dtype == torch.uint8 and made["prompt"] == PROMPTS
    return made["image"]


def loaded(path: str):
    """Its sampling is set, which is no part of a checkpoint."""
    module = load_generator(path)
    module.num_inference_steps, module.guidance_scale = 2, 2.0
    return module


def saved(module, path) -> str:
    """As Lightning saves it."""
    checkpoint = {"state_dict": dict(module.state_dict()), "callbacks": {}}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return str(path)


@pytest.mark.parametrize("lora", [
    LoraSettings(rank=4, alpha=4.0),
    LoraSettings(rank=4, alpha=7.5),
    LoraSettings(rank=4, alpha=2.0, text_encoder=True),
    LoraSettings(rank=4, alpha=3.0, use_rslora=True),
    LoraSettings(rank=4, alpha=2.0, use_dora=True),
    LoraSettings(rank=4, alpha=4.0, init="pissa"),
    LoraSettings(rank=4, alpha=4.0, init="olora", use_rslora=True),
], ids=["lora", "alpha", "text", "rslora", "dora", "pissa", "olora"])  # fmt: skip
def test_an_exported_lora_gives_the_same_pictures_in_plain_diffusers(tmp_path, lora):
    module = ready(lora=lora)
    ours = predicted(module)
    module.export(tmp_path)
    plain = StableDiffusionPipeline.from_pretrained(base())
    before = drawn(plain)
    plain.load_lora_weights(tmp_path)
    assert_same_pictures(ours, drawn(plain))
    assert (ours.int() - before.int()).abs().max() > 5  # it does something
    if lora.use_dora:
        with pytest.raises(ConfigError, match="DoRA in kohya's files"):
            module.export(tmp_path, "kohya")
        return
    module.export(tmp_path, "kohya")
    plain = StableDiffusionPipeline.from_pretrained(base())
    plain.load_lora_weights(tmp_path / KOHYA_NAME)
    assert_same_pictures(ours, drawn(plain))


def test_the_file_of_a_lora_tells_rank_and_alpha(tmp_path):
    module = ready(lora=LoraSettings(rank=4, alpha=7.5, text_encoder=True))
    module.export(tmp_path)
    module.export(tmp_path, "kohya")
    with safe_open(tmp_path / "pytorch_lora_weights.safetensors", "pt") as file:
        metadata = str(file.metadata())
    assert '"unet.r": 4' in metadata and '"text_encoder.lora_alpha": 7.5' in metadata
    with safe_open(tmp_path / KOHYA_NAME, "pt") as file:
        assert file.metadata()["ss_network_dim"] == "4"
        assert file.metadata()["ss_network_alpha"] == "7.5"
    state = load_file(tmp_path / KOHYA_NAME)
    alphas = [value.item() for name, value in state.items() if name.endswith(".alpha")]
    assert set(alphas) == {7.5}
    starts = {name.split("_layers_")[0] for name in state if "unet" not in name}
    assert starts == {"lora_te_text_model_encoder"}  # as kohya's own of Stable Diffusion 1.5
    assert {value.dtype for value in state.values()} == {torch.float32}


@pytest.mark.parametrize("format", ["diffusers", "kohya"])
def test_a_lora_of_xl_gives_the_same_pictures_in_plain_diffusers(tmp_path, format):
    module = ready(pretrained_model_name_or_path=base_xl(), lora=LoraSettings(**TEXT))
    ours = predicted(module)
    module.export(tmp_path, format)
    plain = DiffusionPipeline.from_pretrained(base_xl())
    plain.load_lora_weights(tmp_path / KOHYA_NAME if format == "kohya" else tmp_path)
    assert_same_pictures(ours, drawn(plain))


def test_a_checkpoint_holds_what_is_trained_and_gives_the_same_pictures(tmp_path):
    module = ready(lora=LoraSettings(rank=1, alpha=2.0, text_encoder=True))
    path = saved(module, tmp_path / "lora.ckpt")
    assert load(tmp_path / "lora.ckpt")["state_dict"].keys() == trained(module).keys()
    unet = sum(p.numel() * p.element_size() for p in module.unet.parameters())
    assert os.path.getsize(path) < 0.15 * unet
    torch.testing.assert_close(predicted(loaded(path)), predicted(module), rtol=0, atol=0)


def test_a_full_training_has_its_random_stack_again(tmp_path):
    module = generator(pretrained_model_name_or_path=None, sizes=SIZES, train="full")
    module.configure_model()
    with torch.no_grad():
        module.unet.conv_out.weight.mul_(2)
    again = loaded(saved(module, tmp_path / "full.ckpt"))
    torch.testing.assert_close(predicted(again), predicted(module), rtol=0, atol=0)


@pytest.mark.parametrize(
    "other",
    [{"rank": 2}, {"target_modules": ("to_q",)}, {"text_encoder": True}, {"use_dora": True}],
)
def test_a_checkpoint_of_another_adapter_is_refused(palms_root, tmp_path, other):
    path = saved(ready(), tmp_path / "last.ckpt")
    module = generator(lora=LoraSettings(**{"rank": 4, "alpha": 4.0, **other}))
    with pytest.raises(CheckpointError, match=r"another model\.lora: \d+ of its weights"):
        module.on_load_checkpoint(torch.load(path, weights_only=True))


def test_what_is_no_checkpoint_of_it_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_generator(str(tmp_path / "none.ckpt"))
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="of something else, not of IdentityGenerator"):
        load_generator(str(tmp_path / "other.ckpt"))


def _fitted(palms_root, tmp_path, **settings) -> str:
    sgd = partial(torch.optim.SGD, lr=1.0)
    callbacks = [WeightEMA(0.5), LastCheckpoint()]
    one = trainer(None, *callbacks, default_root_dir=tmp_path, gradient_clip_val=None)
    one.fit(generator(optimizer=sgd, **settings), palms(palms_root))
    return str(tmp_path / "checkpoints" / "last.ckpt")


def test_the_averages_are_exported_and_the_live_weights_when_asked(palms_root, tmp_path):
    path = _fitted(palms_root, tmp_path)
    checkpoint = load(path)
    live, average = checkpoint["state_dict"], checkpoint["callbacks"]["WeightEMA"]["average"]
    name = next(n for n in live if "lora_B" in n)
    assert not torch.equal(live[name], average[name])
    key = name.replace("lora_B.default", "lora.up")
    for folder, averaged, expected in (("a", True, average), ("b", False, live)):
        export(path, str(tmp_path / folder), averaged=averaged)
        state = load_file(tmp_path / folder / "pytorch_lora_weights.safetensors")
        assert torch.equal(state[key], expected[name])


@pytest.mark.parametrize("half", [False, True])
def test_a_full_training_is_exported_as_a_pipeline(palms_root, tmp_path, half):
    path = _fitted(palms_root, tmp_path, train="full", prediction_type="v_prediction")
    export(path, str(tmp_path / "out"), half=half)
    plain = DiffusionPipeline.from_pretrained(tmp_path / "out")
    assert plain.scheduler.config.prediction_type == "v_prediction"
    ours, theirs = predicted(loaded(path)), drawn(plain.to(torch.float32))
    assert (ours.int() - theirs.int()).abs().max() <= (3 if half else 1)
    stored = load_file(tmp_path / "out/unet/diffusion_pytorch_model.safetensors")
    dtypes = {value.dtype for value in stored.values()}
    assert dtypes == {torch.float16 if half else torch.float32}


def test_an_autoencoder_is_exported_with_its_scale(tmp_path):
    module = PalmAutoencoder(SIZES, SIZE)
    module.latent_sd.fill_(0.25)
    path = saved(module, tmp_path / "vae.ckpt")
    export(path, str(tmp_path / "vae"), half=False)
    vae = AutoencoderKL.from_pretrained(tmp_path / "vae")
    assert vae.config.scaling_factor == 4.0
    image = torch.rand(1, 3, SIZE, SIZE)
    torch.testing.assert_close(vae(image).sample, module.vae(image).sample)
    with_it = generator(pretrained_vae_model_name_or_path=str(tmp_path / "vae"))
    with_it.configure_model()
    assert with_it.pipeline.vae.config.scaling_factor == 4.0
    assert with_it.sample(["a palm"], [1]).shape == (1, 3, SIZE, SIZE)


def test_a_folder_with_files_is_not_written_to(tmp_path):
    path = saved(ready(), tmp_path / "last.ckpt")
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        export(path, str(out))
    assert [p.name for p in out.iterdir()] == ["mine.txt"]
