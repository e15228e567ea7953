"""The published layout, old and new: read part by part, in full, and without running anything."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from exemplars import (
    SIZES,
    as_published,
    copied,
    fresh,
    masks,
    model,
    pictures,
    pipeline,
    rewritten,
    saved,
)
from safetensors.torch import load_file, save_file
from torch.nn.functional import avg_pool2d

from palmforge.data.deidentification.crops import crop_box, cut, resized, resized_mask
from palmforge.data.deidentification.exemplars import cut_exemplars
from palmforge.data.deidentification.segmentation import palm_mask, skeleton
from palmforge.data.synthetic.render import render_palm
from palmforge.errors import CheckpointError, ConfigError
from palmforge.modules.exemplar_inpainting import InpaintingSettings, inpaint_with_exemplar
from palmforge.modules.paint_by_example import (
    EMBEDDED,
    EMBEDDED_PATH,
    PARTS,
    load_paint_by_example,
    save_paint_by_example,
)

NETWORKS = ("unet", "vae", "image_encoder")


def outcome(parts) -> torch.Tensor:
    """Of all parts together."""
    embeddings = parts.embed(pictures(2, 50, 50)[None])
    settings = InpaintingSettings(num_inference_steps=2)
    return inpaint_with_exemplar(parts, pictures(), masks(), embeddings, [1], settings)


# --- what is read ---


def test_what_was_saved_is_loaded_to_the_bit():
    before, after = fresh(), load_paint_by_example(saved())
    for part in NETWORKS:
        one, two = (getattr(parts, part).state_dict() for parts in (before, after))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert torch.equal(outcome(before), outcome(after))
    networks = [getattr(after, part) for part in NETWORKS]
    assert not any(network.training for network in networks)
    assert not any(weight.requires_grad for network in networks for weight in network.parameters())
    assert not list(Path(saved()).rglob("*.bin"))


def test_the_published_layout_gives_the_same(tmp_path):
    """Pickled weights, names of 2022, a feature extractor of a class that is gone, a checker."""
    found = load_paint_by_example(str(as_published(tmp_path / "hub")))
    torch.testing.assert_close(outcome(found), outcome(model()), rtol=0, atol=1e-6)


def test_what_diffusers_writes_today_gives_the_same(tmp_path):
    """And its index names what diffusers itself cannot find: else there were no need for us."""
    from diffusers import PaintByExamplePipeline

    pipeline().save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["image_encoder"] == ["diffusers", "PaintByExampleImageEncoder"]
    with pytest.raises((AttributeError, ValueError), match="PaintByExampleImageEncoder"):
        PaintByExamplePipeline.from_pretrained(tmp_path)
    found = load_paint_by_example(str(tmp_path))
    assert torch.equal(outcome(found), outcome(model()))


def test_it_is_read_without_the_deprecated_part_of_diffusers(monkeypatch):
    for name in ("", ".image_encoder", ".pipeline_paint_by_example"):
        gone = f"diffusers.pipelines.deprecated.paint_by_example{name}"
        monkeypatch.setitem(sys.modules, gone, None)  # to import it is an ImportError
    assert torch.equal(outcome(load_paint_by_example(saved())), outcome(model()))


def test_the_hubs_cache_is_read_without_a_network(tmp_path, monkeypatch):
    from huggingface_hub import constants

    repository = tmp_path / "models--someone--paint"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("f" * 40)
    as_published(repository / "snapshots" / ("f" * 40))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = load_paint_by_example("someone/paint")
    torch.testing.assert_close(outcome(found), outcome(model()), rtol=0, atol=1e-6)


def test_pickles_are_asked_of_the_hub_only_where_there_is_nothing_else(tmp_path, monkeypatch):
    asked: list[list[str]] = []
    places = iter([copied(tmp_path / "safe"), *[as_published(tmp_path / "old")] * 2])

    def download(name, revision, allow_patterns):
        assert (name, revision) == ("someone/paint", "fp16")
        asked.append(allow_patterns)
        return str(next(places))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    load_paint_by_example("someone/paint", "fp16")
    assert len(asked) == 1 and not any(".bin" in pattern for pattern in asked[0])
    load_paint_by_example("someone/paint", "fp16")
    assert len(asked) == 3 and "unet/*model.bin" in asked[2]
    assert not any("safety_checker" in pattern for patterns in asked for pattern in patterns)


def test_parts_go_to_a_device_together_and_keep_the_autoencoder_exact():
    parts = fresh().to("cpu", torch.bfloat16)
    assert [getattr(parts, n).dtype for n in NETWORKS] == [
        torch.bfloat16, torch.float32, torch.bfloat16,
    ]  # fmt: skip
    assert fresh().to("cpu").unet.dtype == torch.float32
    assert parts.vae_scale_factor == 4 and parts.device == torch.device("cpu")
    assert parts.embed(pictures(6).view(2, 3, 3, 32, 32)).shape == (2, 3, SIZES.embedding_dim)


# --- what is refused ---


def refused(folder: Path, match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        load_paint_by_example(str(folder))


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_named(tmp_path, part):
    shutil.rmtree(copied(tmp_path / "cut") / part)
    refused(tmp_path / "cut", rf"lacks '{part}'.*there must be unet, vae")


@pytest.mark.parametrize("part", ["unet", "scheduler", "feature_extractor"])
def test_an_empty_part_is_named(tmp_path, part):
    shutil.rmtree(copied(tmp_path / "cut") / part)
    (tmp_path / "cut" / part).mkdir()
    refused(tmp_path / "cut", rf"cut/{part}.* cannot be read")


@pytest.mark.parametrize(
    ("part", "how"), [("unet", "gone"), ("vae", "damaged"), ("image_encoder", "damaged")]
)
def test_weights_that_are_gone_or_damaged_are_named(tmp_path, part, how):
    (file,) = (copied(tmp_path / "cut") / part).glob("*.safetensors")
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:1000])
    refused(tmp_path / "cut", rf"cut/{part} cannot be read .*\. Weights must be safetensors")


class Sabotage:
    """Runs when it is unpickled by whoever does not take care."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (self.trace,)


@pytest.mark.parametrize("part", NETWORKS)
def test_nothing_in_a_pickle_is_run(tmp_path, part):
    folder = as_published(tmp_path / "hub")
    (file,) = (folder / part).glob("*.bin")
    trace = tmp_path / "it ran"
    state = {**torch.load(file, weights_only=True), "extra": Sabotage(str(trace))}
    torch.save(state, file)
    refused(folder, rf"hub/{part} cannot be read .*no code in a file is ever run")
    assert not trace.exists()


@pytest.mark.parametrize("part", NETWORKS)
def test_a_weight_that_the_file_lacks_is_not_made_up(tmp_path, part):
    (file,) = (copied(tmp_path / "cut") / part).glob("*.safetensors")
    state = load_file(file)
    name = max(state)
    save_file({key: value for key, value in state.items() if key != name}, file, {"format": "pt"})
    refused(tmp_path / "cut", rf"cut/{part}: 1 weights are missing .*such as {name}")


@pytest.mark.parametrize("part", ["unet", "image_encoder"])
def test_a_weight_of_another_size_is_named(tmp_path, part):
    (file,) = (copied(tmp_path / "cut") / part).glob("*.safetensors")
    state = load_file(file)
    name = max(name for name, value in state.items() if value.ndim == 1)
    save_file({**state, name: torch.zeros(5)}, file, {"format": "pt"})
    refused(tmp_path / "cut", rf"cut/{part}: 0 weights are missing and 1 of another.*{name}")


def test_a_plain_clip_is_no_image_encoder(tmp_path):
    folder = copied(tmp_path / "clip") / "image_encoder"
    shutil.rmtree(folder)
    fresh().image_encoder.model.save_pretrained(folder)
    refused(tmp_path / "clip", r"image_encoder: \d+ weights are missing")


def test_weights_that_nobody_uses_are_told(tmp_path):
    (file,) = (copied(tmp_path / "more") / "image_encoder").glob("*.safetensors")
    save_file({**load_file(file), "head.weight": torch.zeros(2)}, file, {"format": "pt"})
    with pytest.warns(UserWarning, match=r"image_encoder: 1 weights are not used.*head.weight"):
        load_paint_by_example(str(tmp_path / "more"))


def test_a_unet_of_four_channels_is_refused(tmp_path):
    from diffusers import UNet2DConditionModel

    folder = copied(tmp_path / "words") / "unet"
    config = {**model().unet.config, "in_channels": 4}
    UNet2DConditionModel.from_config(config).save_pretrained(folder)
    refused(tmp_path / "words", "unet takes 4 channels, not 9.* It is no Paint-by-Example")


@pytest.mark.parametrize(
    ("file", "changes", "match"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, "a StableDiffusionPipel"),
        ("model_index.json", {"_class_name": None}, "holds a None, not a PaintByExamplePipeline"),
        ("scheduler/scheduler_config.json", {"_class_name": "AutoencoderKL"}, "no scheduler 'Auto"),
        ("scheduler/scheduler_config.json", {"_class_name": "None_"}, "no scheduler 'None_'"),
        ("scheduler/scheduler_config.json", {"_class_name": None}, "config.json cannot be read"),
        (
            "feature_extractor/preprocessor_config.json",
            {"crop_size": {"height": 16, "width": 16}},
            "gives 16 × 16 pixels, the image encoder reads 32 × 32",
        ),
    ],
)
def test_parts_of_another_model_are_refused(tmp_path, file, changes, match):
    rewritten(copied(tmp_path / "other") / file, **changes)
    refused(tmp_path / "other", match)


def test_an_encoder_of_another_width_is_refused(tmp_path):
    from dataclasses import replace

    from palmforge.networks.paint_by_example import tiny_components

    folder = copied(tmp_path / "wide") / "image_encoder"
    shutil.rmtree(folder)
    tiny_components(replace(SIZES, embedding_dim=64), 32)["image_encoder"].save_pretrained(folder)
    refused(tmp_path / "wide", "gives 64 numbers an exemplar, the UNet takes 32")


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_folder_without_an_index_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "model_index.json").write_text(text)
    refused(tmp_path, "no readable model_index.json|holds a None")


def test_a_name_that_is_not_there_says_how_to_come_by_it():
    with pytest.raises(CheckpointError, match=r"hf download nobody/nothing --local-dir DIR"):
        load_paint_by_example("nobody/nothing")
    with pytest.raises(CheckpointError, match="is not a folder here"):
        load_paint_by_example("/nowhere/at/all")


# --- what is written ---


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"not empty. Give a new folder"):
        save_paint_by_example(model(), str(tmp_path))
    with pytest.raises(ConfigError, match="is there and not empty"):
        save_paint_by_example(model(), str(tmp_path / "mine.txt"))
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_half_a_model_cannot_be_loaded(tmp_path, monkeypatch):
    """The index comes last."""
    monkeypatch.setattr(type(model().feature_extractor), "save_pretrained", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_paint_by_example(model(), str(tmp_path / "half"))
    assert (tmp_path / "half" / "unet").is_dir()
    refused(tmp_path / "half", "no readable model_index.json")


def test_the_small_one_of_the_package_hides_a_palm_under_skin():
    size = sum(file.stat().st_size for file in EMBEDDED_PATH.rglob("*") if file.is_file())
    assert size <= 16 * 2**20
    parts = load_paint_by_example(EMBEDDED)
    image, truth = render_palm(3, 1, "IN", 384, 77)
    box = crop_box(truth.keypoints21, "palm", 0.35)
    crop = cut(image, box)
    shape = palm_mask(crop, truth.keypoints21 - [box.left, box.top], skeleton, True, 0.0)
    shown = torch.from_numpy(resized(crop, 128)).permute(2, 0, 1)[None]
    hidden = torch.from_numpy(resized_mask(shape, 128))[None, None]
    exemplars = torch.from_numpy(cut_exemplars(image, truth.keypoints21, ("s", "m")))
    result = inpaint_with_exemplar(
        parts, shown, hidden, parts.embed(exemplars.permute(0, 3, 1, 2)[None]), [0],
        InpaintingSettings(num_inference_steps=8, guidance_scale=1.0),
    )  # fmt: skip
    within = hidden.expand_as(shown)
    after, before = (255 * result)[within], shown.float()[within]
    assert (before.mean() - after.mean()).abs() < 25  # skin, as it is around
    lines = [fine(picture)[within] for picture in (shown / 255, result)]
    assert torch.corrcoef(torch.stack(lines))[0, 1] < 0.3


def fine(pictures: torch.Tensor) -> torch.Tensor:
    """What is finer than some pixels."""
    return pictures - avg_pool2d(pictures, 9, 1, 4, count_include_pad=False)
