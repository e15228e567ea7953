"""Whole runs of the ControlNet by the command line: trained, generated, divided, killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from controlnets import ready
from generators import SIZE, base, trainer
from runs import in_a_process, load

from palmforge.modules.identity_controlnet import IdentityControlNet, load_controlnet


@pytest.fixture
def config(tmp_path, palms_root) -> str:
    """An experiment as YAML, for the command line."""
    model = {
        "class_path": "IdentityControlNet",
        "init_args": {
            "pretrained_model_name_or_path": base(), "conditions": ["lines"],
            "num_inference_steps": 2, "guidance_scale": 2.0, "warmup_steps": 0,
        },
    }  # fmt: skip
    data = {
        "class_path": "CaptureDataModule",
        "init_args": {
            "root": palms_root, "cache_dir": str(Path(palms_root).parent / "roi_cache"),
            "image_size": SIZE, "roi": {"size": 40}, "fractions": [0.5, 0.25, 0.25],
            "domains": ["IF"], "batch_size": 2, "eval_batch_size": 3, "num_workers": 0,
            "num_identities": 2, "captures": 4,
        },
    }  # fmt: skip
    callbacks = [
        {"class_path": "WeightEMA"},
        {"class_path": "CacheLatents", "init_args": {"directory": str(tmp_path / "cache")}},
        {"class_path": "LastCheckpoint"},
        {"class_path": "RunReport"},
        {"class_path": "ImageWriter"},  # the last one: --trainer.callbacks.directory is its
    ]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    settings = {"callbacks": callbacks, "max_steps": 3, "num_sanity_val_steps": 0, **quiet}
    path = tmp_path / "experiment.yaml"
    path.write_text(
        yaml.safe_dump({"name": "tiny", "model": model, "data": data, "trainer": settings})
    )
    return f"--config={path}"


def test_a_training_by_the_command_line_makes_captures(cli, config, logs, tmp_path):
    cli("fit", config, "--model.conditions=[lines,embedding]")
    path = logs / "tiny/version_0/checkpoints/last.ckpt"
    checkpoint = load(path)
    assert checkpoint["global_step"] == 3
    assert {name.split(".")[0] for name in checkpoint["state_dict"]} == {"controlnet", "conditions"}
    assert load_controlnet(str(path)).condition_names == ("lines", "embedding")
    cli(
        "predict", config, "--ckpt_path=last", "--return_predictions=false",
        "--model.conditions=[lines,embedding]",
    )  # fmt: skip
    (manifest,) = logs.rglob("manifest.parquet")
    rows = pq.read_table(manifest).to_pylist()
    assert [row["identity"] for row in rows] == [0] * 4 + [1] * 4
    assert [row["file"] for row in rows[3:5]] == ["000000/003.png", "000001/000.png"]
    assert rows[0]["control_guidance_scale"] == 1.0 and rows[0]["lora"] == ""
    assert len(list(manifest.parent.glob("*/00[0-3].png"))) == 8


def content(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_sets_of_captures_are_equal_for_two_processes_and_after_a_kill(cli, config, tmp_path):
    one = trainer(None)
    one.strategy.connect(ready())
    one.save_checkpoint(tmp_path / "trained.ckpt")

    def predict(name: str, *settings: str) -> None:
        cli(
            "predict", config, f"--ckpt_path={tmp_path / 'trained.ckpt'}",
            "--return_predictions=false", f"--trainer.callbacks.directory={tmp_path / name}",
            *settings,
        )  # fmt: skip

    def predict_and_die() -> None:
        sample = IdentityControlNet.sample
        calls: list[int] = []

        def sample_or_die(self, *arguments, **options) -> torch.Tensor:
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return sample(self, *arguments, **options)

        IdentityControlNet.sample = sample_or_die
        predict("killed")

    predict("one")
    predict("two", "--trainer.devices=2", "--trainer.strategy=ddp_fork")
    assert in_a_process(predict_and_die) == -signal.SIGKILL
    assert 0 < len(list((tmp_path / "killed").glob("*/*.png"))) < 8
    predict("killed")
    expected = content(tmp_path / "one")
    assert len(expected) == 8 + 2
    assert content(tmp_path / "two") == expected
    assert content(tmp_path / "killed") == expected
