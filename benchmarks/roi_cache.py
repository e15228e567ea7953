"""What the ROI cache buys, and the loader against torchvision's ImageFolder.

    python -m benchmarks roi_cache

Photographs of 384 × 384 are small; of a phone's 12 megapixels decoding costs some 80 times more.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from benchmarks.timing import one_thread
from palmforge.data.augmentation import RoiAugmentation
from palmforge.data.dataset import PalmDataset
from palmforge.data.layouts import scan
from palmforge.data.roi_cache import RoiCache, RoiSettings
from palmforge.data.synthetic import SyntheticPalms

BATCH, IDENTITIES, IMAGES = 40, 40, 10
SMOKE = {"IDENTITIES": 2, "IMAGES": 2}


def run() -> dict[str, Any]:
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder, one_thread():
        return _measure(Path(folder))


def _measure(folder: Path) -> dict[str, Any]:
    palms = SyntheticPalms(IDENTITIES, IMAGES, ("IF",))
    palms.write(str(folder / "palms"), 2)
    records = scan(str(folder / "palms")).records
    cache = RoiCache(str(folder / "cache"), RoiSettings())

    def dataset(preset: str) -> PalmDataset:
        labels = {record.identity: 0 for record in records}
        augmentation = RoiAugmentation(preset, True, 128)
        return PalmDataset(records, labels, cache, augmentation, ["IF"], views=1)

    seconds = {}
    seconds["first epoch: cut and load"] = _time(
        lambda: (cache.fill(records), _epoch(dataset("none")))
    )
    seconds["second epoch: load"] = _time(lambda: (cache.fill(records), _epoch(dataset("none"))))

    for record in records:
        path = folder / "crops" / record.identity / f"{Path(record.path).stem}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cache.load(cache.key(record))[..., ::-1])
    augmentation = RoiAugmentation("mild", True, 128)
    plain = ImageFolder(
        str(folder / "crops"),
        lambda picture: augmentation(np.asarray(picture), 0).transpose(2, 0, 1),
    )
    seconds["ImageFolder of JPEG crops, mild augmentation"] = _time(lambda: _epoch(plain))
    seconds["ours, mild augmentation"] = _time(lambda: _epoch(dataset("mild")))
    count, ours = len(records), seconds["ours, mild augmentation"]
    folder_seconds = seconds["ImageFolder of JPEG crops, mild augmentation"]
    return {
        "claim": f"second epoch vs first, {count} photographs of 384 px, no workers",
        "ratio": seconds["first epoch: cut and load"] / seconds["second epoch: load"],
        "target": 5.0,
        "ratios": {"loader vs ImageFolder of ready-made crops": folder_seconds / ours},
        "facts": {
            "images/s": f"ours {count / ours:,.0f}, ImageFolder {count / folder_seconds:,.0f}"
        },
        "seconds": seconds,
    }


def _epoch(dataset) -> None:
    for _ in DataLoader(dataset, batch_size=BATCH):
        pass


def _time(job) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start
