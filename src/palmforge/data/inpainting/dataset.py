"""A hand, a mask on it, and an exemplar of what the mask hides."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from palmforge.data.deidentification.crops import Around, Box, crop_box, cut, resized
from palmforge.data.hands.dataset import HandPictures
from palmforge.data.inpainting.exemplars import draw_exemplar
from palmforge.data.inpainting.masks import draw_mask
from palmforge.data.records import NUM_KEYPOINTS, PalmRecord
from palmforge.data.seeds import mixed
from palmforge.errors import BadImage, DataError

_TRIES = 8  # pictures in a row that cannot be read


@dataclass(frozen=True)
class HoleSettings:
    """How samples are cut.

    Attributes:
        image_size: Side of the picture in pixels.
        exemplar_size: Side of the exemplar.
        margins: Around a hand, on each side, as a share of its length: from, to.
        shift: By which its square misses the hand's middle, as a share of the square; at most.
        free_form: Share of masks that are not like a palm.
        mirror: Whether half of the hands are shown as the other hand.
        around: What a picture shows; see `crop_box`.
    """

    image_size: int = 512
    exemplar_size: int = 128
    margins: tuple[float, float] = (0.05, 0.3)
    shift: float = 0.05
    free_form: float = 0.3
    mirror: bool = True
    around: Around = "hand"


class HoleDataset(Dataset[dict[str, Any]]):
    """Samples of pictures of hands; each a function of (seed, row, draw) alone.

    A picture that cannot be read gives its place to the next one, with a warning.

    Args:
        records: The rows.
        pictures: Reads them, with their points.
        settings: How samples are cut.
        seed: >= 0.
    """

    def __init__(
        self,
        records: Sequence[PalmRecord],
        pictures: HandPictures,
        settings: HoleSettings,
        seed: int = 0,
    ) -> None:
        self.records = list(records)
        self.pictures = pictures
        self.settings = settings
        self.seed = seed
        names = sorted({record.identity for record in self.records})
        numbers = {name: number for number, name in enumerate(names)}
        self.labels = [numbers[record.identity] for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """A sample.

        Args:
            item: The row, or (row, draw); a row alone always gives the same.

        Returns:
            `image` `[3, S, S]` uint8, `mask` `[1, S, S]` bool (True: hidden), `exemplar` `[3, s,
            s]` uint8, `index` (the row), and `seed` of all else that is drawn for it.

        Raises:
            DataError: If many pictures in a row cannot be read.
        """
        row, draw = item if isinstance(item, tuple) else (item, 0)
        for step in range(_TRIES):
            rng = np.random.default_rng([self.seed, row, draw])
            try:
                sample = self._sample(self.records[(row + step) % len(self)].path, rng)
            except (BadImage, ValueError) as error:
                warnings.warn(f"another hand in its place: {error}", stacklevel=2)
                continue
            return {**sample, "index": row, "seed": mixed(self.seed, row, draw)}
        raise DataError(
            f"{self.records[row].path} and the {_TRIES - 1} pictures after it cannot be read"
        )

    def _sample(self, path: str, rng: np.random.Generator) -> dict[str, Tensor]:
        known = self.pictures.load(path)
        image, points = known.image, known.points[NUM_KEYPOINTS:].astype(np.float64)
        settings = self.settings
        if settings.mirror and rng.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
            points = np.array([image.shape[1] - 1, 0]) + points * (-1, 1)
        box = _drawn_box(points, settings, rng)
        crop = resized(cut(image, box), settings.image_size)
        scale = box.side / settings.image_size  # pixels of the picture for one of the crop
        inside = (points - (box.left, box.top) + 0.5) / scale - 0.5
        mask = draw_mask(inside, settings.image_size, settings.free_form, rng)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        corner = np.array([box.left, box.top])
        # From the middle of the first whole pixel to that of the last.
        first = corner + np.array([columns[0], rows[0]]) * scale
        last = corner + np.array([columns[-1] + 1, rows[-1] + 1]) * scale - 1
        exemplar = draw_exemplar(image, np.stack([first, last]), settings.exemplar_size, rng)
        return {
            "image": _as_tensor(crop),
            "mask": torch.from_numpy(mask)[None],
            "exemplar": _as_tensor(exemplar),
        }


def _drawn_box(points: np.ndarray, settings: HoleSettings, rng: np.random.Generator) -> Box:
    """The square around a hand, as tight and as well centred as it happens."""
    box = crop_box(points, settings.around, rng.uniform(*settings.margins))
    left, top = np.rint(rng.uniform(-settings.shift, settings.shift, 2) * box.side).astype(int)
    return Box(box.left + int(left), box.top + int(top), box.side)


def _as_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
