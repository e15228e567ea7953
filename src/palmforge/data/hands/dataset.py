"""Views of hands as the detector and the landmark network get them."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from palmforge.data.atomic import write_aside
from palmforge.data.hands.frames import PalmFrame
from palmforge.data.hands.records import HandPoints
from palmforge.data.hands.views import HandPicture, detector_view, landmark_crop
from palmforge.data.images import read_image, scale_points
from palmforge.data.records import PalmRecord
from palmforge.errors import BadImage

Views = Literal["detector", "landmarks"]

MAX_PALMS = 2
_JPEG_END = b"\xff\xd9"
SECOND_HAND = {"detector": 0.3, "landmarks": 0.12}  # share of views that get another hand


class HandPictures:
    """Reads pictures; large ones are kept reduced, since a view is a few hundred pixels wide.

    Args:
        points: Path → what is known of it.
        cache_dir: Where reduced pictures are kept.
        max_side: Of a picture, in pixels; larger ones are divided by a whole number.
    """

    def __init__(
        self, points: Mapping[str, HandPoints], cache_dir: str, max_side: int = 640
    ) -> None:
        self.points = points
        self.cache_dir = Path(cache_dir).expanduser() / "hands"
        self.max_side = max_side

    def load(self, path: str) -> HandPicture:
        """The picture and its points, in pixels of what is returned.

        Raises:
            BadImage: If it cannot be decoded.
        """
        image, divisor = self._image(path)
        known = self.points[path]
        return HandPicture(image, scale_points(known.points, 1 / divisor), known.visible)

    def _image(self, path: str) -> tuple[np.ndarray, int]:
        folder = self._folder(path)
        kept = next(iter(os.listdir(folder)), None) if folder.is_dir() else None
        if kept is not None and kept[0] != ".":
            return _decode(str(folder / kept)), int(kept.split(".")[0])
        image = _decode(path)
        divisor = -(-max(image.shape[:2]) // self.max_side)
        if divisor == 1:
            return image, 1
        height, width = image.shape[0] // divisor, image.shape[1] // divisor
        whole = image[: height * divisor, : width * divisor]  # so that the scale is exact
        small = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
        with write_aside(folder / f"{divisor}.jpg") as aside:
            cv2.imwrite(str(aside), small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        return small, divisor

    def _folder(self, path: str) -> Path:
        name = hashlib.sha1(f"{path}|{self.max_side}".encode()).hexdigest()
        return self.cache_dir / name[:2] / name[2:]


def _decode(path: str) -> np.ndarray:
    """`[H, W, 3]` uint8 RGB, upright."""
    if path.lower().endswith((".jpg", ".jpeg")) and os.path.isfile(path):
        data = Path(path).read_bytes()
        # OpenCV takes half of Pillow's time, but makes a picture of half a file too.
        image = cv2.imdecode(np.frombuffer(data, np.uint8), 1) if data[-2:] == _JPEG_END else None
        if image is not None:
            return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return read_image(path)[0]


class HandDataset(Dataset[dict[str, Any]]):
    """Random views of pictures of hands.

    A view is a function of (seed, row, seed of the item). A picture that cannot be read gives a
    view without a hand, and a warning; it never ends a run.

    Args:
        records: The rows.
        pictures: Reads them.
        views: For which network.
        image_size: Side of a view in pixels.
        seed: Decides the views.
    """

    def __init__(
        self,
        records: Sequence[PalmRecord],
        pictures: HandPictures,
        views: Views,
        image_size: int,
        seed: int = 0,
    ) -> None:
        self.records = list(records)
        self.pictures = pictures
        self.views = views
        self.image_size = image_size
        self.seed = seed
        names = sorted({record.identity for record in self.records})
        index = {name: number for number, name in enumerate(names)}
        self.labels = [index[record.identity] for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """Makes a view.

        Args:
            item: The row, or (row, seed of the view).

        Returns:
            `image` `[3, S, S]` uint8 RGB, `index` (the row), `label` (0 left, 1 right, as the
            picture shows the hand), and the truth: see `_detector_sample`, `_landmark_sample`.
        """
        row, seed = item if isinstance(item, tuple) else (item, 0)
        rng = np.random.default_rng([self.seed, row, seed])
        pictures = [self._load(row)]
        if rng.random() < SECOND_HAND[self.views]:
            pictures.append(self._load(int(rng.integers(len(self.records)))))
        present = [picture for picture in pictures if picture is not None]
        sample = (
            _detector_sample(present, self.image_size, rng)
            if self.views == "detector"
            else _landmark_sample(present, self.image_size, rng)
        )
        return {**sample, "index": row, "label": int(self.records[row].hand != "L")}

    def _load(self, row: int) -> HandPicture | None:
        try:
            picture = self.pictures.load(self.records[row].path)
            assert picture.frame  # points that span no palm raise here, and not in the middle
            return picture
        except (BadImage, ValueError) as error:
            warnings.warn(f"no hand in the view: {error}", stacklevel=2)
            return None


def _detector_sample(
    pictures: list[HandPicture], size: int, rng: np.random.Generator
) -> dict[str, Any]:
    """`image`, and `palms` `[2, 7]`: x, y, side, up x, up y, left, 1 (rows of 0 where no palm)."""
    image, frames = detector_view(pictures, size, rng)
    palms = torch.zeros(MAX_PALMS, 7)
    for row, frame in enumerate(frames[:MAX_PALMS]):
        palms[row] = torch.tensor(palm_row(frame))
    return {"image": _as_tensor(image), "palms": palms}


def palm_row(frame: PalmFrame) -> list[float]:
    """A frame as the seven numbers of `palms`."""
    return [*frame.centre, frame.side, *frame.up, float(frame.left), 1.0]


def _landmark_sample(
    pictures: list[HandPicture], size: int, rng: np.random.Generator
) -> dict[str, Any]:
    """`image`, `points` `[35, 2]`, `weight` `[35]`, `visible` `[35]` (−1: unknown), two facts.

    The facts are `present` and `mirrored`, 0 or 1.
    """
    first, other = [*pictures, None, None][:2]
    crop = landmark_crop(first, other, size, rng)
    return {
        "image": _as_tensor(crop.image),
        "points": torch.from_numpy(np.nan_to_num(crop.points)).float(),
        "weight": torch.from_numpy(crop.weight).float(),
        "visible": torch.from_numpy(np.nan_to_num(crop.visible, nan=-1.0)).float(),
        "present": torch.tensor(float(crop.present)),
        "mirrored": torch.tensor(float(crop.mirrored)),
    }


def _as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
