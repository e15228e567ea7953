"""Export as it is typed, and the example that uses the file without us."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from exports import checkpoint, palms

from palmforge.callbacks.evaluation_report import write_results
from palmforge.commands.export import export
from palmforge.errors import ConfigError, DataError
from palmforge.export.formats import runner
from palmforge.metrics.scores import ScoreCounts
from palmforge.recognition import load


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> str:
    return palms(tmp_path_factory.mktemp("palms"))


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> str:
    """A run with its config and the test of its last checkpoint."""
    run = tmp_path_factory.mktemp("logs") / "tiny" / "version_0"
    path = checkpoint("student", run / "checkpoints")
    (run / "config.yaml").write_text(
        "name: tiny\ndata: {init_args: {root: /home/jane/XJTU-UP, protocol: open_set}}\n"
    )
    selection = ["train: 9 images of 2 identities", "one training image: L_007"]
    (run / "run.json").write_text(json.dumps({"data": {"selection": selection}}))
    counts = ScoreCounts.from_histograms([50, 30, 20, 0], [0, 1, 999, 1000])
    metrics = {"test/eer": 0.0123, "test/eer_low": 0.0101, "test/eer_high": 0.0145}
    metrics |= {"test/num_genuine": 100.0, "test/num_impostor": 2000.0}
    tested = "logs/tiny/version_0/checkpoints/student.ckpt"
    write_results(run / "results.json", metrics, counts, checkpoint=tested)
    other = metrics | {"test/eer": 0.4}
    write_results(run.parent / "version_1" / "results.json", other, counts, checkpoint="best.ckpt")
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory, student, pictures) -> Path:
    folder = tmp_path_factory.mktemp("onnx") / "out"
    export(student, str(folder), data=pictures, images=30)
    return folder


@pytest.fixture
def model(exported) -> dict:
    return json.loads((exported / "model.json").read_text())


@pytest.mark.parametrize("batch", [1, 3, 17])
def test_the_file_gives_the_codes_of_the_package_for_any_batch(exported, student, batch):
    pixels = torch.randint(0, 256, (batch, 3, 64, 64), dtype=torch.uint8)
    codes, values = runner(exported / "model.onnx", "onnx")(pixels.numpy())
    assert np.array_equal(codes, load(student).embed(pixels).numpy())
    assert np.array_equal(np.packbits(values >= 0, axis=1), codes)


def test_the_card_tells_the_test_of_this_checkpoint_and_no_secret(exported, model):
    card = (exported / "README.md").read_text()
    assert "| EER | 1.23 | 1.01 – 1.45 |" in card and "40.00" not in card
    assert "100 genuine and 2,000 impostor" in card
    assert "Biometric data" in card and "cannot be changed" in card
    told = card + json.dumps(model)
    assert "XJTU-UP" in told and "nobody who is tested trained it" in card
    assert "jane" not in told and "L_007" not in told
    assert sorted(p.name for p in exported.iterdir()) == ["README.md", "model.json", "model.onnx"]


def test_the_threshold_is_of_the_run_at_the_rate(model):
    assert model["threshold"]["accept_at_or_below"] == 1
    assert model["threshold"]["far"] == pytest.approx(1 / 2000)
    assert model["threshold"]["frr"] == pytest.approx(0.2)
    assert model["checks"]["agreement"]["bits"] == 30 * 32
    assert model["checks"]["agreement"]["bit_flips"] <= 1
    assert model["latency"]["milliseconds"].keys() == {"PyTorch", "onnx"}


def test_int8_says_what_it_costs(cli, student, pictures, tmp_path, capsys):
    out = tmp_path / "int8"
    cli(
        "export", f"--ckpt={student}", "--format=onnx-int8", f"--out={out}", f"--data={pictures}",
        "--images=30",
    )  # fmt: skip
    model = json.loads((out / "model.json").read_text())
    taken = [way for way in model["checks"]["int8"] if way["taken"]]
    assert len(taken) == 1 and taken[0]["bytes"] == (out / "model.onnx").stat().st_size
    cost = 100 * (model["checks"]["figures"]["eer"] - model["checks"]["pytorch"]["eer"])
    assert taken[0]["eer_cost_points"] == pytest.approx(cost)
    assert ("warning" in model["checks"]) == (cost > 0.3)
    assert "points of EER" in (out / "README.md").read_text()
    assert "int8" in capsys.readouterr().out
    codes, _ = runner(out / "model.onnx", "onnx-int8")(np.zeros((5, 3, 64, 64), np.uint8))
    assert codes.shape == (5, 4) and codes.dtype == np.uint8


def test_what_cannot_be_is_refused_before_any_work(student, pictures, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    out = str(tmp_path / "out")
    with pytest.raises(ConfigError, match="is not an empty folder"):
        export(student, str(tmp_path / "full"))
    (tmp_path / "killed" / ".export-scratch").mkdir(parents=True)  # is in nobody's way
    with pytest.raises(ConfigError, match="opset"):
        export(student, str(tmp_path / "killed"), opset=11)
    with pytest.raises(ConfigError, match="opset: torch's exporter writes 18 to 23"):
        export(student, out, opset=11)
    with pytest.raises(ConfigError, match=r"far: 1.5"):
        export(student, out, far=1.5)
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE"):
        export(student, out, push_to_hub="me/palm")
    monkeypatch.setattr("palmforge.export.formats.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install executorch"):
        export(student, out, format="executorch")
    assert not Path(out).exists()


def test_too_few_palms_are_refused(student, tmp_path):
    with pytest.raises(DataError, match="three or more are needed"):
        export(student, str(tmp_path / "out"), "torch_export", palms(tmp_path / "few", 2, 2))


_WITHOUT_US = """
import runpy, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "palmforge", "PIL", "scipy"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _example(*words: object) -> str:
    script = ROOT / "examples" / "verify_onnx.py"
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_US, script, *map(str, words)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def test_the_example_enrols_and_verifies_without_torch_and_palmforge(
    exported, model, student, pictures, tmp_path
):
    model["threshold"]["accept_at_or_below"] = 0
    (tmp_path / "model.json").write_text(json.dumps(model))
    (tmp_path / "model.onnx").symlink_to(exported / "model.onnx")
    gallery, picture = tmp_path / "gallery.npz", Path(pictures, "palm_1", "0.png")
    stray = Path(pictures, "palm_1", ".DS_Store")
    stray.write_bytes(b"no picture")
    told = _example(tmp_path, "enrol", pictures, gallery)
    assert f"42 pictures; 1 left out {stray}\n" in told
    stray.unlink()
    told = _example(tmp_path, "verify", picture, "palm_1", gallery)
    assert told == "accepted: 0, limit 0\n"
    assert "refused" in _example(tmp_path, "verify", picture, "palm_2", gallery)
    assert "nobody called nemo" in _example(tmp_path, "verify", picture, "nemo", gallery)
    assert "MODEL is a folder" in _example(pictures, "verify", picture, "palm_1", gallery)

    # And its templates are those that the package's galleries hold.
    from palmforge.data.images import read_image

    files = sorted(Path(pictures).glob("*/*"))
    rois = np.stack([read_image(file)[0].transpose(2, 0, 1) for file in files])
    codes = load(student).embed(torch.from_numpy(rois)).numpy()
    assert np.array_equal(np.load(gallery)["templates"], codes)
    lines = (ROOT / "examples" / "verify_onnx.py").read_text().splitlines()
    assert len(lines) <= 60
