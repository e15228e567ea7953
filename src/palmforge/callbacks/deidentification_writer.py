"""`predict` of a `Deidentifier` → photographs without their palms, and what was done to them."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_info

from palmforge.callbacks.rank_zero import on_rank_zero
from palmforge.callbacks.run_folder import output_folder
from palmforge.data.deidentification.output import (
    DeidentifiedFolder,
    is_new_folder,
    made_by,
)
from palmforge.data.deidentification.plan import DeidentificationPlan
from palmforge.data.generation.output import claim, told_if_full
from palmforge.errors import ConfigError

SETTINGS = "deidentification.json"
_TELL_EVERY = 60.0  # seconds
FORMAT_VERSION = 1  # raise it when the same settings would give other pictures


class DeidentificationWriter(L.Callback):
    """Writes OUT/<path of the picture>.png when all its hands are done; it fails closed.

    A photograph in which no hand is found, which cannot be read, or of which anything went wrong
    is not written: OUT/problems.csv tells why. What is written has no metadata but the colour
    profile, and every pixel outside the masks as in the photograph. OUT/manifest.parquet has a row
    for each file: hands, quads, seeds, settings. A run that was killed goes on with the same
    command; what OUT/problems.csv tells is not tried again (delete it for that).

    Args:
        directory: OUT, new or empty or of the same settings, neither the photographs' folder nor in
            it nor around it; null: `predictions/images` in the run's folder. `--data.out` wins.
        jpeg_quality: 1 … 100: smaller files, of which no pixel is exactly as it was; null: PNG.
        feather: Width of the edge inside the mask in which old and new are mixed, as a share of
            the hand's crop; 0: none.
    """

    def __init__(
        self, directory: str | None = None, jpeg_quality: int | None = None, feather: float = 0.01
    ) -> None:
        if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
            raise ConfigError(f"DeidentificationWriter.jpeg_quality: {jpeg_quality}, not 1 … 100")
        if not 0 <= feather <= 0.1:
            raise ConfigError(f"DeidentificationWriter.feather: {feather} is not in [0, 0.1]")
        self.directory = directory
        self.jpeg_quality = jpeg_quality
        self.feather = feather

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Looks at the directory and takes from the plan what is there: the loader comes later.

        Raises:
            ConfigError: If no directory is known, it is the photographs', or holds other files.
        """
        datamodule: Any = getattr(trainer, "datamodule", None)
        plan = getattr(datamodule, "plan", None)
        mine = stage == "predict" and isinstance(plan, DeidentificationPlan)
        self._plan = plan if mine else None
        if self._plan is None:
            return
        if not hasattr(pl_module, "repaint"):
            raise ConfigError(
                "model: DeidentificationDataModule is for Deidentifier, not for "
                f"{type(pl_module).__name__}"
            )
        warnings.filterwarnings("ignore", "Total length of `DataLoader` across ranks is zero")
        trainer.predict_loop.return_predictions = False  # they are on the disk
        self._out = output_folder(trainer, datamodule.out or self.directory, "data.out")
        self._folder = DeidentifiedFolder(
            self._out, self._plan, datamodule.others, self.feather, self.jpeg_quality
        )
        done = on_rank_zero(trainer, self._look)
        self._folder.done = done
        self._plan.leave_out(done, at_least=trainer.world_size)
        self._plan.is_kept = True
        self._claimed = False
        rank_zero_info(f"{self._out}: {self._progress(done)} are done already")

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Claims the directory; the model is loaded now."""
        if self._plan is None:
            return
        module: Any = pl_module
        self._folder.made_by = on_rank_zero(trainer, lambda: self._claim(module))
        self._claimed = True
        self._began = self._told = time.monotonic()
        self._groups = 0

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Pictures first, then their rows: what has a row is there.

        Raises:
            DataError: If the disk is full.
        """
        if self._plan is None or not isinstance(outputs, dict):
            return
        with told_if_full(self._out, lambda: self._progress(self._folder.look())):
            self._folder.write(outputs["photographs"], outputs["repainted"])
        self._groups += 1
        self._tell_progress(-(-len(self._plan) // trainer.world_size))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Barrier, and the tables. Lightning skips `on_predict_end` where nothing was left."""
        if stage != "predict" or self._plan is None:
            return
        if not self._claimed:
            self.on_predict_start(trainer, pl_module)
        trainer.strategy.barrier("photographs written")
        if trainer.is_global_zero:
            with told_if_full(self._out, lambda: self._progress(self._folder.look())):
                self._tell(*self._folder.join())
        trainer.strategy.barrier("tables written")
        self._plan = None

    def _look(self) -> set[str]:
        """The pictures that are done. Raises what can be known before the model is loaded."""
        assert self._plan is not None
        is_new = is_new_folder(self._out, SETTINGS, Path(self._plan.root))
        done = set() if is_new else self._folder.look()
        self._folder.sweep(done)
        return done

    def _claim(self, module: Any) -> dict[str, Any]:
        """Checks or writes the settings, and gives them."""
        assert self._plan is not None
        settings = {
            "format_version": FORMAT_VERSION, **made_by(module), **self._plan.settings(),
            "jpeg_quality": self.jpeg_quality, "feather": self.feather,
        }  # fmt: skip
        claim(self._out / SETTINGS, settings, "data.out")
        return settings

    def _progress(self, done: set[str]) -> str:
        assert self._plan is not None
        count = sum(source in done for source in self._plan.sources)
        return f"{count:,} of {len(self._plan.sources):,} photographs"

    def _tell_progress(self, groups: int) -> None:
        """Now and then: of the groups of one process, as the others have as many."""
        now = time.monotonic()
        if now - self._told < _TELL_EVERY:
            return
        self._told = now
        left = timedelta(
            seconds=round((groups - self._groups) * (now - self._began) / self._groups)
        )
        rank_zero_info(f"{100 * self._groups / groups:.0f} % of the photographs, {left} left")

    def _tell(self, rows: list[dict[str, Any]], problems: list[dict[str, Any]]) -> None:
        left_out = [problem["reason"] for problem in problems if problem["left_out"]]
        told = ", ".join(f"{why} {n:,}" for why, n in Counter(_kind(r) for r in left_out).items())
        line = f"{len(rows):,} pictures in {self._out}, of {len({r['source'] for r in rows}):,}"
        line += f" photographs; left out {len(left_out):,}"
        rank_zero_info(line + (f" ({told}): see {self._folder.problems_path}" if told else ""))


def _kind(reason: str) -> str:
    """Without what is the picture's own."""
    return reason.partition(":")[0] if reason.startswith("unreadable") else reason
