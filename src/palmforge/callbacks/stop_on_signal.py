"""A signal ends a fit after a whole step, on all processes after the same one."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import lightning as L
import torch
import torch.distributed as distributed
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

# The last one wins where processes got different ones.
_SIGNALS = [getattr(signal, n) for n in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, n)]


class StopOnSignal(L.Callback):
    """Ends a fit on SIGTERM, on SIGUSR1 ("start me again", SLURM's warning), and on Ctrl-C.

    Exit codes are 143, 138 and 130. A second Ctrl-C does not wait for the step.

    A signal to any process is heard by all after their next optimizer step, or the next batch of a
    validation; `LastCheckpoint` then saves what `--ckpt_path last` goes on from to the same bits.
    Several processes ask each other over the network of their hosts, a byte a step: no GPU is
    waited for.

    Lightning 2.6 sends and saves inside the signal handler, wherever each process may be: their
    collectives then meet those of other steps (a hang), and SLURM's checkpoint may hold half a
    step. Its handlers are replaced while a fit runs.
    """

    def __init__(self) -> None:
        self._heard = 0  # by this process: place in _SIGNALS, from 1
        self._step = 0
        self._process = 0
        self._before: dict[signal.Signals, Any] = {}
        self._group: Any = None  # of the hosts; None: that which the training has will do

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listens."""
        self._listen()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listens."""
        self._listen()
        self._step = trainer.global_step
        if trainer.world_size > 1 and distributed.get_backend() != "gloo":
            self._group = distributed.new_group(backend="gloo")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Stops, but not between micro-batches: their gradients are in no checkpoint."""
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            if stop := self._told_to_stop(trainer):
                # Now, and not by Lightning's `on_exception`: forked processes have none.
                for callback in trainer.checkpoint_callbacks:
                    callback.on_exception(trainer, pl_module, stop)
                raise stop

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Stops; the validation will be done again, whole."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if fitting and (stop := self._told_to_stop(trainer)):
            raise stop

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Hands the signals back; SIGTERM's is Lightning's to restore."""
        for number, handler in self._before.items():
            if number != signal.SIGTERM:
                signal.signal(number, handler)
        self._before = {}

    def _listen(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if not self._before:  # else one that came during the sanity check would be forgotten
            self._heard, self._process = 0, os.getpid()
        for number in _SIGNALS:
            self._before.setdefault(number, signal.signal(number, self._note))

    def _note(self, number: int, frame: FrameType | None) -> None:
        # A DataLoader's workers have this handler too, and are ended by their process.
        if os.getpid() != self._process:
            return
        place = _SIGNALS.index(signal.Signals(number)) + 1
        if number == signal.SIGINT and self._heard == place:
            raise KeyboardInterrupt
        self._heard = max(self._heard, place)

    def _told_to_stop(self, trainer: L.Trainer) -> SIGTERMException | None:
        place = self._heard
        if trainer.world_size > 1:
            heard = torch.tensor(place)
            distributed.all_reduce(heard, distributed.ReduceOp.MAX, group=self._group)
            place = int(heard)
        if not place:
            return None
        number = _SIGNALS[place - 1]
        rank_zero_info(
            f"{number.name}: stopped after step {trainer.global_step}; --ckpt_path last goes on"
        )
        return SIGTERMException(0 if _is_watched(trainer) else 128 + number)


def _is_watched(trainer: L.Trainer) -> bool:
    """Whether Lightning started this process: where one fails, it kills the first at its saving."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    launched = environment is not None and not environment.creates_processes_externally
    return launched and trainer.local_rank > 0
