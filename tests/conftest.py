"""Offline, one thread, and a small rendered data set."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.update(
    HF_HUB_OFFLINE="1",
    WANDB_MODE="offline",
    WANDB_SILENT="true",
    NO_ALBUMENTATIONS_UPDATE="1",
    OMP_NUM_THREADS="1",
    # Tests fork processes, which CUDA forbids. On a GPU: CUDA_VISIBLE_DEVICES=0 pytest -m gpu
    CUDA_VISIBLE_DEVICES=os.environ.get("CUDA_VISIBLE_DEVICES", ""),
)

import cv2
import pytest
import torch
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)
cv2.setNumThreads(1)  # a forked child that ends its parent's OpenCV threads waits for ever


@pytest.fixture(scope="session")
def palms_root(tmp_path_factory) -> str:
    """8 identities × 7 images × (IF, IN) at 256 pixels, rendered once for all workers."""
    from palmforge.data.synthetic import SyntheticPalms

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    root = shared / "palms"
    with FileLock(f"{root}.lock"):
        SyntheticPalms(num_identities=8, images_per_identity=7, size=256).write(str(root))
    return str(root)


@pytest.fixture
def tiny_data(palms_root, tmp_path_factory) -> list[str]:
    """Command-line settings that make any experiment run on `palms_root` in seconds."""
    return [
        f"--data.root={palms_root}",
        f"--data.cache_dir={Path(palms_root).parent / 'roi_cache'}",
        "--data.num_workers=0",
        "--data.identities_per_batch=4",
        "--data.images_per_identity=2",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    ]


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Runs a command line in this process, in a folder of its own that has `configs/`."""
    from palmforge.cli import main

    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])
    return lambda *arguments: main(list(arguments))


@pytest.fixture
def logs(tmp_path) -> Path:
    """Where `cli` keeps its runs."""
    return tmp_path / "lightning_logs"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Exporters and counters of operations start threads for good: tests that fork come before."""
    here = Path(__file__).parent
    late = [here / name for name in ("export", "commands/test_export.py", "test_benchmarks.py")]
    items.sort(key=lambda item: any(item.path.is_relative_to(place) for place in late))
