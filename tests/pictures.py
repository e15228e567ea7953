"""Small pictures and trees of them, drawn with NumPy."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from palmforge.data.keypoints import HEADER
from palmforge.data.records import PalmRecord

FOLDERS = {
    "IF": "iPhone/Flash",
    "IN": "iPhone/Nature",
    "HF": "huawei/Flash",
    "SN": "Samsung/Nature",
}

# The 14 points of a right hand in a picture of 240 × 200: fingers up, index side on the right.
RIGHT_HAND = np.array(
    [
        [178, 104], [172, 84], [160, 76], [150, 74], [146, 72], [130, 66], [124, 68],
        [120, 67], [104, 70], [98, 76], [94, 78], [78, 90], [74, 112], [78, 150],
    ],
    dtype=np.float64,
)  # fmt: skip


def noise(height: int, width: int, seed: int = 0, smooth: float = 3.0) -> np.ndarray:
    """`[H, W, 3]` uint8 with structure at a scale of `smooth` pixels, as skin has."""
    white = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(white, (0, 0), smooth) if smooth else white
    return np.clip(128 + 50 * soft / soft.std(), 0, 255).astype(np.uint8)


def save(path: Path, image: np.ndarray | Image.Image, **options) -> str:
    """Writes a picture in the format of its name, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(path, **options)
    return str(path)


def cut_short(path: str | Path) -> None:
    """Leaves the first half of a file."""
    whole = Path(path).read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2])


def record(path: str, identity: str = "R_001", **more) -> PalmRecord:
    """A record of `path`; subject and hand follow from the identity."""
    hand, _, subject = identity.partition("_")
    return PalmRecord(path, subject, hand, identity, **more)


def write_tree(
    root: Path,
    domains: tuple[str, ...] = ("IF", "IN"),
    identities: tuple[str, ...] = ("L_001", "L_002", "R_001", "R_002"),
    images: int = 7,
    size: int = 32,
) -> Path:
    """ROI crops in the layout of XJTU-UP, each picture another one."""
    seed = 0
    for domain in domains:
        for identity in identities:
            for number in range(1, images + 1):
                seed += 1
                path = root / FOLDERS[domain] / identity / f"IMG_{number:04d}.JPG"
                save(path, noise(size, size, seed))
    return root


def write_keypoints(folder: Path, points: dict[str, np.ndarray]) -> Path:
    """The `keypoints.csv` of a domain."""
    path = folder / "keypoints.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *([n, *np.ravel(p)] for n, p in points.items())])
    return path
