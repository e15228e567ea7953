"""An offline run of Weights & Biases, read back from its file."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
import yaml
from conftest import ROOT
from runs import STUDENT, callbacks_yaml


@pytest.fixture
def fit(cli, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)

    def run(*settings: str) -> None:
        cli(
            "fit", *STUDENT, callbacks_yaml(tmp_path / "callbacks.yaml"),
            "--config=configs/logger/wandb.yaml", *tiny_data, "--name=tracked",
            "--trainer.max_steps=4",
            "--trainer.log_every_n_steps=1", "--trainer.val_check_interval=2", *settings,
        )  # fmt: skip
        wandb.finish()  # a second run in this process would join the first

    return run


def _records(path: Path) -> Iterator[bytes]:
    """A .wandb file is a LevelDB log: 32 KiB blocks of (crc, length, kind, data) after 7 bytes."""
    content = path.read_bytes()
    at, whole = 7, b""
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:  # too short for a header: filled up
            at += left
            continue
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, last
            yield whole
            whole = b""


def read_run(run: Path) -> dict[str, list]:
    """The records of an offline run by kind."""
    from wandb.proto import wandb_internal_pb2

    records: dict[str, list] = {}
    for data in _records(next(run.glob("*.wandb"))):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        records.setdefault(kind, []).append(getattr(record, kind))
    return records


def run_config(records: dict[str, list]) -> dict:
    updates = [
        u for kind in ("run", "config") for r in records.get(kind, []) for u in _updates(kind, r)
    ]
    return {"/".join(u.nested_key) or u.key: json.loads(u.value_json) for u in updates}


def _updates(kind: str, record) -> list:
    return list(record.config.update if kind == "run" else record.update)


def run_history(records: dict[str, list]) -> set[str]:
    return {"/".join(i.nested_key) or i.key for h in records["history"] for i in h.item}


@pytest.mark.slow
def test_two_processes_leave_one_run_with_config_metrics_and_figures(tiny_data, tmp_path, logs):
    """The real thing: `ddp` starts the command line again for the second process."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    command = [
        sys.executable, str(ROOT / "train.py"), "fit", *STUDENT,
        callbacks_yaml(tmp_path / "callbacks.yaml"), "--config=configs/logger/wandb.yaml",
        *tiny_data, "--name=tracked", "--trainer.devices=2", "--trainer.strategy=ddp",
        "--trainer.max_steps=4", "--trainer.log_every_n_steps=1", "--trainer.val_check_interval=2",
        "--test_ckpt=last",
    ]  # fmt: skip
    # Else it would hand its run to the tracker's process of an earlier test, which writes later.
    env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.rglob("offline-run-*")
    records = read_run(run)
    config = run_config(records)
    assert config["model"]["init_args"]["margin"] == 180.0
    assert config["data"]["init_args"]["protocol"] == "first_five"
    assert {"train/loss", "train/hash_loss", "val/eer", "test/eer"} <= run_history(records)
    assert "train/images_per_s" in run_history(records)
    told = [(artifact.type, artifact.use_after_commit) for artifact in records["artifact"]]
    assert told == [
        ("dataset", True), ("roi-cache", True), ("model", False), ("report", False),
    ]  # fmt: skip  # each once
    pictures = {p.name.split("_")[0] for p in (run / "files/media/images/figures").iterdir()}
    assert pictures == {"roc", "det", "distances"}  # and no palm

    version = logs / "tracked/version_0"
    assert run.name.endswith((version / "wandb_id.txt").read_text())
    assert [p.name for p in (logs / "tracked").iterdir()] == ["version_0"]


PROBE = """
import json, os
from pathlib import Path
import lightning as L
import wandb

class Probe(L.Callback):
    def on_train_start(self, trainer, pl_module):
        has = {"lr": pl_module.lr, "margin": pl_module.margin, "run": wandb.run and wandb.run.id}
        Path(f"rank_{trainer.global_rank}.json").write_text(json.dumps(has))
"""


@pytest.mark.slow
def test_a_trial_of_an_agent_with_two_processes_is_one_run(tiny_data, tmp_path, logs):
    """The command line and the variables are those that wandb's agent makes of a sweep file."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "probe.yaml").write_text("trainer:\n  callbacks+: [{class_path: probe.Probe}]\n")
    drawn = {"model.init_args.lr": 0.00123, "model.init_args.margin": 160}
    values = {key: {"value": value} for key, value in drawn.items()}
    parameters = tmp_path / "wandb/sweep-s1/config-trial7.yaml"
    parameters.parent.mkdir(parents=True)
    parameters.write_text(yaml.safe_dump({"wandb_version": 1, **values}))
    command = [
        "/usr/bin/env", sys.executable, str(ROOT / "train.py"), "fit", *STUDENT,
        callbacks_yaml(tmp_path / "callbacks.yaml"), f"--config={tmp_path / 'probe.yaml'}",
        "--config=configs/logger/wandb.yaml", *tiny_data, "--name=swept",
        "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_steps=2",
        "--trainer.log_every_n_steps=1", "--trainer.val_check_interval=2",
        *create_sweep_command_args({"args": values})["args"],
    ]  # fmt: skip
    env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    env |= {
        "PYTHONPATH": str(tmp_path), "WANDB_MODE": "offline", "WANDB_SWEEP_ID": "s1",
        "WANDB_RUN_ID": "trial7", "WANDB_SWEEP_PARAM_PATH": str(parameters),
    }  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"rank_{n}.json").read_text()) for n in (0, 1))
    assert first == {"lr": 0.00123, "margin": 160, "run": "trial7"}
    assert second == {**first, "run": None}  # it trains with the same, and tells nobody
    (run,) = tmp_path.rglob("offline-run-*")
    assert run.name.endswith("-trial7")
    records = read_run(run)
    (told,) = records["run"]
    assert (told.run_id, told.sweep_id) == ("trial7", "s1")
    assert run_config(records)["model"]["init_args"]["lr"] == 0.00123
    assert "val/eer" in run_history(records)
    assert [p.name for p in (logs / "swept/trial7").iterdir()] == ["version_0"]


def test_palms_are_logged_only_when_asked(fit, tmp_path):
    overlay = tmp_path / "images.yaml"
    overlay.write_text(
        "trainer:\n  callbacks+:\n  - class_path: PalmMontage\n    init_args: {log_images: true}\n"
    )
    fit(f"--config={overlay}")
    (run,) = tmp_path.rglob("offline-run-*")
    assert [p.name.startswith("first") for p in (run / "files/media/images/figures").iterdir()] == [
        True
    ]


def test_a_resumed_run_keeps_its_id(fit, tmp_path):
    fit()
    fit("--ckpt_path=last", "--trainer.max_steps=6")
    runs = list(tmp_path.rglob("offline-run-*"))
    assert len(runs) == 2  # two files of one run: `wandb sync` joins them by the id
    assert len({run.name.rsplit("-", 1)[1] for run in runs}) == 1


def test_without_a_key_the_run_is_offline_and_says_so(fit, tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("HOME", str(tmp_path))  # no ~/.netrc
    fit()
    assert any(tmp_path.rglob("offline-run-*"))
    assert "kept offline" in caplog.text
