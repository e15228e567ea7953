"""Exponential moving average of the weights that are trained."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from palmforge.errors import CheckpointError, ConfigError
from palmforge.networks.sharded_tensors import own_part, sharded_like, whole

STATE_KEY = "WeightEMA"


class WeightEMA(L.Callback):
    """Averages the trainable parameters over the optimizer's steps, and evaluates the average.

    After step n (from 1), average ← d · average + (1 − d) · weights with
    d = min(decay, (1 + n) / (10 + n)); before the first step it is the initial weights.

    Validation, test and predict run with the averages; training never sees them. A checkpoint's
    `state_dict` holds the live weights, for going on, and the averages lie with this callback's
    state (`averaged` puts them in place). Lightning's `EMAWeightAveraging` copies the whole
    module, frozen weights and buffers too: for LoRA on Stable Diffusion that is gigabytes in
    memory and in each checkpoint. Here buffers stay as they are.

    Every process averages its own weights: equal ones give equal averages (DDP), and of sharded
    ones each its part.

    Args:
        decay: In [0, 1).
        warmup: Begin with a smaller decay; else d = decay.
    """

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"WeightEMA.decay must be in [0, 1), got {decay}")
        self.decay = decay
        self.warmup = warmup
        self._average: dict[str, Tensor] = {}  # float32, in the order of the module
        self._num_updates = 0
        self._step = 0
        self._loaded = False  # the averages are of the checkpoint of this fit, test …
        self._live: dict[str, Tensor] = {}  # while the averages are in the module

    @property
    def state_key(self) -> str:
        """One average a run, whatever its settings."""
        return STATE_KEY

    def state_dict(self) -> dict[str, Any]:
        """Tensors and a whole number: readable with `weights_only=True`."""
        average = {name: whole(value) for name, value in self._average.items()}
        return {"num_updates": self._num_updates, "average": average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the averages of a checkpoint."""
        self._num_updates = state_dict["num_updates"]
        self._average = dict(state_dict["average"])
        self._loaded = True

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Before a checkpoint is read, if one is."""
        self._loaded = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Knows, on a resume, which steps are counted."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Once an optimizer step: not after micro-batches whose gradients are accumulated."""
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            self._update(pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Averages in."""
        self._swap_in(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Averages out; checkpoint callbacks come after it."""
        self._swap_out(pl_module)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Averages in."""
        self._swap_in(trainer, pl_module)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Averages out."""
        self._swap_out(pl_module)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Averages in."""
        self._swap_in(trainer, pl_module)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Averages out."""
        self._swap_out(pl_module)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Averages out, before `LastCheckpoint` saves."""
        self._swap_out(pl_module)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begins with the weights as they are, unless a checkpoint brought averages."""
        trained = {
            name: parameter
            for name, parameter in pl_module.named_parameters()
            if parameter.requires_grad
        }
        if not self._loaded and (trainer.ckpt_path or trainer.global_step == 0):
            self._num_updates = 0
            self._average = {n: p.detach().clone().float() for n, p in trained.items()}
        elif differing := sorted(self._average.keys() ^ trained.keys()):
            raise CheckpointError(
                f"{trainer.ckpt_path}: its averages (WeightEMA) are not of the weights that are "
                f"trained now; {len(differing)} differ, first {differing[0]!r}. Train the same "
                "ones, or leave the callback out"
            )
        self._pairs(pl_module)

    @torch.no_grad()
    def _update(self, pl_module: L.LightningModule) -> None:
        self._num_updates += 1
        n = self._num_updates
        decay = min(self.decay, (1 + n) / (10 + n)) if self.warmup else self.decay
        live = [own_part(p.detach()).float() for _, p in self._pairs(pl_module)]
        torch._foreach_lerp_([own_part(a) for a in self._average.values()], live, 1 - decay)

    def _pairs(self, pl_module: L.LightningModule) -> list[tuple[str, torch.nn.Parameter]]:
        """The averaged parameters, whose averages are now on their devices.

        Raises:
            CheckpointError: If the module lacks one.
        """
        parameters = dict(pl_module.named_parameters())
        if missing := [name for name in self._average if name not in parameters]:
            raise CheckpointError(
                f"the averages of this checkpoint (WeightEMA) are of another model: it has no "
                f"{missing[0]!r}, and {len(missing) - 1} more are missing"
            )
        pairs = [(name, parameters[name]) for name in self._average]
        with torch.inference_mode(False):  # a sanity check may be the first to move them
            self._average = {n: sharded_like(self._average[n], p).to(p.device) for n, p in pairs}
        return pairs

    @torch.no_grad()
    def _swap_in(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING
        if self._live or (not fitting and trainer.ckpt_path and not self._loaded):
            return  # a checkpoint without averages: its weights as they are
        pairs = self._pairs(pl_module)
        self._live = {name: parameter.detach().clone() for name, parameter in pairs}
        for name, parameter in pairs:
            parameter.copy_(self._average[name])

    @torch.no_grad()
    def _swap_out(self, pl_module: L.LightningModule) -> None:
        parameters = dict(pl_module.named_parameters())
        for name, weights in self._live.items():
            parameters[name].copy_(weights)
        self._live = {}


def averaged(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights of a checkpoint with the averages in the place of the live ones, for export.

    Args:
        checkpoint: As `torch.load(path, weights_only=True)` gives it; it is not changed.

    Returns:
        Its `state_dict`; averages have the dtype of what they replace.

    Raises:
        CheckpointError: If it has no averages, or of weights that it does not hold.
    """
    state = checkpoint.get("callbacks", {}).get(STATE_KEY)
    if state is None:
        raise CheckpointError(
            "this checkpoint has no averaged weights: it was trained without the callback WeightEMA"
        )
    weights: dict[str, Tensor] = dict(checkpoint["state_dict"])
    for name, average in state["average"].items():
        if name not in weights:
            raise CheckpointError(f"this checkpoint has an average of {name!r}, but no such weight")
        weights[name] = average.to(weights[name].dtype)
    return weights
