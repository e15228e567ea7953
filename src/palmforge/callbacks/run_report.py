"""What a run was made of: the data that it saw, the versions that it ran on."""

from __future__ import annotations

import csv
import json
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
import torch

import palmforge
from palmforge.callbacks.run_folder import run_folder
from palmforge.data.atomic import check_writable, write_aside


class RunReport(L.Callback):
    """Writes `run.json` (provenance, selection) and `problems.csv` into the run's folder.

    Also finds out at the start that the folder cannot be written to.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """At the start of any command."""
        folder = run_folder(trainer)
        if folder is None or not trainer.is_global_zero:
            return
        check_writable(folder, "trainer.logger.save_dir", needed_bytes=_weight_bytes(pl_module))
        datamodule = getattr(trainer, "datamodule", None)
        report = {"stage": stage, **provenance()}
        if datamodule is not None and getattr(datamodule, "plan", None) is None:
            report["data"] = {
                "root": datamodule.scan.root,
                "protocol": datamodule.protocol,
                "selection": str(datamodule.split).splitlines(),
                "problems": len(datamodule.problems),
            }
            if datamodule.problems:
                write_problems(folder / "problems.csv", datamodule.problems)
        with write_aside(folder / "run.json") as aside:
            aside.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _weight_bytes(module: L.LightningModule) -> int:
    """Two checkpoints (last, best) of weights and two moments, at the least."""
    return 2 * sum(3 * p.numel() * p.element_size() for p in module.parameters())


def provenance() -> dict[str, Any]:
    """Command line, versions and git revision."""
    packages = ("lightning", "torch", "torchvision", "torchmetrics", "albumentations", "numpy")
    return {
        "command": sys.argv,
        "palmforge": palmforge.__version__,
        "revision": git_revision(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: version(name) for name in packages},
    }


def git_revision() -> str | None:
    """The commit of this code, with `+changes` if files differ; None outside a git checkout."""
    here = Path(__file__).parent
    try:
        commit, changes = (
            subprocess.run(
                ["git", *words], cwd=here, capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "-uno"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changes else "")


def write_problems(path: Path, problems: dict[str, str]) -> None:
    """Writes what is wrong with which path, as CSV."""
    with write_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason"])
        writer.writerows(sorted(problems.items()))
