"""What training the recogniser costs a ROI: augmentation by preset, and the whole step.

python -m benchmarks recognition
"""

from __future__ import annotations

from itertools import count
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.timing import alternate, one_thread
from palmforge.data.augmentation import RoiAugmentation
from palmforge.losses.margin import MarginLoss
from palmforge.networks.embedding import PalmEmbedding

BATCH, CLASSES, ROIS, REPEATS = 64, 5000, 400, 5
SMOKE = {"BATCH": 2, "CLASSES": 10, "REPEATS": 1, "ROIS": 2}
# configs/experiment/synthetic_only.yaml
NARROW = {
    "channels": [32, 64, 128, 256], "layers": [1, 2, 2, 1],
    "stem_type": "deep", "stem_width": 16, "output_stride": 16,
}  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    "narrow ResNet, deep stem": {"backbone_args": NARROW, "grid_channels": 32},
    "resnet10t": {"backbone": "resnet10t"},
    "regnetx_004": {"backbone": "regnetx_004"},
}


def run() -> dict[str, Any]:
    cv2.setNumThreads(1)
    with one_thread():
        seconds = alternate({f"ROI, {p}": _augmenting(p) for p in ("strong", "wild")}, ROIS)
        steps = alternate({name: _step(**s) for name, s in NETWORKS.items()}, REPEATS)
    rates = {name: BATCH / time for name, time in steps.items()}
    ours, *others = rates.values()
    return {
        "claim": "augmentation 144 → 128 px, preset strong (albumentations) vs wild",
        "ratio": seconds["ROI, strong"] / seconds["ROI, wild"],
        "ratios": {"training step, resnet10t vs the narrow ResNet": ours / others[0]},
        "facts": {"ROIs/s in training, bf16": ", ".join(f"{n} {r:.0f}" for n, r in rates.items())},
        "seconds": seconds | steps,
    }


def _augmenting(preset: str):
    noise = np.random.default_rng(0).normal(size=(144, 144, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 3)
    roi = np.clip(140 + 40 * soft / soft.std(), 0, 255).astype(np.uint8)
    augment, seeds = RoiAugmentation(preset, True, 128), count()  # type: ignore[arg-type]
    return lambda: augment(roi, next(seeds))


def _step(**settings: Any):
    network = PalmEmbedding(**settings).to(memory_format=torch.channels_last).train()
    loss = MarginLoss("cosface", CLASSES, 256, 0.25, 24.0)
    optimizer = torch.optim.AdamW([*network.parameters(), *loss.parameters()])
    images, labels = torch.rand(BATCH, 3, 128, 128), torch.randint(CLASSES, (BATCH,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(network.features(images), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step
