"""`audit` on rendered palms that play generated, training and held-out ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import auto_cli
from pictures import cut_short, save
from PIL import Image

from palmforge.commands.audit import audit
from palmforge.commands.audit_membership import evenly, fixed_losses
from palmforge.data.layouts import scan
from palmforge.data.roi_cache import RoiSettings
from palmforge.data.synthetic import SyntheticPalms
from palmforge.data.webdataset import write_shard
from palmforge.errors import CheckpointError, ConfigError, DataError
from palmforge.evaluation.privacy_changes import brighter, halved, jpeg


@pytest.fixture(scope="session")
def sets(tmp_path_factory) -> dict[str, Path]:
    """ROIs of 20 palms ("generated"), 20 others × 3 (training) and 30 others (held out)."""
    top = tmp_path_factory.mktemp("audited")
    for name, *numbers in (("generated", 20, 1, 31), ("training", 20, 3, 32), ("held", 30, 1, 33)):
        identities, images, seed = numbers
        SyntheticPalms(identities, images, ("IF",), 64, seed, "rois").write(str(top / name))
    found = {name: top / name / "iPhone" / "Flash" for name in ("generated", "training", "held")}
    return {**found, "cache": top / "cache"}


@pytest.fixture
def run(sets, tmp_path, monkeypatch):
    """Audits: (exit code, what audit.json says)."""
    monkeypatch.setattr("palmforge.commands.audit._CHANGED", 10)

    def audited(images: Path, out: str = "out", **more) -> tuple[int, dict]:
        settings = {
            "training": str(sets["training"]), "held_out": str(sets["held"]), "num_workers": 1,
            "cache_dir": str(sets["cache"]), "roi": RoiSettings(size=64),
            "out": str(tmp_path / out), "alpha": 0.01,
        }  # fmt: skip
        code = 0
        try:
            audit(str(images), **(settings | more))
        except SystemExit as stop:
            code = stop.code
        return code, json.loads((tmp_path / out / "audit.json").read_text())

    return audited


@pytest.fixture
def planted(sets, tmp_path) -> dict[str, str]:
    """The generated set with four training pictures in it: generated path → training path."""
    images = tmp_path / "planted"
    shutil.copytree(sets["generated"], images)
    originals = sorted(sets["training"].glob("*/*.JPG"))
    changes = {"same": lambda image: image, "jpeg": jpeg, "half": halved, "light": brighter}
    pairs = {}
    for number, (name, change) in enumerate(changes.items()):
        original = originals[3 + 9 * number]
        picture = np.asarray(Image.open(original).convert("RGB"))
        pairs[save(images / f"copy_{name}" / "000.png", change(picture))] = str(original)
    return pairs


@pytest.fixture
def few_needed(monkeypatch):
    """Sets as small as these can be measured."""
    monkeypatch.setattr("palmforge.evaluation.privacy.FMRS", (1e-2, 1e-3))


def test_a_clean_set_passes(sets, run, few_needed, capsys):
    code, content = run(sets["generated"])
    assert code == 0 and content["verdict"] == "passes"
    assert content["not_measurable"] == [] and content["reasons"] == []
    assert "passes: no picture gives" in capsys.readouterr().out


def test_a_set_that_is_too_small_to_tell_is_no_pass_and_what_would_be_found_is_told(
    sets, run, tmp_path, capsys
):
    code, content = run(sets["generated"])
    assert code == 4 and content["verdict"] == "not measurable"
    assert content["leaks"] == [] and content["reasons"] == []
    (missing,) = content["not_measurable"]
    assert missing.startswith("identities at FMR 0.01 % (") and "10,000 pairs" in missing
    shown = capsys.readouterr().out
    assert "NO PASS: no picture gives" in shown and "LEAKS" not in shown and "passes" not in shown
    assert f"but not measurable: {missing}" in shown
    assert "not measurable" in (tmp_path / "out" / "report.md").read_text().split("| 0.01 % |")[1]
    assert content["self_test"]["JPEG of quality 50"] >= 0.9
    assert content["near_duplicates"]["threshold"] < content["near_duplicates"]["smallest"]
    coarse, fine = content["matches"]
    assert coarse["excess"]["p_value"] > 0.01 and coarse["images"] == 1
    assert fine["excess"] is None
    assert "FMR 0.0001 needs at least 10,000 pairs of training palms" in fine["refused"]
    assert content["membership"] is None and "no checkpoint" in content["no_membership"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "data:image" not in page and "Not tested: no checkpoint" in page
    again = run(sets["generated"], "again")[1]
    assert {k: v for k, v in again.items() if k != "out"} == {
        k: v for k, v in content.items() if k != "out"
    }


def test_planted_training_pictures_are_found_and_named(run, planted, tmp_path, capsys):
    images = Path(next(iter(planted))).parents[1]
    broken = next(images.glob("L_001/*.JPG"))
    cut_short(broken)
    code, content = run(images, show_images=True)
    assert code == 3 and content["verdict"] == "leaks"
    assert {leak["generated"]: leak["training"] for leak in content["leaks"]} == planted
    assert content["leaks"][0]["kind"] == "same pixels"
    assert "copy_same" in content["leaks"][0]["generated"]
    shown = capsys.readouterr().out
    assert "LEAKS: 1 picture with the pixels of a training picture" in shown
    assert "; not measurable: identities at FMR 0.01 %" in shown
    assert content["left_out"] == 1
    assert broken.name in (tmp_path / "out" / "problems.csv").read_text()
    assert "data:image/jpeg" in (tmp_path / "out" / "report.html").read_text()


def test_shards_of_a_factory_are_audited_as_their_folder_is(sets, run, tmp_path):
    pictures = sorted(sets["generated"].glob("*/*.JPG"))
    samples = [(f"{p.parent.name}/{p.name}", p.read_bytes(), {}) for p in pictures]
    for number in range(2):
        write_shard(tmp_path / f"set/shard-{number:06d}.tar", samples[number::2])
    code, content = run(tmp_path / "set", show_images=True)
    _, expected = run(sets["generated"], "folder")
    assert code == 4 and content["left_out"] == 0
    for key in ("matches", "near_duplicates", "same_palm", "leaks"):
        assert content[key] == expected[key]


def test_held_out_people_are_those_that_the_fractions_keep_from_training(sets, run, tmp_path):
    root = tmp_path / "all"
    for name in ("training", "held"):
        for folder in sorted(path for path in sets[name].iterdir() if path.is_dir()):
            shutil.copytree(folder, root / f"{folder.name}{name}")
    more = {"training": str(root), "held_out": None, "fractions": (0.5, 0.2, 0.3)}
    code, content = run(sets["generated"], **more)
    assert code == 4 and content["near_duplicates"]["pictures"] == 20


def test_held_out_pictures_and_palms_that_were_trained_on_are_refused(sets, run, tmp_path):
    with pytest.raises(DataError, match=r"held_out: 60 of 60 pictures are training pictures"):
        run(sets["generated"], held_out=str(sets["training"]))
    first, second = tmp_path / "first", tmp_path / "second"  # captures of the same palms
    for folder in sorted(path for path in sets["training"].iterdir() if path.is_dir()):
        for place, picture in zip((first, second), sorted(folder.glob("*.JPG")), strict=False):
            (place / folder.name).mkdir(parents=True)
            shutil.copy(picture, place / folder.name)
    with pytest.raises(DataError, match="training identity of their own name"):
        run(sets["generated"], training=str(first), held_out=str(second))


def test_what_cannot_be_audited_is_refused_with_what_to_do(sets, run, tmp_path):
    generated = sets["generated"]
    with pytest.raises(ConfigError, match="no directory"):
        run(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no picture lies under"):
        run(tmp_path)
    with pytest.raises(ConfigError, match="makes codes"):
        run(generated, recogniser="mtcc")
    with pytest.raises(CheckpointError, match="checkpoint: no checkpoint"):
        run(generated, checkpoint=str(tmp_path / "none.ckpt"))
    with pytest.raises(ConfigError, match="alpha: 0 is not between"):
        run(generated, alpha=0.0)
    with pytest.raises(ConfigError, match="membership_images: must be 20 or more"):
        run(generated, membership_images=3)
    few = tmp_path / "few"
    shutil.copytree(sets["held"] / "L_001", few / "L_001")
    with pytest.raises(DataError, match=r"held_out: 1 identities; 20 or more"):
        run(generated, held_out=str(few))
    bad = tmp_path / "bad"
    cut_short(shutil.copytree(few / "L_001", bad / "L_001") / "IMG_0001.JPG")
    with pytest.raises(DataError, match="images: no picture can be used"):
        run(bad)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "audit.json").write_text("mine")
    with pytest.raises(ConfigError, match="there already"):
        audit(str(generated), out=str(tmp_path / "kept"))
    assert (tmp_path / "kept" / "audit.json").read_text() == "mine"


def test_the_command_line_takes_every_setting_by_name(monkeypatch, tmp_path):
    from palmforge.commands import audit as module

    taken = {}
    monkeypatch.setattr(
        module, "generated_set", lambda images: taken.update(images=images) or 1 / 0
    )
    arguments = ["--images=x", "--roi.size=64", "--held_out=y", "--show_images=true"]
    with pytest.raises(ZeroDivisionError):
        auto_cli(audit, args=[*arguments, f"--out={tmp_path}"], as_positional=False)
    assert taken == {"images": "x"}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> str:
    """Of a generator with random weights that makes 32-pixel pictures."""
    from palmforge.modules.identity_generator import IdentityGenerator
    from palmforge.networks.stable_diffusion import TinyStableDiffusion

    sizes = TinyStableDiffusion(
        vae_channels=(8, 8, 16), unet_channels=(16, 32), text_dim=32, text_layers=1
    )
    module = IdentityGenerator(pretrained_model_name_or_path=None, sizes=sizes, image_size=32)
    module.configure_model()
    content = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    path = tmp_path_factory.mktemp("generator") / "last.ckpt"
    torch.save(content, path)
    return str(path)


def test_a_generator_that_was_not_trained_tells_no_training_picture(
    sets, run, checkpoint, few_needed
):
    more = {"membership_images": 20, "noise_levels": 2, "checkpoint": checkpoint}
    code, content = run(sets["generated"], **more)
    assert code == 0
    found = content["membership"]
    assert found["interval"][0] < 0.5 < found["interval"][1] and found["p_value"] > 0.01
    assert found["tpr"] is None and "needs at least 100" in found["refused"]


def test_losses_do_not_depend_on_the_other_pictures(sets, checkpoint):
    from palmforge.modules.identity_generator import load_generator

    generator = load_generator(checkpoint)
    rois = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    together = fixed_losses(generator, rois, 3, "")
    alone = np.concatenate([fixed_losses(generator, roi[None], 3, "") for roi in rois])
    assert np.allclose(together, alone, rtol=1e-4) and together.std() > 0
    assert (together == fixed_losses(generator, rois, 3, "")).all()
    assert len(set(together.round(4))) == 5


def test_pictures_for_membership_are_of_as_many_palms_as_there_are(sets):
    records = scan(str(sets["training"]), "folder").records
    few, more = evenly(records, 10), evenly(records, 25)
    assert len({record.identity for record in few}) == 10
    assert len({record.identity for record in more}) == 20 and len(more) == 25
    assert evenly(records, 1000) == records
