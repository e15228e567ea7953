"""Export and verify, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pictures import noise, save

from palmforge.errors import ConfigError, DataError
from palmforge.metrics.comparison import Comparison
from palmforge.modules import HashingStudent
from palmforge.modules.recognizer import MarginRecognizer
from palmforge.recognition import load


@pytest.fixture
def checkpoint(tmp_path) -> str:
    torch.manual_seed(0)
    arguments = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
    module = MarginRecognizer(["a", "b"], 64, embedding_dim=24, backbone_args=arguments)
    content = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    torch.save(content, tmp_path / "last.ckpt")
    return str(tmp_path / "last.ckpt")


def test_what_is_exported_loads(cli, checkpoint, tmp_path, capsys):
    cli("recognizer", "export", checkpoint, str(tmp_path / "out"))
    assert "MiB" in capsys.readouterr().out
    rois = torch.rand(3, 3, 64, 64)
    cosines = load(checkpoint)(rois) * load(str(tmp_path / "out"))(rois)
    assert cosines.sum(1).min() > 0.999


@pytest.fixture
def palms(tmp_path) -> Path:
    """Three pictures each of four palms."""
    for identity in range(4):
        palm = noise(70, 70, seed=identity, smooth=5)
        for image in range(3):
            view = palm // 2 + noise(70, 70, seed=100 + 3 * identity + image, smooth=2) // 2
            save(tmp_path / "set" / f"palm_{identity}" / f"{image}.png", view)
    return tmp_path / "set"


def test_verify_compares_all_pairs_in_colour_and_in_grey(cli, checkpoint, palms, tmp_path, capsys):
    (tmp_path / "set" / "palm_0" / "broken.png").write_bytes(b"no")
    cli(
        "recognizer", "verify", f"[{tmp_path / 'set'}]", f"--recognizer={checkpoint}",
        "--roi_size=64", f"--out={tmp_path / 'figures.json'}",
    )  # fmt: skip
    shown = capsys.readouterr()
    assert "broken.png" in shown.err and "rgb" in shown.out and "grey" in shown.out
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert all(row["left_out"] == 1 for row in rows)
    assert [row["input"] for row in rows] == ["rgb", "grey"]
    assert all(row["num_genuine"] == 4 * 3 and row["num_impostor"] == 54 for row in rows)
    # This network reads one grey channel, of other weights: near, and not the same.
    assert rows[0]["eer"] == pytest.approx(rows[1]["eer"], abs=0.2)


def test_the_poorest_are_refused_and_counted(cli, checkpoint, palms, tmp_path, capsys):
    out = tmp_path / "figures.json"
    command = ("recognizer", "verify", f"[{palms}]", f"--recognizer={checkpoint}", f"--out={out}")
    cli(*command)
    assert "error versus discard" in capsys.readouterr().out
    discard = json.loads(out.read_text())[0]["discard"]
    assert [row["share"] for row in discard] == [0, 0.005, 0.01, 0.02, 0.05]
    pictures = [cv2.imread(str(path))[..., ::-1] for path in sorted(palms.rglob("*.png"))]
    rois = torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())
    rois = torch.nn.functional.interpolate(rois, 160, mode="bilinear")
    quality = load(checkpoint).embed_with_quality(rois)[1]
    assert discard[0]["min_quality"] == pytest.approx(quality.min().item(), rel=0.05)
    limit = discard[0]["min_quality"] + 1e-4
    cli(*command, f"--min_quality={limit}")
    assert json.loads(out.read_text())[0]["left_out"] == 1
    with pytest.raises(DataError, match="no picture in it can be used"):
        cli(*command, "--min_quality=1e6")
    with pytest.raises(ConfigError, match="min_quality: mtcc does not tell"):
        cli(*command[:3], "--recognizer=mtcc", "--min_quality=1")


@pytest.fixture
def student(tmp_path) -> str:
    torch.manual_seed(0)
    module = HashingStudent(["a", "b"], num_bits=32, image_size=64)
    module.configure_model()
    content = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    torch.save(content, tmp_path / "student.ckpt")
    return str(tmp_path / "student.ckpt")


@pytest.mark.parametrize("name", ["competitive-code", "student"])
def test_verify_compares_as_the_recogniser_does(cli, student, palms, tmp_path, name):
    name = student if name == "student" else name
    cli(
        "recognizer", "verify", f"[{palms}]", f"--recognizer={name}", "--roi_size=70",
        f"--out={tmp_path / 'figures.json'}",
    )  # fmt: skip
    row = json.loads((tmp_path / "figures.json").read_text())[0]
    pictures = [cv2.imread(str(path))[..., ::-1] for path in sorted(palms.rglob("*.png"))]
    recognizer = load(name)
    templates = recognizer.embed(torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy()))
    mine = Comparison(templates, np.repeat(np.arange(4), 3), distance=recognizer.distance).figures()
    assert row["eer"] == pytest.approx(mine["eer"])
    assert row["eer_threshold"] == pytest.approx(mine["eer_threshold"])


def test_verify_refuses_what_it_cannot_judge(cli, palms, tmp_path):
    with pytest.raises(ConfigError, match="roots: name a set"):
        cli("recognizer", "verify", "[]")
    save(tmp_path / "single" / "a" / "0.png", noise(70, 70, seed=1))
    save(tmp_path / "single" / "b" / "0.png", noise(70, 70, seed=2))
    with pytest.raises(DataError, match="2 usable pictures of 2 identities"):
        cli("recognizer", "verify", f"[{tmp_path / 'single'}]", "--recognizer=competitive-code")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="out: cannot write"):
        cli("recognizer", "verify", f"[{palms}]", f"--out={tmp_path / 'file' / 'figures.json'}")
