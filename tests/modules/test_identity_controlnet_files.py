"""What the ControlNet writes: plain diffusers, checkpoints, a LoRA merged."""

from __future__ import annotations

import pytest
import torch
from controlnets import batch, controlnet, ready, references
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from generators import SIZE, base, trained
from generators import ready as generator
from runs import load
from safetensors.torch import load_file

from palmforge.commands.generator_export import export
from palmforge.errors import CheckpointError
from palmforge.modules.identity_controlnet import load_controlnet
from palmforge.networks.lora import LoraSettings

PROMPTS, SEEDS = ["a left palm", "a right palm, flash"], [3, 4]
PALMS = references(2)
TOKENS = {"conditions": ("lines", "embedding"), "num_tokens": 2, "similarity_weight": 0.05}


def assert_same_pictures(one: torch.Tensor, other: torch.Tensor) -> None:
    assert one.shape == other.shape == (2, 3, SIZE, SIZE)
    assert (one.int() - other.int()).abs().max() <= 1


def drawn(module, folder, lora: str | None = None) -> torch.Tensor:
    """What plain diffusers makes of the same words, seeds and control."""
    plain = StableDiffusionControlNetPipeline.from_pretrained(
        base(), controlnet=ControlNetModel.from_pretrained(folder)
    )
    if lora is not None:
        plain.load_lora_weights(lora)
    plain.set_progress_bar_config(disable=True)
    images = plain(
        PROMPTS, image=module.conditions.control(PALMS), negative_prompt=["", ""], height=SIZE,
        width=SIZE, num_inference_steps=2, guidance_scale=2.0, output_type="pt",
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
    ).images  # fmt: skip
    return (images * 255).round().to(torch.uint8)


@pytest.mark.parametrize("conditions", [("lines",), ("reference",), ("lines", "reference")])
def test_plain_diffusers_makes_the_same_pictures(tmp_path, conditions):
    module = ready(conditions=conditions)
    ours = module.sample(PROMPTS, SEEDS, PALMS)
    module.export(tmp_path)
    assert_same_pictures(ours, drawn(module, tmp_path))
    others = module.sample(PROMPTS, SEEDS, PALMS.flip(0))
    assert (ours.int() - others.int()).abs().max() > 5  # the palm is seen


@pytest.mark.parametrize("text", [False, True])
def test_a_merged_lora_makes_the_pictures_of_a_loaded_one(tmp_path, text):
    generator(lora=LoraSettings(rank=4, alpha=4.0, text_encoder=text)).export(tmp_path / "lora")
    lora = str(tmp_path / "lora")
    module = ready(lora=lora)
    assert not any("lora" in name for name, _ in module.named_parameters())
    ours = module.sample(PROMPTS, SEEDS, PALMS)
    module.export(tmp_path / "controlnet")
    assert_same_pictures(ours, drawn(module, tmp_path / "controlnet", lora))
    without = drawn(module, tmp_path / "controlnet")
    assert (ours.int() - without.int()).abs().max() > 5  # it does something


def test_the_controlnet_begins_as_the_encoder_with_the_lora_and_says_nothing(tmp_path):
    generator().export(tmp_path)
    module = controlnet(lora=str(tmp_path))
    module.configure_model()
    unet = module.unet.state_dict()
    for name, weight in module.controlnet.down_blocks.state_dict().items():
        assert torch.equal(weight, unet[f"down_blocks.{name}"])
    told = module._told(module.encoded(batch()))
    noisy, steps = torch.randn(2, 4, 8, 8), torch.tensor([5, 500])
    alone = module.unet(noisy, steps, told["prompt_embeds"]).sample
    torch.testing.assert_close(module._predictor(told)(noisy, steps), alone, rtol=0, atol=0)


def test_it_can_begin_with_an_exported_one(tmp_path):
    module = ready(conditions=("lines", "reference"))
    module.export(tmp_path)
    begun = controlnet(
        controlnet=str(tmp_path), conditions=("lines", "reference"), similarity_weight=0.1
    )
    begun.configure_model()
    for name, weight in module.controlnet.state_dict().items():
        assert torch.equal(weight, begun.controlnet.state_dict()[name])
    with pytest.raises(CheckpointError, match=r"model\.controlnet: .* no ControlNet of these"):
        controlnet(controlnet=str(tmp_path), conditions=("lines",)).configure_model()
    with pytest.raises(CheckpointError, match=r"model\.controlnet: .*none"):
        controlnet(controlnet=str(tmp_path / "none")).configure_model()


def test_an_exported_one_with_a_dial_is_the_one_that_was_exported(tmp_path):
    module = ready(**TOKENS, line_mode="binary", guidance_scale=4.0)
    module.export(tmp_path)
    again = load_controlnet(str(tmp_path))
    assert again.has_dial and again.line_mode == "binary" and again.guidance_scale == 4.0
    ours = module.sample(PROMPTS, SEEDS, PALMS, similarity=0.2)
    assert torch.equal(ours, again.sample(PROMPTS, SEEDS, PALMS, similarity=0.2))
    (tmp_path / "identity.json").unlink()
    with pytest.raises(CheckpointError, match=r"no identity\.json of `train\.py generator export`"):
        load_controlnet(str(tmp_path))


def test_it_is_exported_in_half(tmp_path):
    ready().export(tmp_path, half=True)
    stored = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.float16}


def test_a_folder_that_is_no_lora_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.lora: no folder.*generator export CKPT"):
        controlnet(lora=str(tmp_path / "none")).configure_model()
    with pytest.raises(CheckpointError, match=r"model\.lora: .* is no LoRA of this model"):
        controlnet(lora=str(tmp_path)).configure_model()


def saved(module, path) -> str:
    """As Lightning saves it."""
    checkpoint = {"state_dict": dict(module.state_dict()), "callbacks": {}}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return str(path)


@pytest.mark.parametrize("settings", [
    {"conditions": ("lines", "reference"), "line_mode": "binary"}, TOKENS,
    {"scheduler": "DDIMScheduler", "eta": 1.0, "shared_steps": 1, "control_guidance_scale": 1.5},
], ids=["pictures", "tokens", "sampling"])  # fmt: skip
def test_a_checkpoint_holds_what_is_trained_and_gives_the_same_pictures(tmp_path, settings):
    module = ready(**settings)
    path = saved(module, tmp_path / "one.ckpt")
    names = load(tmp_path / "one.ckpt")["state_dict"].keys()
    assert names == trained(module).keys()
    parts = {name.split(".")[0] for name in names}
    assert parts == {"controlnet"} | ({"conditions"} if settings is TOKENS else set())
    again = load_controlnet(path)
    assert not again.training
    torch.testing.assert_close(
        again.sample(PROMPTS, SEEDS, PALMS, [5, 5]), module.sample(PROMPTS, SEEDS, PALMS, [5, 5]),
        rtol=0, atol=0,
    )  # fmt: skip


def test_the_command_writes_what_plain_diffusers_draws_with(tmp_path):
    module = ready()
    export(saved(module, tmp_path / "one.ckpt"), str(tmp_path / "out"), half=False)
    assert_same_pictures(drawn(module, tmp_path / "out"), module.sample(PROMPTS, SEEDS, PALMS))


@pytest.mark.parametrize("other", [{"conditions": ("lines", "reference")}, TOKENS])
def test_a_checkpoint_of_other_conditions_is_refused(tmp_path, other):
    path = saved(ready(), tmp_path / "one.ckpt")
    with pytest.raises(CheckpointError, match=r"of another model.*\d+ of its weights differ"):
        controlnet(**other).on_load_checkpoint(torch.load(path, weights_only=True))


def test_what_is_no_checkpoint_of_it_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_controlnet(str(tmp_path / "none.ckpt"))
    with pytest.raises(CheckpointError, match="of IdentityGenerator, not of IdentityControlNet"):
        load_controlnet(saved(generator(), tmp_path / "other.ckpt"))


def test_one_with_a_dial_is_not_taken_for_one_without(tmp_path):
    ready(conditions=("lines",), similarity_weight=0.05).export(tmp_path)
    with pytest.raises(CheckpointError, match=r"was trained with a dial .* keeps no palm without"):
        controlnet(controlnet=str(tmp_path), conditions=("lines",)).configure_model()
