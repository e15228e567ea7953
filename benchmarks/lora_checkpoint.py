"""How large a checkpoint of a LoRA is, and how long writing it and going on from it take."""

from __future__ import annotations

import time
from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DataLoader

from palmforge.callbacks.ema import WeightEMA
from palmforge.modules.identity_generator import IdentityGenerator

REPEATS = 5


def checkpoint(
    module: IdentityGenerator, loader: DataLoader, device: str, dtype: torch.dtype, folder: Path
) -> str:
    """By a Trainer, after a step, with the optimizer's moments and an average of the weights.

    Args:
        module: Its frozen networks are there already, and stay.
        loader: Of training batches.
        device: `cpu` or `cuda`.
        dtype: Of the frozen weights.
        folder: Where the checkpoint goes.
    """
    trainer = one_step_trainer(device, dtype)
    trainer.fit(module, loader)
    path = folder / "last.ckpt"
    saving, resuming = [], []
    for _ in range(REPEATS):
        start = time.perf_counter()
        trainer.save_checkpoint(path)
        saving.append(time.perf_counter() - start)
        again = one_step_trainer(device, dtype)
        start = time.perf_counter()
        again.fit(module, loader, ckpt_path=str(path))  # at its last step: nothing is trained
        resuming.append(time.perf_counter() - start)
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    size = path.stat().st_size
    return (
        f"{size / 1e6:.1f} MB, {size / trained:.1f} bytes each of {trained / 1e6:.2f} M weights; "
        f"saved in {1000 * min(saving):.0f} ms, resumed in {1000 * min(resuming):.0f} ms (wall, "
        f"the fastest of {REPEATS})"
    )


def one_step_trainer(device: str, dtype: torch.dtype) -> L.Trainer:
    """A Trainer that shows and keeps nothing."""
    return L.Trainer(
        accelerator=device,
        devices=1,
        precision="bf16-mixed" if dtype == torch.bfloat16 else "32-true",
        max_steps=1,
        callbacks=[WeightEMA()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
