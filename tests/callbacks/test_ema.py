"""Averages of the weights that are trained."""

from __future__ import annotations

from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from runs import assert_same_bits, load
from torch.utils.data import DataLoader, TensorDataset

from palmforge.callbacks import LastCheckpoint, StepSeed, WeightEMA
from palmforge.callbacks.ema import averaged
from palmforge.errors import CheckpointError, ConfigError


class Line(L.LightningModule):
    """y = trained · frozen · x; notes the weight that each step sees."""

    def __init__(self, broken_validation: bool = False) -> None:
        super().__init__()
        self.frozen = torch.nn.Parameter(torch.full((3,), 2.0), requires_grad=False)
        self.trained = torch.nn.Parameter(torch.ones(3))
        self.register_buffer("seen", torch.zeros(1))
        self.broken_validation = broken_validation
        self.after_step: list[np.ndarray] = []
        self.evaluated: list[np.ndarray] = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.seen += 1
        return ((self.trained * self.frozen * x).sum(1) - y).square().mean() + torch.rand(1).sum()

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        self.after_step.append(self.trained.detach().numpy().copy())

    def validation_step(self, batch, batch_idx):
        self.evaluated.append(self.trained.detach().numpy().copy())
        if self.broken_validation and self.global_step:
            raise RuntimeError("broken")

    test_step = predict_step = validation_step

    def configure_optimizers(self):
        return torch.optim.AdamW([self.trained], lr=0.1)


def loader(one_batch: bool = False) -> DataLoader:
    """12 batches; all the same where a cut must not need a loader that remembers its place."""
    x = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))
    x = x[:2].repeat(12, 1) if one_batch else x
    return DataLoader(TensorDataset(x, x.sum(1)), batch_size=2)


def trainer_of(ema: WeightEMA | None, folder: Path | None = None, **settings) -> L.Trainer:
    callbacks: list[L.Callback] = [StepSeed(), *([ema] if ema else [])]
    if folder is not None:
        callbacks.append(LastCheckpoint())
        settings["default_root_dir"] = folder
    return L.Trainer(
        accelerator="cpu", logger=False, callbacks=callbacks, enable_progress_bar=False,
        enable_checkpointing=folder is not None, enable_model_summary=False,
        num_sanity_val_steps=0, **settings,
    )  # fmt: skip


def fit(model, ema, folder: Path | None = None, resume=None, data=None, **settings) -> L.Trainer:
    trainer = trainer_of(ema, folder, **{"max_steps": 12, "limit_val_batches": 0, **settings})
    trainer.fit(model, data or loader(), loader(), ckpt_path=resume)
    return trainer


def by_hand(steps: list[np.ndarray], decay: float, warmup: bool) -> np.ndarray:
    average = np.ones(3)
    for n, weights in enumerate(steps, start=1):
        d = min(decay, (1 + n) / (10 + n)) if warmup else decay
        average = d * average + (1 - d) * weights.astype(np.float64)
    return average


@pytest.mark.parametrize(("decay", "warmup"), [(0.999, True), (0.3, True), (0.9, False)])
def test_the_average_is_that_of_a_loop_by_hand(decay, warmup):
    model, ema = Line(), WeightEMA(decay, warmup)
    fit(model, ema)
    assert len(model.after_step) == 12
    expected = by_hand(model.after_step, decay, warmup)
    np.testing.assert_allclose(ema.state_dict()["average"]["trained"], expected, rtol=2e-6)
    assert np.abs(expected - model.after_step[-1]).max() > 1e-3  # it is another thing


def test_only_what_is_trained_is_averaged():
    model, ema = Line(), WeightEMA()
    fit(model, ema)
    state = ema.state_dict()
    assert state.keys() == {"num_updates", "average"} and list(state["average"]) == ["trained"]
    assert state["average"]["trained"].dtype == torch.float32
    assert model.frozen.tolist() == [2.0] * 3


def test_training_is_the_same_with_and_without_it():
    with_it, without = Line(), Line()
    fit(with_it, WeightEMA(), limit_val_batches=1, val_check_interval=4)
    fit(without, None, limit_val_batches=1, val_check_interval=4)
    np.testing.assert_array_equal(with_it.after_step, without.after_step)


def test_accumulated_micro_batches_are_one_step():
    model, ema = Line(), WeightEMA()
    fit(model, ema, max_steps=4, accumulate_grad_batches=3)
    assert len(model.after_step) == 4 and ema.state_dict()["num_updates"] == 4
    expected = by_hand(model.after_step, 0.999, True)
    np.testing.assert_allclose(ema.state_dict()["average"]["trained"], expected, rtol=2e-6)


def test_validation_sees_the_averages_and_training_goes_on_from_the_weights():
    model = Line()
    fit(model, WeightEMA(0.9), limit_val_batches=1, val_check_interval=6)
    for seen, steps in zip(model.evaluated, (6, 12), strict=True):
        expected = by_hand(model.after_step[:steps], 0.9, True)
        np.testing.assert_allclose(seen, expected, rtol=2e-6)
    np.testing.assert_array_equal(model.trained.detach(), model.after_step[-1])


def test_an_error_in_validation_leaves_the_weights_in_the_checkpoint(tmp_path):
    model = Line(broken_validation=True)
    with pytest.raises(RuntimeError, match="broken"):
        fit(model, WeightEMA(), tmp_path, limit_val_batches=1, val_check_interval=6)
    np.testing.assert_array_equal(model.trained.detach(), model.after_step[5])
    checkpoint = load(tmp_path / "checkpoints" / "last.ckpt")
    np.testing.assert_array_equal(checkpoint["state_dict"]["trained"], model.after_step[5])


def test_a_resumed_run_has_the_bits_of_one_that_was_not_cut(tmp_path):
    same = {"data": loader(one_batch=True)}
    fit(Line(), WeightEMA(), tmp_path / "whole", **same)
    fit(Line(), WeightEMA(), tmp_path / "cut", max_steps=5, **same)
    cut = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    fit(Line(), WeightEMA(), tmp_path / "twice", max_steps=8, resume=cut, **same)
    twice = tmp_path / "twice" / "checkpoints" / "last.ckpt"
    fit(Line(), WeightEMA(), tmp_path / "on", resume=twice, **same)
    whole, on = (load(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("whole", "on"))
    for key in ("state_dict", "optimizer_states"):
        assert_same_bits(whole[key], on[key], key)
    assert whole["callbacks"]["WeightEMA"]["num_updates"] == 12
    assert_same_bits(whole["callbacks"]["WeightEMA"], on["callbacks"]["WeightEMA"])


def test_a_resume_amid_accumulation_counts_no_step_twice(tmp_path):
    settings = {"accumulate_grad_batches": 3}
    fit(Line(), WeightEMA(), tmp_path / "cut", max_steps=2, **settings)
    ema, model = WeightEMA(), Line()
    cut = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    fit(model, ema, resume=cut, max_steps=4, **settings)
    assert ema.state_dict()["num_updates"] == 4 and len(model.after_step) == 2


def test_a_checkpoint_is_tested_and_exported_with_its_averages(tmp_path):
    model = Line()
    trainer = fit(model, WeightEMA(0.9), tmp_path)
    path = tmp_path / "checkpoints" / "last.ckpt"
    expected = by_hand(model.after_step, 0.9, True)
    weights = averaged(load(path))
    np.testing.assert_allclose(weights["trained"], expected, rtol=2e-6)
    assert weights.keys() == load(path)["state_dict"].keys()
    np.testing.assert_array_equal(load(path)["state_dict"]["trained"], model.after_step[-1])
    for task in ("test", "validate", "predict"):
        other = Line()  # a process of its own
        getattr(trainer_of(WeightEMA()), task)(other, loader(), ckpt_path=path)
        np.testing.assert_allclose(other.evaluated[0], expected, rtol=2e-6)
        np.testing.assert_array_equal(other.trained.detach(), model.after_step[-1])
    model.evaluated.clear()
    trainer.test(model, loader())  # the run goes on to test what it has in memory
    np.testing.assert_allclose(model.evaluated[0], expected, rtol=2e-6)


def test_a_checkpoint_without_averages_is_taken_as_it_is(tmp_path):
    model = Line()
    fit(model, None, tmp_path)
    path = tmp_path / "checkpoints" / "last.ckpt"
    with pytest.raises(CheckpointError, match="without the callback WeightEMA"):
        averaged(load(path))
    ema = WeightEMA()
    fit(Line(), ema)  # averages of another run in memory
    other = Line()
    trainer_of(ema).test(other, loader(), ckpt_path=path)
    np.testing.assert_array_equal(other.evaluated[0], model.after_step[-1])
    fit(Line(), ema, resume=path, max_steps=13)  # they begin with the weights of the checkpoint
    assert ema.state_dict()["num_updates"] == 1


def test_averages_of_other_weights_are_refused_by_name(tmp_path):
    fit(Line(), WeightEMA(), tmp_path)
    path = tmp_path / "checkpoints" / "last.ckpt"
    model = Line()
    model.frozen.requires_grad_(True)
    with pytest.raises(CheckpointError, match="1 differ, first 'frozen'"):
        fit(model, WeightEMA(), resume=path)
    checkpoint = load(path)
    del checkpoint["state_dict"]["trained"]
    with pytest.raises(CheckpointError, match="average of 'trained'"):
        averaged(checkpoint)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ConfigError, match=r"WeightEMA\.decay"):
        WeightEMA(decay)


def test_both_processes_hold_equal_averages(tmp_path):
    class Keep(L.Callback):
        def on_train_end(self, trainer, pl_module):
            state = {**ema.state_dict(), "live": pl_module.trained.detach()}
            torch.save(state, tmp_path / f"{trainer.global_rank}.pt")

    ema = WeightEMA()
    trainer = trainer_of(ema, max_steps=5, limit_val_batches=0, devices=2, strategy="ddp_fork")
    trainer.callbacks.append(Keep())
    trainer.fit(Line(), loader())
    one, two = load(tmp_path / "0.pt"), load(tmp_path / "1.pt")
    assert one["num_updates"] == 5
    assert_same_bits(one, two)
    assert not torch.equal(one["average"]["trained"], one["live"])
