"""How every DataModule here makes its DataLoaders."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, Dataset

from palmforge.data.dataset import limit_threads
from palmforge.data.sampler import IdentityBatchSampler, ResumableLoader


def training_loader(
    dataset: Any, sampler: IdentityBatchSampler, num_workers: int, trainer: Any
) -> DataLoader:
    """P × K batches of the sampler; the same ones for any number of processes and workers.

    Args:
        dataset: Takes the sampler's items.
        sampler: Of this process.
        num_workers: DataLoader processes.
        trainer: Lightning's, or None; tells whether a GPU is fed.
    """
    return ResumableLoader(
        dataset,
        batch_size=sampler.identities * sampler.images // sampler.num_replicas,
        sampler=sampler,
        drop_last=True,
        **_settings(num_workers, trainer),
    )


def evaluation_loader(
    dataset: Dataset, batch_size: int, num_workers: int, trainer: Any
) -> DataLoader:
    """All of a data set, in its order."""
    return DataLoader(dataset, batch_size=batch_size, **_settings(num_workers, trainer))


def _settings(num_workers: int, trainer: Any) -> dict[str, Any]:
    accelerator = None if trainer is None else trainer.accelerator
    return {
        "num_workers": num_workers,
        "persistent_workers": num_workers > 0,
        "worker_init_fn": limit_threads,
        "pin_memory": "CUDA" in type(accelerator).__name__,
    }
