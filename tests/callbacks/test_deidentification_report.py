"""What the tables say of methods whose effect is known, and how a test goes on."""

from __future__ import annotations

import json
from dataclasses import replace

import lightning as L
import numpy as np
import pytest
import torch
from factories import content
from hands import write_hands
from PIL import Image

from palmforge.callbacks import DeidentificationReport
from palmforge.data.deidentification.datamodule import DeidentificationDataModule
from palmforge.data.deidentification.methods import Method
from palmforge.errors import ConfigError, DataError
from palmforge.modules.deidentification_attack import AttackSettings

SIDE = 64
METHODS = {
    "noise": Method(),
    "nothing": Method(alpha=1.0),
    "masking": Method(baseline="masking"),
}


class Painter(L.LightningModule):
    """`noise` paints noise of the seed, `nothing` the hand itself."""

    methods = METHODS

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.provenance = {"model": "m", "alpha": 0.1}
        self.fail_at = fail_at
        self.made: list[str] = []

    def digests(self):
        return {"model_sha256": None}

    def test_step(self, batch, batch_idx):
        if batch_idx == self.fail_at:
            raise RuntimeError("killed")
        photographs = batch["photographs"]
        self.made += [photograph.source for photograph in photographs]
        hands = [photograph.hands[:1] for photograph in photographs]
        noise = [[noise_of(seed) for hand in own for seed in hand.seeds] for own in hands]
        return {
            "photographs": photographs,
            "repainted": {"noise": noise, "nothing": [[h.image for h in own] for own in hands]},
            "embeddings": [torch.zeros(4) if own else None for own in hands],
        }  # fmt: skip


def noise_of(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed & 0xFFFF)
    return torch.randint(0, 256, (3, SIDE, SIDE), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = write_hands(tmp_path_factory.mktemp("hands") / "in", identities=4, captures=2) / "wild"
    Image.fromarray(np.full((90, 90, 3), 120, np.uint8)).save(folder / "L_001" / "empty.png")
    (folder / "L_001" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


def measure(root, out, model=None, report=None, settings=None, **trainer) -> Painter:
    own = {"image_size": SIDE, "batch_size": 4, "num_workers": 0, "variants": 2, **(settings or {})}
    data = DeidentificationDataModule(str(root), str(out), **own)
    asked = {"recognisers": {"CompCode": "competitive-code"}, "attack": None, "intervals": 50}
    loop = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[DeidentificationReport(**asked | {"roi_size": 64} | (report or {}))], **trainer,
    )  # fmt: skip
    model = model or Painter()
    loop.test(model, datamodule=data, verbose=False)
    return model


@pytest.fixture(scope="module")
def one(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "out"
    before = content(root)
    measure(root, out, report={"pictures": 2})
    assert content(root) == before
    return out


def results(out) -> dict:
    return json.loads((out / "deidentification.json").read_text())


def test_a_method_that_does_nothing_is_found_out_and_masking_hides(one):
    found = {row["method"]: row for row in results(one)["recognition"]}
    nothing, masking, noise = (found[name] for name in ("nothing", "masking", "noise"))
    assert nothing["accuracy"] == 1.0 and nothing["own_source"]["rejection_rate"] == 0.0
    assert nothing["own_source"]["ratio"] < 0 < noise["own_source"]["ratio"]
    assert masking["own_source"]["rejection_rate"] > 0.9
    assert masking["accuracy"] < nothing["accuracy"]
    low, high = noise["ratio_interval"]
    assert low <= noise["own_source"]["ratio"] <= high


def test_quality_and_use_of_what_is_left(one):
    found = results(one)
    psnr = {method: values["psnr"]["mean"] for method, values in found["quality"].items()}
    assert psnr["nothing"] > 25 > psnr["noise"] > psnr["masking"]  # noise is right on average
    perceptual = {method: v["perceptual"]["mean"] for method, v in found["quality"].items()}
    assert perceptual["nothing"] < perceptual["masking"]
    assert found["frechet"]["nothing"] < found["frechet"]["masking"]
    assert found["usability"]["nothing"]["lost"] == 0.0
    assert found["usability"]["nothing"]["keypoints_2d"]["mean"] < 1.0


def test_noise_of_two_seeds_links_nothing_and_the_report_says_what_is_left_out(one):
    found = results(one)
    assert found["photographs"] == 8 and found["identities"] == 4 and found["variants"] == 2
    text = (one / "report.md").read_text()
    assert "no hand found" in text and "unreadable" in text
    assert "CompCode" in text and "D↔sys" in text
    assert (one / "report.html").is_file()
    with Image.open(one / "pictures.png") as sheet:  # a row a palm
        assert sheet.height < 3 * 300


def test_a_test_that_was_killed_measures_the_rest_alone(root, tmp_path, one):
    with pytest.raises(RuntimeError, match="killed"):
        measure(root, tmp_path / "out", Painter(fail_at=1))
    assert not (tmp_path / "out" / "report.html").exists()
    again = measure(root, tmp_path / "out")
    assert len(again.made) == 10 - 4
    first, second = results(one), results(tmp_path / "out")
    assert first["recognition"] == second["recognition"]
    assert measure(root, tmp_path / "out").made == []  # done; the report is written again


def test_two_processes_measure_the_same(root, tmp_path, one):
    measure(root, tmp_path / "out", devices=2, strategy="ddp_fork")
    first, second = results(one), results(tmp_path / "out")
    assert first["recognition"] == second["recognition"] and first["quality"] == second["quality"]


def test_other_settings_or_folders_are_refused(root, one, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.out"):
        measure(root, one, settings={"palm_margin": 0.1})
    with pytest.raises(ConfigError, match="in it or around it"):
        measure(root, root / "L_001")
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="were not written here"):
        measure(root, tmp_path)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"recognisers": {}}, ConfigError, "name one or more"),
        ({"roi_size": 8}, ConfigError, "roi_size: 8 is less than 32"),
        ({"recognisers": {"X": "nobody"}}, Exception, "nobody"),
        ({"reference": "none.yaml"}, ConfigError, "none.yaml"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_sampled(root, tmp_path, asked, error, message):
    model = Painter()
    with pytest.raises(error, match=message):
        measure(root, tmp_path / "out", model, report=asked)
    assert model.made == []


def test_one_hand_alone_and_one_picture_each_are_refused(tmp_path):
    folder = write_hands(tmp_path / "in", identities=2, captures=1) / "wild"
    with pytest.raises(DataError, match="two pictures at least of one palm"):
        measure(folder, tmp_path / "out", report={"intervals": 0})
    for file in (folder / "R_001").iterdir():
        file.unlink()
    with pytest.raises(DataError, match="shows 1 hand"):
        measure(folder, tmp_path / "other")


def test_the_attacker_is_in_the_report(root, tmp_path, one):
    """Small, to see that it is trained at all inside a test."""
    steps = AttackSettings(steps=2, batch_size=4, start=None, image_size=32)
    measure(root, tmp_path / "out", report={"attack": steps, "intervals": 20})
    found = results(tmp_path / "out")["attack"]
    assert found["attackers"] == found["victims"] == 2
    assert "trained on the method" in (tmp_path / "out" / "report.md").read_text()


def test_methods_that_make_no_sense_are_refused():
    from palmforge.data.deidentification.methods import check_methods

    for wrong, message in (
        ({}, "the first must be one that repaints"),
        ({"masking": METHODS["masking"]}, "the first must be one that repaints"),
        ({"a": Method(strength=0.1)}, "strength is of baselines"),
        ({"a": Method(), "b": replace(METHODS["masking"], alpha=0.1)}, "neither exemplars"),
        ({"a": Method(alpha=2.0)}, "alpha 2.0 does not lie"),
        ({"a": Method(exemplars=["x"])}, "no choice of s, m and f"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_methods(wrong)
