"""The module around the sampler: settings, batches, what is not finite, and the command line."""

from __future__ import annotations

import csv
from dataclasses import replace

import exemplars
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hand_photographs import hand, write_folder
from pictures import save

from palmforge.callbacks import DeidentificationWriter
from palmforge.data.deidentification.methods import Method
from palmforge.data.deidentification.photographs import Photograph, Preparation, look_at
from palmforge.data.deidentification.segmentation import everything
from palmforge.data.images import read_image
from palmforge.errors import CheckpointError, ConfigError
from palmforge.localization.hand_points import keypoints14_from_21
from palmforge.localization.location import PalmLocation
from palmforge.modules import Deidentifier
from palmforge.modules.exemplar_inpainting import AUTHORS, PAPER, inpaint_with_exemplar

SIDE = exemplars.SIZE


class _Finds:
    def __init__(self, points):
        self.palm = PalmLocation(keypoints14_from_21(points), points, "R", 0.9)

    def locate_all(self, image):
        return [self.palm]


def fresh(**settings) -> Deidentifier:
    own = {"num_inference_steps": 2, "image_size": SIDE, **settings}
    model = Deidentifier(exemplars.saved(), **own)
    model.configure_model()
    return model


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> list[Photograph]:
    root = tmp_path_factory.mktemp("pictures")
    found = []
    for identity in range(3):
        save(root / f"{identity}.png", hand(identity)[0])
        tools = _Finds(hand(identity)[1]), everything
        made = look_at(root, f"{identity}.png", *tools, Preparation(SIDE, ("s", "m"), 2))
        found.append(made)
    return [*found, Photograph("none.png", reason="no hand found")]


def test_presets_are_the_papers_and_single_settings_win():
    assert Deidentifier("x").settings == PAPER
    assert Deidentifier("x", preset="authors").settings == AUTHORS
    changed = Deidentifier("x", preset="authors", alpha=0.3, eta=1.0, fusion="tokens").settings
    assert changed == replace(AUTHORS, alpha=0.3, eta=1.0, fusion="tokens")


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"preset": "mine"}, r"model\.preset"),
        ({"alpha": 2.0}, "alpha"),
        ({"guidance_scale": 0.0}, "guidance_scale"),
        ({"num_inference_steps": 0}, "num_inference_steps"),
        ({"scheduler": "NoScheduler"}, r"model\.scheduler"),
        ({"scheduler": "AutoencoderKL"}, r"model\.scheduler"),
        ({"image_size": 30}, r"data\.image_size: 30"),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, what):
    with pytest.raises(ConfigError, match=what):
        fresh(**settings)


def test_it_trains_nothing_and_takes_no_checkpoint_of_ours():
    model = fresh(scheduler="DDIMScheduler")
    assert type(model.parts.scheduler).__name__ == "DDIMScheduler"
    assert not any(p.requires_grad for p in model.parts.unet.parameters())
    assert not model.parts.unet.training and list(model.parameters()) == []
    with pytest.raises(ConfigError, match="nothing to train"):
        model.load_pretrained(resuming=False)
    with pytest.raises(CheckpointError, match="pretrained_model_name_or_path"):
        model.on_load_checkpoint({})


def test_a_group_comes_out_as_it_went_in_whatever_the_size_of_its_batches(photographs):
    model = fresh()
    found = model.predict_step({"photographs": photographs, "batch_size": 4}, 0)
    assert found["photographs"] == photographs
    assert [[len(v) for v in hands] for hands in found["repainted"]] == [[2], [2], [2], []]
    one = model.predict_step({"photographs": photographs[1:2], "batch_size": 1}, 0)
    for variant in range(2):
        alone, together = one["repainted"][0][0][variant], found["repainted"][1][0][variant]
        assert alone.dtype == torch.uint8 and alone.shape == (3, SIDE, SIDE)
        assert (alone.int() - together.int()).abs().max() <= 1  # other kernels, other roundings
    first, second = found["repainted"][0][0]
    assert (first != second).float().mean() > 0.05


def test_a_group_without_a_hand_asks_the_model_nothing(photographs):
    found = fresh().predict_step({"photographs": photographs[3:], "batch_size": 4}, 0)
    assert found["repainted"] == [[]]


def test_it_is_the_sampler_with_the_hands_exemplars(photographs):
    model, hand_ = fresh(alpha=0.4), photographs[0].hands[0]
    (made,) = model.repaint([hand_], hand_.seeds[:1])
    parts = exemplars.model()
    wanted = inpaint_with_exemplar(
        parts, hand_.image[None], hand_.mask[None], parts.embed(hand_.exemplars[None]),
        hand_.seeds[:1], replace(PAPER, num_inference_steps=2, alpha=0.4),
    )  # fmt: skip
    assert torch.equal(made, wanted[0].mul(255).round().to(torch.uint8))


def test_what_is_not_finite_is_none_and_the_others_are_not(photographs, monkeypatch):
    def broken(parts, images, *others):
        found = torch.full(images.shape, 0.5)
        found[1, 0, 3, 3] = torch.nan
        return found

    monkeypatch.setattr("palmforge.modules.deidentifier.inpaint_with_exemplar", broken)
    found = fresh().predict_step({"photographs": photographs[:2], "batch_size": 4}, 0)
    first, second = found["repainted"]
    assert first[0][1] is None and first[0][0] is not None
    assert None not in second[0]


def command(root, out, *more):
    return (
        "predict", "--config=configs/experiment/deidentify.yaml", f"--data.images={root}",
        f"--data.out={out}", f"--model.pretrained_model_name_or_path={exemplars.saved()}",
        f"--data.image_size={SIDE}", "--model.num_inference_steps=1", "--data.num_workers=0",
        "--data.batch_size=3", "--trainer.accelerator=cpu", "--trainer.logger=false",
        "--trainer.enable_progress_bar=false", *more,
    )  # fmt: skip


def test_one_command_deidentifies_a_folder(cli, tmp_path):
    root, out = write_folder(tmp_path / "in"), tmp_path / "out"
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    cli(*command(root, out, "--trainer.precision=bf16-mixed", "--data.variants=2"))
    rows = pq.read_table(out / "manifest.parquet").to_pylist()
    assert [len(row["hands"]) for row in rows] == [1] * 8 + [2, 2]
    for row in rows:
        original, made = read_image(root / row["source"])[0], read_image(out / row["file"])[0]
        assert 0 < (original != made).any(-1).mean() < 0.3
    with (out / "problems.csv").open() as file:
        left_out = {row["source"] for row in csv.DictReader(file) if row["left_out"] == "yes"}
    assert left_out == {"bad.jpg", "none.png", "notes.txt"}
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    tables = {"manifest.parquet", "problems.csv", "deidentification.json"}
    assert written == tables | {row["file"] for row in rows}


def test_half_precision_that_would_sample_in_half_is_refused(cli, tmp_path):
    save(tmp_path / "in/a.png", np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ConfigError, match=r"trainer\.precision: bf16-true"):
        cli(*command(tmp_path / "in", tmp_path / "out", "--trainer.precision=bf16-true"))


def test_the_writer_says_whose_data_it_is(tmp_path):
    for settings in ({"jpeg_quality": 0}, {"feather": 0.5}):
        with pytest.raises(ConfigError, match="DeidentificationWriter"):
            DeidentificationWriter(str(tmp_path), **settings)


def test_each_method_of_a_test_has_its_own_exemplars_and_alpha(tmp_path):
    for identity in range(2):
        save(tmp_path / f"{identity}.png", hand(identity)[0])
    everything_cut = Preparation(SIDE, ("s", "m", "f"), 2)
    found = [
        look_at(tmp_path, f"{n}.png", _Finds(hand(n)[1]), everything, everything_cut)
        for n in range(2)
    ]
    own = {
        "ours": Method(), "s": Method(exemplars=["s"], alpha=0.0),
        "m+f": Method(exemplars=["m", "f"]), "black": Method(baseline="masking"),
    }  # fmt: skip
    model = fresh(methods=own)
    nobody = Photograph("none.png", reason="no hand found")
    batch = {
        "photographs": [found[0], nobody, found[1]], "batch_size": 8, "exemplars": ["s", "m"]
    }  # fmt: skip
    made = model.test_step(batch, 0)
    assert list(made["repainted"]) == ["ours", "s", "m+f"]  # a baseline needs no model
    assert [len(one) for one in made["repainted"]["ours"]] == [2, 0, 2]
    assert [len(one) for one in made["repainted"]["s"]] == [1, 0, 1]
    hands = [found[0].hands[0], found[1].hands[0]]
    shown = {"ours": [0, 1], "s": [0], "m+f": [1, 2]}
    for name, rows in shown.items():
        chosen = [replace(one, exemplars=one.exemplars[rows]) for one in hands]
        expected = model.repaint(chosen, [one.seeds[0] for one in hands], own[name].alpha)
        for got, want in zip(
            (made["repainted"][name][i][0] for i in (0, 2)), expected, strict=True
        ):
            assert (got.int() - want.int()).abs().max() <= 1  # another batch
    fused = model.parts.embed(torch.stack([hands[0].exemplars[:2]])).mean(1)[0]
    torch.testing.assert_close(made["embeddings"][0], fused, rtol=1e-4, atol=1e-5)
    assert made["embeddings"][1] is None
