"""The picture that `locate predict` ends with: ROIs, where they come from, what was rejected."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from palmforge.commands.locate_results import Journal, PictureResult, roi_name
from palmforge.data.atomic import write_aside
from palmforge.data.images import read_image, scale_points
from palmforge.errors import BadImage
from palmforge.plots import montage

_TILE = 192  # pixels
_LOCATED, _REJECTED = 16, 16
_COLOURS = ((0, 158, 115), (230, 159, 0), (86, 180, 233))


def write_montage(path: Path, top: Path, journal: Journal, files: Sequence[str]) -> None:
    """Draws an even sample of the located palms, and of the rejected pictures."""
    with_palms, without = _sample(journal, files)
    tiles, titles = [], []
    for result in with_palms:
        tiles.append(_thumbnail(top, result))
        titles.append(_short(Path(result.file).name, 22))
        roi = cv2.imread(str(path.parent / "rois" / roi_name(result.file, 1)))
        tiles.append(_fitted(roi[..., ::-1]) if roi is not None else _blank())
        palm = result.palms[0]
        more = f" +{len(result.palms) - 1}" if len(result.palms) > 1 else ""
        titles.append(f"{palm.handedness} {palm.confidence:.2f}{more}")
    for result in without:
        tiles.append(_thumbnail(top, result))
        titles.append(_short(result.reasons[0], 22))  # the whole reason is in rejected.csv
    figure = montage(np.stack(tiles), titles)
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=150, bbox_inches="tight")


def _sample(
    journal: Journal, files: Sequence[str]
) -> tuple[list[PictureResult], list[PictureResult]]:
    """Results with and without palms; of many pictures only every n-th is looked at."""
    step = max(1, len(files) // 2000)
    groups: tuple[list[PictureResult], list[PictureResult]] = ([], [])
    for result in journal.read(islice(files, 0, None, step)):
        groups[not result.palms].append(result)
    with_palms, without = groups
    return _even(with_palms, _LOCATED), _even(without, _REJECTED)


def _even(results: list[PictureResult], most: int) -> list[PictureResult]:
    return results[:: -(-len(results) // most)] if results else []


def _thumbnail(top: Path, result: PictureResult) -> np.ndarray:
    try:
        # A thumbnail needs no more; of other formats than JPEG all is decoded.
        image, scale = read_image(top / result.file, min_scale=0.125)
    except BadImage:
        return _blank()
    tile = _fitted(image)
    factor = scale * _TILE / max(image.shape[:2])
    margin = [(_TILE - round(n / max(image.shape[:2]) * _TILE)) // 2 for n in image.shape[1::-1]]
    for number, palm in enumerate(result.palms):
        quad = scale_points(palm.quad, factor) + margin
        colour = _COLOURS[number % len(_COLOURS)]
        cv2.polylines(tile, [np.rint(quad).astype(np.int32)], True, colour, 2, cv2.LINE_AA)
        top_edge = np.rint(quad[:2]).astype(np.int32)  # towards the fingers
        cv2.line(tile, top_edge[0].tolist(), top_edge[1].tolist(), (213, 94, 0), 3, cv2.LINE_AA)
    return tile


def _fitted(image: np.ndarray) -> np.ndarray:
    """[_TILE, _TILE, 3]: the picture in the middle, white beside it."""
    height, width = (max(1, round(n * _TILE / max(image.shape[:2]))) for n in image.shape[:2])
    method = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
    small = cv2.resize(image, (width, height), interpolation=method)
    tile = _blank(255)
    row, column = (_TILE - height) // 2, (_TILE - width) // 2
    tile[row : row + height, column : column + width] = small
    return tile


def _blank(value: int = 160) -> np.ndarray:
    return np.full((_TILE, _TILE, 3), value, np.uint8)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
