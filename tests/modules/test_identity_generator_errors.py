"""What cannot be built or trained is refused before anything is computed, and says what to do."""

from __future__ import annotations

import shutil
import warnings

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from generators import SIZE, base, generator, trainer
from transformers import CLIPTextConfig, CLIPTextModel

from palmforge.errors import CheckpointError, ConfigError
from palmforge.networks.lora import LoraSettings


def refused(error, match: str, **settings) -> None:
    with pytest.raises(error, match=match):
        generator(**settings).load_pretrained(resuming=False)


def test_an_unknown_model_without_a_network_says_how_to_give_a_folder():
    refused(
        CheckpointError,
        r"pretrained_model_name_or_path: 'someone/some-model'.*`hf download someone/some-model "
        r"--local-dir DIR`.*give DIR",
        pretrained_model_name_or_path="someone/some-model",
    )


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_weights_that_are_pickles_are_refused(tmp_path, part):
    folder = tmp_path / "base"
    shutil.copytree(base(), folder)
    weights = folder / part / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    refused(
        CheckpointError,
        r"cannot be read.*must be safetensors",
        pretrained_model_name_or_path=str(folder),
    )


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path):
    (tmp_path / "model_index.json").write_text("{")
    refused(CheckpointError, "cannot be read", pretrained_model_name_or_path=str(tmp_path))
    (tmp_path / "model_index.json").unlink()
    refused(CheckpointError, "cannot be read", pretrained_model_name_or_path=str(tmp_path))


def test_an_autoencoder_of_another_model_is_refused(tmp_path):
    AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=8, latent_channels=6,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).save_pretrained(tmp_path)  # fmt: skip
    refused(
        CheckpointError,
        "autoencoder gives 6 latent channels, the UNet takes 4",
        pretrained_vae_model_name_or_path=str(tmp_path),
    )


def test_a_text_encoder_of_another_model_is_refused(tmp_path):
    parts = StableDiffusionPipeline.from_pretrained(base()).components
    config = parts["text_encoder"].config.to_dict() | {"hidden_size": 64}
    parts["text_encoder"] = CLIPTextModel(CLIPTextConfig(**config))
    StableDiffusionPipeline(**parts).save_pretrained(tmp_path)
    refused(
        CheckpointError,
        "text encoder gives 64 numbers a token, the UNet takes 32",
        pretrained_model_name_or_path=str(tmp_path),
    )


@pytest.mark.parametrize("name", ["NoSuchScheduler", "UNet2DConditionModel"])
def test_an_unknown_scheduler_is_refused(name):
    refused(ConfigError, rf"model\.scheduler: diffusers has no scheduler '{name}'", scheduler=name)


@pytest.mark.parametrize("size", [SIZE + 2, SIZE + 4])
def test_a_size_that_cannot_be_halved_is_refused_with_one_that_can(size):
    refused(ConfigError, rf"data\.image_size: {size} pixels.*multiple of 8", image_size=size)


def test_an_objective_that_cannot_be_trained_is_refused():
    refused(
        ConfigError, "zero-terminal-SNR schedule and epsilon",
        prediction_type="epsilon", zero_terminal_snr=True,
    )  # fmt: skip
    refused(ConfigError, r"model\.prediction_type: 'flow'", prediction_type="flow")


def test_a_sampler_that_cannot_begin_with_pure_noise_is_refused():
    refused(
        ConfigError, r"zero_terminal_snr: PNDMScheduler.*DDIMScheduler",
        prediction_type="v_prediction", zero_terminal_snr=True, scheduler="PNDMScheduler",
    )  # fmt: skip


def test_names_of_layers_that_are_not_there_are_refused():
    lora = LoraSettings(target_modules=("query",))
    refused(ConfigError, r"model\.lora\.target_modules.*called query", lora=lora)
    lora = LoraSettings(text_encoder=True, text_encoder_modules=("to_q",))
    refused(ConfigError, r"model\.lora\.text_encoder_modules.*called to_q", lora=lora)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_a_precision_that_would_change_the_adapters_is_refused(precision):
    module = generator()
    module.trainer = trainer(None, precision=precision)
    with pytest.raises(ConfigError, match=rf"trainer\.precision: {precision}.*bf16-mixed"):
        module.configure_model()


def test_words_beyond_the_tokenizer_are_told_once_and_counted():
    module = generator()
    module.configure_model()
    long = "a palm " * 40
    with pytest.warns(UserWarning, match="more than the 40 tokens that the text encoder reads"):
        cut = module.encoders.prompts([long, "a palm"], torch.device("cpu"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.encoders.prompts([long, long], torch.device("cpu"))
    assert module.encoders.num_cut_prompts == 3
    assert cut["prompt_embeds"].shape == (2, 40, 32)


def test_it_is_built_once_however_often_lightning_configures_it():
    module = generator()
    module.configure_model()
    pipeline, adapters = module.pipeline, [n for n, _ in module.named_parameters() if "lora" in n]
    module.configure_model()
    assert module.pipeline is pipeline
    assert [n for n, _ in module.named_parameters() if "lora" in n] == adapters
