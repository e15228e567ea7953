"""A fit that goes on does what one in a piece would have done: validations too."""

from __future__ import annotations

import shutil
import signal
import warnings
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from palmforge.callbacks import BestCheckpoint, LastCheckpoint, StopOnSignal

STEPS = 20
ROWS = torch.arange(32.0)[:, None]  # 8 batches of 4 an epoch


class Walk(L.LightningModule):
    """Writes down what happens; its `val/loss` is least after step 8."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[tuple[str, int]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append(("step", self.global_step))
        return self.layer(batch).mean()

    def validation_step(self, batch, batch_idx):
        if batch_idx == 0:
            self.seen.append(("validation", self.global_step))
        self.log("val/loss", float(abs(self.global_step - 8)))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


class Keep(L.Callback):
    """Copies what `last.ckpt` is when a validation begins: what a process killed then leaves."""

    def on_validation_start(self, trainer, pl_module):
        folder = trainer.default_root_dir
        shutil.copy(f"{folder}/last.ckpt", f"{folder}/killed_at_{trainer.global_step}.ckpt")


def fit(folder, *callbacks, ckpt_path=None, max_steps=STEPS, **settings):
    module, best = Walk(), BestCheckpoint("val/loss")
    last = LastCheckpoint(every_n_train_steps=1)
    last.dirpath = best.dirpath = str(folder)
    trainer = L.Trainer(
        accelerator="cpu", max_steps=max_steps, max_epochs=-1, logger=False, num_sanity_val_steps=0,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        callbacks=[last, best, *callbacks], **settings,
    )  # fmt: skip
    loaders = DataLoader(ROWS, batch_size=4), DataLoader(ROWS, batch_size=16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, *loaders, ckpt_path=ckpt_path, weights_only=False)
    return module.seen, best


@pytest.mark.parametrize(
    "settings",
    [
        {"val_check_interval": 4},
        {"val_check_interval": 4, "check_val_every_n_epoch": None},
        {},  # at the end of an epoch
        {"val_check_interval": 8, "check_val_every_n_epoch": None, "accumulate_grad_batches": 2},
    ],
)
def test_a_validation_that_was_due_is_done_when_the_fit_goes_on(tmp_path, settings):
    whole, best = fit(tmp_path, Keep(), **settings)
    assert best.best_model_score == 0
    kept = sorted(tmp_path.glob("killed_at_*.ckpt"))
    assert len(kept) >= 2
    for file in kept:
        step = int(file.stem.removeprefix("killed_at_"))
        if step == STEPS:
            continue  # there is nothing to go on with
        seen, again = fit(tmp_path / str(step), ckpt_path=file, **settings)
        assert seen == whole[whole.index(("validation", step)) :]
        assert again.best_model_score == 0 or step > 8


def test_a_longer_fit_and_one_without_validations_go_on_too(tmp_path):
    every = {"val_check_interval": 4, "check_val_every_n_epoch": None}
    whole, _ = fit(tmp_path / "whole", **every)
    fit(tmp_path / "short", max_steps=12, **every)
    last = tmp_path / "short" / "last.ckpt"
    seen, _ = fit(tmp_path / "longer", ckpt_path=last, **every)
    assert seen == whole[whole.index(("validation", 12)) :]  # it was done; it is done again
    seen, _ = fit(tmp_path / "none", ckpt_path=last, limit_val_batches=0)
    assert seen == [("step", step) for step in range(12, STEPS)]


@pytest.mark.parametrize(
    ("processes", "error", "saves"),
    [(1, MemoryError(), True), (2, MemoryError(), False), (2, SIGTERMException(143), True)],
)
def test_where_others_know_of_no_error_nobody_waits_for_them(monkeypatch, processes, error, saves):
    saved = []
    monkeypatch.setattr(ModelCheckpoint, "on_exception", lambda *args: saved.append(args))
    state = SimpleNamespace(fn=TrainerFn.FITTING)
    trainer = SimpleNamespace(world_size=processes, state=state)
    LastCheckpoint().on_exception(trainer, None, error)
    assert bool(saved) == saves


def test_a_signal_during_the_sanity_check_is_not_forgotten():
    stop, trainer = StopOnSignal(), SimpleNamespace(world_size=1, global_step=0)
    try:
        stop.on_sanity_check_start(trainer, None)
        signal.raise_signal(signal.SIGUSR1)
        stop.on_train_start(trainer, None)
        assert stop._heard
    finally:
        for number, handler in stop._before.items():
            signal.signal(number, handler)
