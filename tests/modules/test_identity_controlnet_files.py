"""What the ControlNet writes: plain diffusers, checkpoints, a LoRA merged."""

from __future__ import annotations

import re
import warnings

import pytest
import torch
from conftest import ROOT
from controlnets import batch, controlnet, ready, references
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from generators import SIZE, base, trained, trainer
from generators import ready as generator
from PIL import Image
from runs import load
from safetensors.torch import load_file

from palmforge.commands.generator_export import export
from palmforge.data.digests import checkpoint_digest
from palmforge.data.synthetic.render import render_roi
from palmforge.errors import CheckpointError, ConfigError
from palmforge.modules.controlnet_files import PRETRAINED_PATH
from palmforge.modules.identity_controlnet import IdentityControlNet, load_controlnet
from palmforge.modules.identity_generator import IdentityGenerator
from palmforge.modules.stable_diffusion import EMBEDDED_PATH
from palmforge.networks.lora import LoraSettings
from palmforge.recognition.weights import EMBEDDED

DOCS = ROOT / "docs" / "captures.md"

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


def test_digests_are_of_the_weights_that_are_named(tmp_path):
    generator().export(tmp_path / "lora")
    ready(**TOKENS).export(tmp_path / "controlnet")
    named = {"lora": str(tmp_path / "lora"), "controlnet": str(tmp_path / "controlnet")}
    before = controlnet(**named, **TOKENS).digests()
    names = {"pretrained_model", "controlnet", "lora", "recogniser"}
    assert before.keys() == {f"{name}_sha256" for name in names}
    assert before["controlnet_sha256"] == checkpoint_digest(tmp_path / "controlnet")
    assert before["pretrained_model_sha256"] == checkpoint_digest(base())
    assert before["recogniser_sha256"] == checkpoint_digest(EMBEDDED["synthetic-only"])
    ready(**TOKENS, eta=1.0).export(tmp_path / "controlnet")  # another one under the same path
    after = controlnet(**named, **TOKENS).digests()
    assert {name for name in before if before[name] != after[name]} == {"controlnet_sha256"}
    packaged = controlnet(
        pretrained_model_name_or_path="embedded", controlnet="pretrained", similarity_weight=0.1
    ).digests()
    assert packaged["controlnet_sha256"] == checkpoint_digest(PRETRAINED_PATH)
    assert packaged["pretrained_model_sha256"] == checkpoint_digest(EMBEDDED_PATH)
    assert IdentityGenerator(None).digests() == {"pretrained_model_sha256": None}


def test_one_of_another_size_is_told_and_that_of_the_package_refused(tmp_path):
    ready().export(tmp_path)
    for size, told in ((2 * SIZE, True), (SIZE, False)):
        module = controlnet(controlnet=str(tmp_path), image_size=size)
        module.trainer = trainer(None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module.on_predict_start()
        words = f"data.image_size: {size}, but model.controlnet={tmp_path} was trained for {SIZE}"
        assert any(words in str(one.message) for one in caught) == told
    packaged = IdentityControlNet(controlnet="pretrained", image_size=128)
    packaged.trainer = trainer(None)
    with pytest.raises(ConfigError, match=r"image_size: 128, .*=pretrained was trained for 64 pix"):
        packaged.on_predict_start()


def test_a_checkpoint_for_another_size_is_told_where_it_predicts(tmp_path):
    checkpoint = load(saved(ready(), tmp_path / "one.ckpt"))
    module = controlnet(image_size=2 * SIZE)
    module.trainer = trainer(None)
    module.trainer.predicting = True
    with pytest.warns(UserWarning, match=f"image_size: {2 * SIZE}, .* trained for {SIZE} pixels"):
        module.on_load_checkpoint(checkpoint)


def test_the_lines_of_the_docs_feed_plain_diffusers(tmp_path, monkeypatch):
    lines = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = (block for block in lines if "StableDiffusionControlNetPipeline" in block)
    module = ready(
        pretrained_model_name_or_path="embedded", image_size=64, conditions=("lines", "reference")
    )
    export(saved(module, tmp_path / "one.ckpt"), str(tmp_path / "controlnet"))
    Image.fromarray(render_roi(1, 1, "IN", 64, seed=5)[0]).save(tmp_path / "palm.png")
    monkeypatch.chdir(tmp_path)
    told: dict = {}
    exec(example, told)
    assert told["hint"].shape == (1, 6, 64, 64)
    assert torch.equal(told["hint"], module.conditions.control(told["palm"]))
    assert told["capture"].size == (64, 64)


def test_pretrained_is_not_exported_but_named(tmp_path):
    with pytest.raises(ConfigError, match="pretrained is in diffusers' layout already") as error:
        export("pretrained", str(tmp_path / "out"))
    for folder in (PRETRAINED_PATH, EMBEDDED_PATH):
        assert str(folder) in str(error.value)
    assert not (tmp_path / "out").exists()


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
