"""`generator measure` on rendered palms that play the generated ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pictures import cut_short, save
from PIL import Image

from palmforge.commands.generator import measure
from palmforge.data.roi_cache import RoiSettings
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import CheckpointError, ConfigError, DataError

FAR = 0.01


@pytest.fixture(scope="module")
def palms(tmp_path_factory) -> dict[str, Path]:
    """ROIs of 12 palms × 1 ("generated") and of 10 other palms × 2 (training)."""
    top = tmp_path_factory.mktemp("palms")
    for name, *numbers in (("generated", 12, 1, 21), ("training", 10, 2, 22)):
        identities, images, seed = numbers
        SyntheticPalms(identities, images, ("IF",), 64, seed, "rois").write(str(top / name))
    return {name: top / name / "iPhone" / "Flash" for name in ("generated", "training")}


@pytest.fixture
def run(palms, tmp_path):
    """Measures, and returns what measures.json says."""

    def measured(images: Path, out: str = "out", **more) -> dict:
        settings = {
            "training": str(palms["training"]), "far": FAR, "roi": RoiSettings(size=64),
            "cache_dir": str(tmp_path / "cache"), "num_workers": 1, "out": str(tmp_path / out),
        }  # fmt: skip
        measure(str(images), **(settings | more))
        return json.loads((tmp_path / out / "measures.json").read_text())

    return measured


def _row(content: dict, measure: str) -> dict:
    return next(row for row in content["measures"] if row["measure"] == measure)


def test_other_palms_are_as_unique_and_as_new_as_real_ones(palms, run, tmp_path, capsys):
    content = run(palms["generated"])
    assert content["counts"] == {
        "generated": {"images": 12, "identities": 12, "left_out": 0},
        "training": {"images": 20, "identities": 10, "left_out": 0},
    }
    assert content["impostor_pairs"] == 20 * 19 // 2 - 10
    for name in ("uniqueness", "novelty"):
        row = _row(content, name)
        assert abs(row["generated"] - row["real"]) <= 0.4 and row["generated"] > 0.5
    assert _row(content, "uniqueness")["of"] == "10 identities"
    assert _row(content, "uniqueness")["expected"] == pytest.approx(0.99**9)
    assert _row(content, "novelty")["expected"] == pytest.approx(0.99**20)
    assert 1 < _row(content, "Vendi score")["generated"] <= 10
    assert _row(content, "KID, recogniser features")["real"] is not None
    shown = capsys.readouterr().out
    assert "12 images of 12 identities" in shown and "uniqueness" in shown
    for picture in ("distances.png", "closest.png"):
        assert Image.open(tmp_path / "out" / picture).width > 300
    again = run(palms["generated"], "again")
    assert again == content


def test_copies_of_training_palms_are_not_new_and_copies_of_each_other_not_unique(
    palms, run, tmp_path
):
    images = tmp_path / "images"
    copied = sorted(path for path in palms["training"].iterdir() if path.is_dir())[:3]
    for folder in copied:
        shutil.copytree(folder, images / f"copy_of_{folder.name}")
    for number, folder in enumerate(sorted(palms["generated"].iterdir())[:3]):
        if folder.is_dir():
            shutil.copytree(folder, images / f"{number:06d}")
            shutil.copytree(folder, images / f"{number:06d}_again")
    content = run(images)
    identities = content["counts"]["generated"]["identities"]
    assert identities == 9
    assert _row(content, "uniqueness")["generated"] <= 3 / 9  # three pairs of twins
    assert _row(content, "novelty")["generated"] <= 6 / 9
    closest = content["closest"]
    assert len(closest) == 5
    for pair in closest[:3]:
        assert pair["distance"] == pytest.approx(0.0, abs=1e-5)
        ours, theirs = (Path(pair[key]) for key in ("generated", "training"))
        assert ours.parent.name == f"copy_of_{theirs.parent.name}" and ours.name == theirs.name


def test_bad_pictures_are_left_out_counted_and_listed(palms, run, tmp_path, capsys):
    images = tmp_path / "images"
    shutil.copytree(palms["generated"], images)
    broken = next(images.glob("L_001/*.JPG"))
    cut_short(broken)
    save(images / "R_001" / "IMG_0009.png", Image.new("L", (40, 40), 90))  # a second one: even grey
    (images / "R_003_empty").mkdir()
    content = run(images)
    # L_001 has no other picture, so that its identity is gone; R_001 is still one identity.
    assert content["counts"]["generated"] == {"images": 12, "identities": 11, "left_out": 1}
    listed = (tmp_path / "out" / "problems.csv").read_text()
    assert broken.name in listed and "R_003_empty" in listed
    assert f"left out: {broken}" in capsys.readouterr().out


def test_what_cannot_be_measured_is_refused_with_what_to_do(palms, run, tmp_path):
    generated = palms["generated"]
    with pytest.raises(ConfigError, match="no directory"):
        run(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no picture lies under"):
        run(tmp_path)
    with pytest.raises(ConfigError, match=r"mtcc makes codes.*Give synthetic-only"):
        run(generated, recogniser="mtcc")
    with pytest.raises(ConfigError, match=r"needs at least 1,000 impostor pairs.*higher FAR"):
        run(generated, far=1e-3)
    with pytest.raises(ConfigError, match="not between 0 and 1"):
        run(generated, far=0.0)
    with pytest.raises(CheckpointError, match="inception: no file"):
        run(generated, inception=str(tmp_path / "none.pth"))
    one = tmp_path / "one"
    shutil.copytree(generated / "L_001", one / "L_001")
    with pytest.raises(DataError, match="two or more are needed"):
        run(one)
    cut_short(next(one.glob("*/*.JPG")))
    with pytest.raises(DataError, match="none of 1 pictures"):
        run(one)


def test_results_that_are_there_are_not_overwritten(palms, run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "measures.json").write_text("mine")
    with pytest.raises(ConfigError, match="there already; name another folder"):
        run(palms["generated"])
    assert (tmp_path / "out" / "measures.json").read_text() == "mine"


def test_inception_needs_weights_and_torch_fidelity(tmp_path):
    from palmforge.evaluation.inception import load_inception

    path = tmp_path / "weights.pth"
    path.write_bytes(b"no weights")
    with pytest.raises((ConfigError, CheckpointError), match="inception: "):
        load_inception(str(path))
