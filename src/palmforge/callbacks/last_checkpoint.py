"""The newest state of a fit, for resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from palmforge.errors import TrainingError

_BATCHES, _VALIDATION = "epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress"


def _validates_next(trainer: L.Trainer) -> bool:
    """Whether Lightning will, once the hooks of this batch are done."""
    loop: Any = trainer.fit_loop
    return bool(loop.epoch_loop._should_check_val_fx(loop._data_fetcher))


def _begun(done: int) -> dict[str, int]:
    """Lightning's count of batches, the first of which has only been asked for."""
    return {"ready": done + 1, "started": done + 1, "processed": done, "completed": done}


class LastCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/last.ckpt`: every n steps, at the end, on a signal and on an error.

    After an error of one process of several there is none: the others would be waited for.
    `ModelCheckpoint(save_last=True)` with a monitor rewrites it only when a better one is saved,
    leaves out the steps after the last multiple of n, and on an error in `test` would write one
    there too.

    A run that goes on from a step after which a validation was due, or from the midst of one, does
    that validation first; Lightning 2.6 leaves it out, and the best checkpoint with it.

    Args:
        every_n_train_steps: n, optimizer steps.
    """

    def __init__(self, every_n_train_steps: int = 500) -> None:
        super().__init__(
            filename="last",
            every_n_train_steps=every_n_train_steps,
            save_on_exception=True,
            enable_version_counter=False,
        )

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Of any checkpoint: a validation that is due has not begun, nor is one half done."""
        progress = checkpoint.get("loops", {}).get("fit_loop")
        if progress is None:
            return
        batches, validation = progress[_BATCHES], progress[_VALIDATION]
        over = batches["total"]["completed"] < batches["total"]["processed"]  # but for its hooks
        is_due = over and _validates_next(trainer)
        current = validation["current"]
        is_half_done = trainer.validating and current["completed"] < current["ready"]
        if not is_due and not is_half_done:
            return
        if is_due:
            for count in (batches["total"], batches["current"]):
                count["completed"] = count["processed"]
        done = validation["total"]["completed"]
        validation |= {"total": _begun(done), "current": _begun(0), "is_last_batch": False}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: the newest state of the run before is not this run's."""

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Saves every n steps, and the last one: a moment later Lightning counts the epoch as over.

        Resumed with a larger `max_steps`, training then goes on in the middle of the epoch.
        """
        super().on_train_batch_end(trainer, pl_module, *args, **kwargs)
        if trainer.global_step == trainer.max_steps:
            self._save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves where training ends at an epoch's end, by `max_epochs` or an early stop."""
        super().on_train_end(trainer, pl_module)
        if trainer.global_step != trainer.max_steps:
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        if self.dirpath is not None and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(Path(self.dirpath) / "last.ckpt", weights_only=False)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Saves, if there is a training to go on with: not after a loss that is not finite.

        Of several processes, only where all stop together (`StopOnSignal`): else those that know of
        no error would be waited for, and all of them hang.
        """
        together = trainer.world_size == 1 or isinstance(exception, SIGTERMException)
        fitting = trainer.state.fn == TrainerFn.FITTING
        if fitting and together and not isinstance(exception, TrainingError):
            super().on_exception(trainer, pl_module, exception)
