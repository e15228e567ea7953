"""The best state of a fit, for using."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from palmforge.data.atomic import write_aside


class BestCheckpoint(ModelCheckpoint):
    """Keeps `checkpoints/best.ckpt`, over resumes too.

    A resumed run has a folder of its own, and `ModelCheckpoint` then forgets the best of the run
    that it goes on from: here that file is taken along, to be replaced by a better one only.

    Args:
        monitor: The metric.
        mode: Whether less (`min`) or more (`max`) of it is better.
    """

    def __init__(self, monitor: str = "val/eer", mode: str = "min") -> None:
        super().__init__(filename="best", monitor=monitor, mode=mode, enable_version_counter=False)
        self._fitting = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Learns whether there will be anything to keep."""
        super().setup(trainer, pl_module, stage)
        self._fitting = stage == "fit"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the earlier best along."""
        earlier = Path(state_dict["best_model_path"] or "nothing yet")
        if not self._fitting or self.dirpath is None or not earlier.is_file():
            return
        here = Path(self.dirpath) / "best.ckpt"
        if here != earlier.absolute():
            with write_aside(here) as aside:
                shutil.copyfile(earlier, aside)
        paths = {"dirpath": self.dirpath, "best_model_path": str(here)}
        scores = {str(here): state_dict["best_model_score"]}
        moved = {**paths, "best_k_models": scores, "kth_best_model_path": str(here)}
        super().load_state_dict({**state_dict, **moved})
