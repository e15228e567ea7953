"""How a training is getting on, besides its losses."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import lightning as L
import torch
from torch import Tensor

from palmforge.networks.sharded_tensors import grad_norm


class RunNotes(L.Callback):
    """Gradient norm, images a second, memory and GPU use, every `trainer.log_every_n_steps`.

    - `train/grad_norm`: L2 norm of all gradients, before they are clipped.
    - `train/images_per_s`: of all processes together, since the note before; validation does not
      count, waiting for the loader does. Nothing waits for a GPU between notes: Lightning's
      `ThroughputMonitor` does so at every step.
    - `train/memory_mib`: the most that was allocated so far: on the GPU of rank 0; without one, of
      its process.
    - `train/gpu_percent`: how busy that GPU is; only with `nvidia-ml-py` installed. wandb's own
      system charts have it anyway.

    Args:
        per_module: Also `grad_norm/<child>` of each direct child of the module.
    """

    def __init__(self, per_module: bool = False) -> None:
        self.per_module = per_module
        self._images = 0
        self._since = self._paused_at = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock."""
        self._images, self._since = 0, time.perf_counter()

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any
    ) -> None:
        """Gradients are whole and unscaled here, and not yet clipped."""
        if not _is_due(trainer):
            return
        norms = {"train/grad_norm": grad_norm(pl_module)}
        if self.per_module:
            norms |= {f"grad_norm/{n}": grad_norm(m) for n, m in pl_module.named_children()}
        pl_module.log_dict({name: norm for name, norm in norms.items() if norm is not None})

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Counts; and notes when it is time."""
        self._images += num_images(batch)
        if not _is_due(trainer) or trainer.fit_loop._should_accumulate():
            return
        now = time.perf_counter()
        notes = {
            "images_per_s": self._images * trainer.world_size / max(now - self._since, 1e-9),
            "memory_mib": memory_mib(pl_module.device),
            "gpu_percent": gpu_percent(pl_module.device),
        }
        self._images, self._since = 0, now
        told = {f"train/{name}": float(v) for name, v in notes.items() if v is not None}
        pl_module.log_dict(told)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the clock."""
        self._paused_at = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Lets it go on."""
        self._since += time.perf_counter() - self._paused_at


def _is_due(trainer: L.Trainer) -> bool:
    """As Lightning's own monitors ask."""
    return bool(trainer._logger_connector.should_update_logs)


def num_images(batch: Any) -> int:
    """Of a batch of this process; 0 if it has none.

    Args:
        batch: A dict with tensors `[N, …]`, or a tuple or list of them.
    """
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.ndim else 0
    if isinstance(batch, dict):
        return num_images(batch["image"] if "image" in batch else list(batch.values()))
    if isinstance(batch, list | tuple):
        return next((n for part in batch if (n := num_images(part))), 0)
    return 0


def memory_mib(device: torch.device) -> float:
    """The most memory so far: allocated on a GPU, or resident of this process. MiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB


def gpu_percent(device: torch.device) -> float | None:
    """Share of the last moments in which a GPU was computing; None: nobody tells."""
    if device.type != "cuda":
        return None
    try:
        return float(torch.cuda.utilization(device))
    except Exception:  # no nvidia-ml-py, or a driver that does not say (NVML's own errors)
        return None
