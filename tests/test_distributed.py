"""Two CPU processes do what one does on the same global batch."""

from __future__ import annotations

import csv

import generators
import pyarrow.parquet as pq
import pytest
import torch
from runs import STUDENT, TEACHER, callbacks_yaml, load, newest

TWO = ["--trainer.devices=2", "--trainer.strategy=ddp_fork"]
THREE = ["--trainer.devices=3", "--trainer.strategy=ddp_fork"]


@pytest.fixture
def fit(cli, tiny_data, tmp_path):
    def run(name: str, *settings: str) -> None:
        cli(
            "fit", *settings, *tiny_data, f"--name={name}", "--trainer.max_steps=6",
            "--trainer.log_every_n_steps=1", "--trainer.val_check_interval=1.0",
            "--trainer.check_val_every_n_epoch=1", "--trainer.num_sanity_val_steps=0",
            callbacks_yaml(tmp_path / "callbacks.yaml"),
        )  # fmt: skip

    return run


def _losses(logs, name: str) -> list[list[float]]:
    with (logs / name / "version_0" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    names = sorted(key for key in rows[0] if key.startswith("train/"))
    return [[float(row[key]) for key in names] for row in rows]


def _results(logs, name: str) -> dict[str, float]:
    from palmforge.callbacks.evaluation_report import read_results

    return read_results(logs / name / "version_0" / "results.json")[0]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("model", ["teacher", "student", "distilled"])
def test_two_processes_give_the_losses_and_weights_of_one(fit, logs, model, reduction):
    # In float64: AdamW makes a whole step of a gradient that rounding alone keeps from 0.
    settings = [*(TEACHER if model == "teacher" else STUDENT), f"--model.reduction={reduction}"]
    settings += ["--trainer.precision=64-true"]
    if model == "teacher":
        settings += ["--model.dropout=0.0"]
    if model == "distilled":
        fit("its_teacher", *TEACHER)
        settings += [f"--model.teacher_ckpt={newest(logs / 'its_teacher', 'last.ckpt')}"]
    fit("one", *settings)
    fit("two", *settings, *TWO)

    # The last digits of the logged losses are float32's.
    torch.testing.assert_close(
        torch.tensor(_losses(logs, "one")), torch.tensor(_losses(logs, "two")), rtol=1e-5, atol=1e-6
    )
    one, two = (load(newest(logs / name, "last.ckpt"))["state_dict"] for name in ("one", "two"))
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8)


def test_an_uneven_test_set_gives_the_same_figures_on_three_processes(cli, fit, tiny_data, logs):
    """2 identities × 7 images in batches of 3: one is repeated, and last batches hold two."""
    open_set = ["--data.protocol=open_set", "--data.domains=[IF]"]
    fit("model", *STUDENT, *open_set)
    for name, devices in (("one", []), ("three", THREE)):
        cli(
            "test", *STUDENT, *tiny_data, *devices, *open_set, f"--name={name}",
            "--data.eval_batch_size=3", f"--ckpt_path={newest(logs / 'model', 'last.ckpt')}",
        )  # fmt: skip
    one, three = (_results(logs, name) for name in ("one", "three"))
    assert one["test/num_genuine"] == 2 * 21
    assert three == pytest.approx(one, rel=1e-6, nan_ok=True)  # a third of 3 x is not always x


def test_an_uneven_validation_set_gives_the_same_loss_on_three_processes(palms_root):
    """As above, of a generator."""
    losses = []
    for settings in ({}, {"devices": 3, "strategy": "ddp_fork"}):
        trainer = generators.trainer(None, limit_val_batches=1.0, **settings)
        palms = generators.palms(palms_root)
        (found,) = trainer.validate(generators.ready(), datamodule=palms, verbose=False)
        losses.append(found["val/loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_predict_on_two_processes_writes_each_image_once_and_in_order(cli, fit, tiny_data, logs):
    fit("model", *STUDENT)
    checkpoint = f"--ckpt_path={newest(logs / 'model', 'last.ckpt')}"
    for name, devices in (("one", []), ("two", TWO)):
        cli(
            "predict", *STUDENT, *tiny_data, *devices, f"--name={name}", checkpoint,
            "--data.eval_batch_size=5", "--return_predictions=false",
        )  # fmt: skip
    tables = [
        pq.read_table(logs / name / "version_0/predictions/codes.parquet")
        for name in ("one", "two")
    ]
    assert tables[0].num_rows == 8 * 7
    assert tables[0].equals(tables[1])
    row = tables[0].to_pylist()[0]
    assert row["identity"] in row["path"] and len(row["code"]) == 16
