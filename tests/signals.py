"""For tests of pre-emption that start `train.py`: PYTHONPATH=tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Literal

import lightning as L


class SignalOnce(L.Callback):
    """In the middle of a step rank 1 signals itself or what started it; not when started again.

    Args:
        step: Which.
        to: `itself` or its `parent`.
        name: Of the signal.
        marker: A file that is there when it has.
    """

    def __init__(self, step: int, to: Literal["itself", "parent"], name: str, marker: str) -> None:
        self.step, self.to, self.name, self.marker = step, to, name, Path(marker)

    def on_before_backward(self, trainer: L.Trainer, pl_module: Any, loss: Any) -> None:
        here = trainer.global_step == self.step and trainer.global_rank == 1
        if here and not self.marker.exists():
            self.marker.touch()
            pid = os.getpid() if self.to == "itself" else os.getppid()
            os.kill(pid, getattr(signal, self.name))
