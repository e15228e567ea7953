"""What callbacks write to: the run's folder, and figures for the loggers."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure

from palmforge.data.atomic import write_aside
from palmforge.errors import ConfigError


def run_folder(trainer: L.Trainer) -> Path | None:
    """The folder of this run, or None where nothing is logged. Call it on every process."""
    # Of trainer.log_dir and trainer.default_root_dir only the first belongs to a logger.
    return Path(trainer.log_dir) if trainer.loggers and trainer.log_dir else None


def output_folder(
    trainer: L.Trainer, given: str | None, key: str, name: str = "predictions/images"
) -> Path:
    """Where pictures are written: what is given, or a folder of the run.

    Args:
        trainer: Call it on every process.
        given: By the user; null: `name` in the run's folder.
        key: The setting, for the message.
        name: Of the folder in that of the run.

    Raises:
        ConfigError: If there is neither.
    """
    if given is not None:
        return Path(given).expanduser()
    folder = run_folder(trainer)
    if folder is None:
        raise ConfigError(f"{key} must be given where trainer.logger is false")
    return folder / name


def save_figure(folder: Path, trainer: L.Trainer, name: str, figure: Figure, log: bool) -> None:
    """Writes `figures/<name>.png`, and gives it to the loggers that take pictures.

    Args:
        folder: Of the run. Call this on rank 0 only.
        trainer: Whose loggers.
        name: Of the figure.
        figure: A matplotlib figure.
        log: False for figures that show palms, unless the user wants them to leave the machine.
    """
    path = folder / "figures" / f"{name}.png"
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=110, bbox_inches="tight")
    if not log:
        return
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(f"figures/{name}", [str(path)])
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_figure(f"figures/{name}", figure, trainer.global_step)
