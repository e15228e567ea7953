"""Whole runs through the command line: what they leave, and how they refuse."""

from __future__ import annotations

import csv
import json

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from runs import STUDENT, TEACHER, load

from palmforge.callbacks.evaluation_report import read_results
from palmforge.errors import CheckpointError, ConfigError, DataError, TrainingError

SHORT = ["--trainer.max_steps=4", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1"]


@pytest.fixture
def student(cli, tiny_data, logs):
    """A short run of the student, tested at its end."""
    cli("fit", *STUDENT, *tiny_data, *SHORT, "--test_ckpt=best")
    return logs / "dhn_student" / "version_0"


def test_a_run_leaves_config_checkpoints_metrics_figures_and_results(student):
    config = yaml.safe_load((student / "config.yaml").read_text())
    assert config["model"]["init_args"]["margin"] == 180.0
    with (student / "metrics.csv").open() as file:
        columns = next(csv.reader(file))
    assert {"train/loss", "train/lr", "val/eer", "val/accuracy", "test/eer"} <= set(columns)
    assert {p.name for p in (student / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    figures = {p.stem for p in (student / "figures").iterdir()}
    assert figures == {"first_batch", "roc", "det", "distances"}
    metrics, counts = read_results(student / "results.json")
    assert counts.num_genuine == metrics["test/num_genuine"] == 8  # 8 palms, 2 test images each
    assert counts.equal_error_rate()[0] == pytest.approx(metrics["test/eer"])
    report = json.loads((student / "run.json").read_text())
    assert report["data"]["selection"][0] == "train: 40 images of 8 identities IF"


def test_last_and_best_evaluate_the_newest_run(cli, student, tiny_data, logs, caplog):
    cli("test", *STUDENT, *tiny_data, "--ckpt_path=best")
    assert f"--ckpt_path best: {student.relative_to(logs.parent)}" in caplog.text
    cli("validate", *STUDENT, *tiny_data, "--ckpt_path=last")
    first, again = (
        read_results(logs / "dhn_student" / f"version_{n}" / "results.json")[0] for n in (0, 1)
    )
    assert first == again


def test_predict_writes_codes_identities_and_paths(cli, student, tiny_data, tmp_path):
    cli(
        "predict", *STUDENT, *tiny_data, "--ckpt_path=last", "--data.predict_split=test",
        "--return_predictions=false", "--trainer.callbacks+=CodeWriter",
        f"--trainer.callbacks.path={tmp_path / 'out' / 'codes.parquet'}",
    )  # fmt: skip
    rows = pq.read_table(tmp_path / "out" / "codes.parquet").to_pylist()
    assert len(rows) == 16
    assert {len(row["code"]) for row in rows} == {16}
    assert all(row["identity"] in row["path"] and row["domain"] == "IF" for row in rows)
    assert not list((tmp_path / "out").glob(".*"))  # the parts of the processes are gone


def test_a_checkpoint_loads_without_the_command_line(student):
    from palmforge.modules import HashingStudent

    module = HashingStudent.load_from_checkpoint(student / "checkpoints" / "last.ckpt")
    assert module.class_names == load(student / "checkpoints" / "last.ckpt")["class_names"]


def test_what_is_given_wins_over_the_checkpoint(cli, student, tiny_data, logs):
    cli("test", *STUDENT, *tiny_data, "--ckpt_path=last", "--model.margin=99")
    config = yaml.safe_load((logs / "dhn_student/version_1/config.yaml").read_text())
    assert config["model"]["init_args"]["margin"] == 99.0


def test_other_identities_evaluate_codes_and_leave_the_classifier_out(
    cli, student, tiny_data, logs
):
    cli("test", *STUDENT, *tiny_data, "--ckpt_path=last", "--data.protocol=open_set",
        "--data.fractions=[0.25, 0.25, 0.5]")  # fmt: skip
    metrics, _ = read_results(logs / "dhn_student/version_1/results.json")
    assert metrics["test/num_genuine"] > 0 and 0 <= metrics["test/eer"] <= 1
    assert metrics["test/accuracy"] != metrics["test/accuracy"]  # NaN


def test_training_does_not_go_on_with_other_identities(cli, student, tiny_data):
    with pytest.raises(CheckpointError, match="training cannot go on with other classes"):
        cli("fit", *STUDENT, *tiny_data, *SHORT, "--ckpt_path=last", "--data.protocol=open_set",
            "--data.fractions=[0.5, 0.25, 0.25]", "--data.identities_per_batch=2")  # fmt: skip


def test_a_checkpoint_of_another_network_is_refused_in_a_sentence(cli, student, tiny_data):
    with pytest.raises(CheckpointError, match="of another network than this config"):
        cli("test", *TEACHER, *tiny_data, f"--ckpt_path={student / 'checkpoints' / 'last.ckpt'}")


def test_a_resumed_run_takes_the_best_checkpoint_along(cli, student, tiny_data, logs):
    before = load(student / "checkpoints" / "best.ckpt")
    cli("fit", *STUDENT, *tiny_data, "--ckpt_path=last", "--trainer.max_steps=5",
        "--trainer.val_check_interval=100")  # fmt: skip
    resumed = logs / "dhn_student/version_1/checkpoints"
    assert {path.name for path in resumed.iterdir()} == {"best.ckpt", "last.ckpt"}
    assert load(resumed / "best.ckpt")["global_step"] == before["global_step"]
    assert (student / "checkpoints" / "best.ckpt").exists()


def test_cross_domain_compares_probes_with_the_gallery_alone(cli, student, tiny_data, logs):
    cli("test", *STUDENT, *tiny_data, "--ckpt_path=last", "--data.domains=[IF, IN]",
        "--data.protocol=cross_domain", "--data.train_domains=[IF]",
        "--data.test_domains=[IN]")  # fmt: skip
    metrics, _ = read_results(logs / "dhn_student/version_1/results.json")
    assert metrics["test/num_genuine"] == 8 * 5 * 7  # 5 enrolled × 7 probes of each palm
    assert metrics["test/num_impostor"] == 8 * 7 * 5 * 7
    assert 0 <= metrics["test/accuracy"] <= 1  # the same identities


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_files(cli, tiny_data, logs):
    with pytest.raises(TrainingError, match=r"the loss is nan at step 0[\s\S]*IMG_\d+\.JPG"):
        cli("fit", *STUDENT, *tiny_data, *SHORT, "--model.margin=.nan")
    assert not list(logs.rglob("*.ckpt"))  # nothing to go on from, and nothing overwritten


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("--model.margn=1", "margn"),
        ("--model.margin=wide", "margin"),
        ("--data.protocol=first_six", "protocol"),
        ("--data.roi.sorce=whole", "sorce"),
        ("--trainer.max_stepz=3", "max_stepz"),
        ("--trainer.max_step=3", "max_step"),
        ("--model.reduction=median", "reduction"),
    ],
)
def test_wrong_keys_and_types_are_named_before_anything_is_loaded(
    cli, tiny_data, capsys, monkeypatch, setting, named
):
    monkeypatch.setattr(
        "palmforge.data.datamodule.scan_root", lambda *_: pytest.fail("data was touched")
    )
    with pytest.raises(SystemExit) as stop:
        cli("fit", *STUDENT, *tiny_data, setting)
    assert stop.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (["--data.root=/no/such/root"], DataError, "no directory '/no/such/root'"),
        (["--data.domains=[HN]"], DataError, "HN not in"),
        (["--data.domains=[]"], DataError, "the list is empty"),
        (["--data.cache_dir=/proc/nowhere"], DataError, "data.cache_dir: cannot write"),
        (["--trainer.logger.init_args.save_dir=/proc/x"], DataError, "logger.save_dir: cannot"),
        (["--model.teacher_ckpt=/no/such.ckpt"], CheckpointError, "Train a teacher first"),
        (["--ckpt_path=README.md"], CheckpointError, "no file"),
        (["--ckpt_path=configs/base.yaml"], CheckpointError, "not a checkpoint"),
        (["--data.identities_per_batch=30"], ConfigError, "30 are asked for"),
        (["--ckpt_path=last"], CheckpointError, "no last.ckpt in any run"),
    ],
)
def test_what_is_missing_is_said_at_the_start(cli, tiny_data, settings, error, message):
    with pytest.raises(error, match=message):
        cli("fit", *STUDENT, *tiny_data, *SHORT, *settings)


def test_an_unwritable_log_folder_is_found_at_the_start(cli, tiny_data, tmp_path, monkeypatch):
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 10**9, 10))
    with pytest.raises(DataError, match="MiB are needed"):
        cli("fit", *STUDENT, *tiny_data, *SHORT)


def test_evaluation_without_a_checkpoint_is_refused(cli, tiny_data):
    for command in ("test", "validate", "predict"):
        with pytest.raises(CheckpointError, match=f"{command} needs --ckpt_path"):
            cli(command, *STUDENT, *tiny_data)


def test_the_distilled_experiment_asks_for_its_teacher(cli, tiny_data):
    with pytest.raises(CheckpointError, match="Train a teacher first"):
        cli("fit", "--config=configs/experiment/dhn_distilled.yaml", *tiny_data, *SHORT)


def test_feature_cache_without_repeated_views_is_refused(cli, tiny_data, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.augmented_views"):
        cli("fit", *TEACHER, *tiny_data, *SHORT, "--model.frozen_blocks=1",
            f"--model.feature_cache_dir={tmp_path / 'features'}")  # fmt: skip


@pytest.mark.slow
def test_compiled_networks_train_and_keep_their_names(cli, tiny_data, logs):
    cli("fit", *STUDENT, *tiny_data, *SHORT, "--model.compile_network=true")
    state = load(logs / "dhn_student/version_0/checkpoints/last.ckpt")["state_dict"]
    assert "network.full3.weight" in state
    assert all(isinstance(values, torch.Tensor) for values in state.values())
