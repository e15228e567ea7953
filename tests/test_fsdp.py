"""A Stable Diffusion cut over two processes learns what a whole one does."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from controlnets import captures, controlnet
from generators import TWO, Losses, generator, palms, trainer
from lightning.pytorch.strategies.launchers.multiprocessing import _MultiProcessingLauncher
from lightning.pytorch.trainer.states import TrainerFn
from runs import assert_same_bits, load
from torch.distributed.tensor import DTensor
from torch.optim import SGD

from palmforge.callbacks import GenerationReport, LastCheckpoint, SampleGrid, WeightEMA
from palmforge.errors import ConfigError
from palmforge.modules.sharded import ShardedStrategy

LAST = "checkpoints/last.ckpt"
assert_close = partial(torch.testing.assert_close, rtol=1e-4, atol=2e-5)


class Launcher(_MultiProcessingLauncher):
    """Brings no weights home; each checks its own."""

    def _recover_results_in_main_process(self, worker_output, trainer):
        """Would load tensors that are cut."""


class Forked(ShardedStrategy):
    """The same, without starting Python again."""

    def __init__(self) -> None:
        super().__init__(least_parameters=1000)

    def _configure_launcher(self) -> None:
        self._launcher = Launcher(self, start_method="fork")


class Cut(Losses):
    """Checks, on each process, that it holds half of what there is."""

    def on_train_batch_end(self, trainer, pl_module, *args):
        for name, weight in pl_module.named_parameters():
            assert isinstance(weight, DTensor), name
            assert weight.to_local().numel() <= (weight.numel() + weight.shape[0]) / 2 + 1, name
        grouped = {type(m).__name__ for m in pl_module.modules()} & {"FSDPUNet2DConditionModel"}
        assert grouped


def fit(folder, root, *callbacks, ckpt_path=None, module=None, **settings):
    built = trainer(folder, *callbacks, LastCheckpoint(), WeightEMA(0.9), **settings)
    built.fit(module or generator(), datamodule=palms(root), ckpt_path=ckpt_path)
    return load(folder / LAST)


def sharded():
    return {"devices": 2, "strategy": Forked()}


@pytest.mark.parametrize("train", ["lora", "full"])
def test_sharded_weights_become_those_of_ddp(palms_root, tmp_path, train):
    def module():
        if train == "lora":
            return generator()
        # AdamW makes a whole step of a gradient that rounding alone keeps from 0.
        return generator(train="full", optimizer=lambda p: SGD(p, lr=0.1, momentum=0.9))

    evaluated = {"limit_val_batches": 2, "val_check_interval": 2, "check_val_every_n_epoch": None}
    evaluated = evaluated if train == "lora" else {}
    one = fit(tmp_path / "one", palms_root, module=module(), **evaluated)
    ddp = fit(tmp_path / "ddp", palms_root, module=module(), **TWO)
    seen = [Cut(), SampleGrid(num_images=3)]
    cut = fit(tmp_path / "cut", palms_root, *seen, module=module(), **sharded(), **evaluated)
    for other in (one, ddp):
        assert cut["state_dict"].keys() == other["state_dict"].keys()
        assert cut["global_step"] == other["global_step"] == 4
        assert_close(cut["state_dict"], other["state_dict"])
        assert_close(*(c["callbacks"]["WeightEMA"]["average"] for c in (cut, other)))
    if train == "lora":
        assert all("lora_" in name for name in cut["state_dict"])
        assert (tmp_path / "cut/figures/samples_0000002.png").is_file()


@pytest.mark.slow
def test_a_sharded_checkpoint_is_one_of_a_single_process(palms_root, tmp_path):
    """Stopped after two steps and gone on with, sharded or not."""

    def go_on(name, start=None, **settings):
        module = generator(lr_schedule="constant")  # a cosine over two steps is another
        path = None if start is None else tmp_path / start / LAST
        return fit(tmp_path / name, palms_root, module=module, ckpt_path=path, **settings)

    whole = go_on("whole", **sharded())
    half = go_on("half", max_steps=2, **sharded())
    assert len(half["optimizer_states"][0]["state"]) == len(half["state_dict"])
    again = go_on("again", "half", **sharded())
    assert_same_bits(again["state_dict"], whole["state_dict"])
    assert_same_bits(again["optimizer_states"], whole["optimizer_states"])
    assert_same_bits(again["callbacks"]["WeightEMA"], whole["callbacks"]["WeightEMA"])

    on_one = go_on("on_one", "half")
    go_on("half_on_one", max_steps=2)
    back = go_on("back", "half_on_one", **sharded())
    for other in (on_one, back):
        assert_close(other["state_dict"], whole["state_dict"])
        averages = [c["callbacks"]["WeightEMA"]["average"] for c in (other, whole)]
        assert_close(*averages)


@pytest.mark.parametrize("wrong", ["at_validation", "own weights"])
def test_what_would_wait_for_ever_is_refused(palms_root, wrong):
    callbacks, module = [], generator()
    if wrong == "at_validation":
        callbacks = [GenerationReport(at_validation=True)]
    else:
        module.extra = torch.nn.Parameter(torch.zeros(2))
    built = trainer(None, *callbacks, devices=2, strategy=Forked())
    built.strategy.connect(module)
    with pytest.raises(ConfigError, match=r"at_validation|weights of its own"):
        built.strategy._check(built)


def test_a_test_in_the_processes_of_a_sharded_fit_is_refused(monkeypatch):
    module = generator()
    module.configure_model()
    built = trainer(None, devices=2, strategy=Forked())
    built.state.fn = TrainerFn.TESTING
    built.strategy.connect(module)
    monkeypatch.setattr("palmforge.modules.sharded.is_sharded", lambda value: True)
    with pytest.raises(ConfigError, match=r"test_ckpt: .* Run `test` after `fit`"):
        built.strategy.setup(built)


def test_a_controlnet_and_its_frozen_unet_are_cut_too(palms_root, tmp_path):
    """With gradient checkpointing, whose second forward pass gathers again."""
    last = []
    for name, settings in (("one", {}), ("cut", sharded())):
        built = trainer(tmp_path / name, LastCheckpoint(), **settings)
        module = controlnet(gradient_checkpointing=True, optimizer=lambda p: SGD(p, lr=0.1))
        built.fit(module, datamodule=captures(palms_root))
        last.append(load(tmp_path / name / LAST))
    one, cut = (state["state_dict"] for state in last)
    assert all(name.startswith("controlnet.") for name in one)
    assert_close(cut, one)
