"""Small runs for the tests of whole trainings."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

TEACHER = [
    "--config=configs/experiment/dhn_teacher.yaml",
    "--data.image_size=64",
    "--model.weights=null",
    "--model.width=0.0625",
    "--model.norm=group",
    "--model.warmup_steps=2",
]
STUDENT = [
    "--config=configs/experiment/dhn_student.yaml",
    "--model.lr=1e-4",
    "--data.image_size=64",
    "--model.warmup_steps=2",
]


def callbacks_yaml(path: Path, every_n_train_steps: int = 500) -> str:
    """Callbacks of base.yaml that a short run needs; returns the setting."""
    callbacks = [
        {"class_path": "LastCheckpoint", "init_args": {"every_n_train_steps": every_n_train_steps}},
        {"class_path": "RunReport"},
        {"class_path": "StopOnNonFiniteLoss"},
        {"class_path": "EvaluationReport"},
    ]
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}))
    return f"--config={path}"


def in_a_process(function: Callable[..., None], *arguments: Any) -> int:
    """Runs a function in a forked process; returns its exit code (−9: killed)."""
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join(120)
    if process.is_alive():
        process.kill()
        raise TimeoutError("the run hangs")
    assert process.exitcode is not None
    return process.exitcode


def kill_at_step(step: int) -> None:
    """From now on, a training process of this family kills itself at the start of `step`."""
    from palmforge.callbacks import StepSeed

    seed = StepSeed.on_train_batch_start

    def seed_or_die(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        seed(self, trainer, pl_module, batch, batch_idx)

    StepSeed.on_train_batch_start = seed_or_die  # type: ignore[method-assign]


def newest(folder: Path, pattern: str) -> Path:
    """The file of the highest version_N."""
    return max(
        folder.rglob(pattern), key=lambda p: int(p.parts[p.parts.index("checkpoints") - 1][8:])
    )


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def assert_same_bits(one: Any, other: Any, where: str = "") -> None:
    """Equal structures, equal bits."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same_bits(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same_bits(a, b, f"{where}/{index}")
    else:
        assert one == other, where
