"""Small trainings of exemplar inpainting."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from exemplars import SIZE, SIZES
from torch.optim import AdamW

from palmforge.data.inpainting.datamodule import InpaintingDataModule
from palmforge.modules.exemplar_inpainter import ExemplarInpainter


def hands(root: str, **settings: Any) -> InpaintingDataModule:
    """Rendered hands: 4 identities to train on, 2 to validate."""
    own = {
        "root": root, "cache_dir": str(Path(root).parent / "hand_cache"), "image_size": SIZE,
        "exemplar_size": 32, "fractions": (0.5, 0.25, 0.25), "domains": ["IF"], "batch_size": 2,
        "eval_batch_size": 3, "max_eval_images": 6, "num_workers": 0,
    }  # fmt: skip
    return InpaintingDataModule(**{**own, **settings})


def inpainter(**settings: Any) -> ExemplarInpainter:
    """Not yet configured; random weights."""
    own = {
        "sizes": SIZES, "image_size": SIZE, "warmup_steps": 0, "lr_schedule": "constant",
        "optimizer": partial(AdamW, lr=1e-3),
    }  # fmt: skip
    return ExemplarInpainter(**{**own, **settings})


def batch(root: str, count: int = 2) -> dict[str, Any]:
    """So many samples of the training hands."""
    data = hands(root)
    data.setup("fit")
    return torch.utils.data.default_collate([data.train[(row, 3)] for row in range(count)])
