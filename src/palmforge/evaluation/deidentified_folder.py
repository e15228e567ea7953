"""What was measured of de-identified photographs: a file a group, so a killed `test` goes on."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from palmforge.data.atomic import write_aside
from palmforge.errors import DataError
from palmforge.metrics.scores import Floats

QUALITY = ("ssim", "ms_ssim", "psnr", "perceptual")
USABILITY = (
    "hand_detection", "keypoints_2d", "keypoints_3d", "roi_localization", "hand_segmentation",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Concealed:
    """A photograph, concealed by one method.

    Attributes:
        rois: `[V, 3, R, R]` uint8, a variant each.
        quality: [4] `QUALITY` of the first variant beside the original.
        usability: [5] `USABILITY`, percent; NaN: the hand is not found any more, or not measured.
        features: [F], for the Fréchet distance.
        shown: `[s, s, 3]` uint8, the hand, where it is to be looked at.
    """

    rois: np.ndarray
    quality: Floats
    usability: Floats
    features: Floats
    shown: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """A photograph.

    Attributes:
        source: Its path in the folder.
        roi: `[3, R, R]` uint8 of the original.
        features: [F] of the original.
        embedding: [D] fused exemplars of the first method.
        concealed: Method → what came of it.
        shown: As in `Concealed`, the original.
    """

    source: str
    roi: np.ndarray
    features: Floats
    embedding: Floats
    concealed: dict[str, Concealed] = field(repr=False)
    shown: np.ndarray | None = None


class DeidentifiedPalms:
    """A directory of groups of `Measured`; palms are in it: biometric data.

    Args:
        folder: The directory.
        methods: Their names, in the order of the tables.
    """

    def __init__(self, folder: Path, methods: Sequence[str]) -> None:
        self.folder = folder
        self.methods = list(methods)

    def write(self, measured: Sequence[Measured], problems: dict[str, str]) -> None:
        """A group: what could be measured, and why the rest could not; whole or not at all."""
        names = [one.source for one in measured] + list(problems)
        if not names:
            return
        arrays: dict[str, np.ndarray] = {
            "sources": np.array([one.source for one in measured], dtype=np.str_),
            "left_out": np.array(list(problems.items()), dtype=np.str_).reshape(-1, 2),
        }
        if measured:
            for part in ("roi", "features", "embedding"):
                arrays[part] = np.stack([getattr(one, part) for one in measured])
            for number, method in enumerate(self.methods):
                for part in ("rois", "quality", "usability", "features"):
                    every = [getattr(one.concealed[method], part) for one in measured]
                    arrays[f"{number}.{part}"] = np.stack(every)
        arrays |= self._shown([one for one in measured if one.shown is not None])
        key = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]
        with write_aside(self.folder / f"group-{key}.npz") as aside, aside.open("wb") as file:
            np.savez_compressed(file, **cast(Any, arrays))

    def _shown(self, measured: Sequence[Measured]) -> dict[str, np.ndarray]:
        if not measured:
            return {}
        arrays = {
            "shown_sources": np.array([one.source for one in measured], dtype=np.str_),
            "shown": np.stack([one.shown for one in measured if one.shown is not None]),
        }
        for number, method in enumerate(self.methods):
            every = [one.concealed[method].shown for one in measured]
            arrays[f"{number}.shown"] = np.stack([one for one in every if one is not None])
        return arrays

    def done(self) -> set[str]:
        """Sources that are measured, or known not to be measurable."""
        return set(self.sources) | set(self.problems)

    @property
    def sources(self) -> list[str]:
        """In the order of all arrays: that of their names."""
        return sorted(np.concatenate([[], *self._each("sources")]).tolist())

    @property
    def problems(self) -> dict[str, str]:
        """Sources that could not be measured → why."""
        return {source: why for part in self._each("left_out") for source, why in part.tolist()}

    def array(self, part: str, method: str | None = None) -> np.ndarray:
        """Of all photographs, `[N, …]`, in the order of `sources`.

        Args:
            part: A field of `Measured`, or of `Concealed` where a method is given.
            method: Its name.
        """
        key = part if method is None else f"{self.methods.index(method)}.{part}"
        order = np.argsort(np.concatenate([[], *self._each("sources")]), kind="stable")
        return np.concatenate(self._each(key))[order]

    def shown(self) -> list[tuple[str, np.ndarray, dict[str, np.ndarray]]]:
        """(source, original, method → concealed) of the photographs that are to be looked at."""
        found = []
        for path in self._files():
            with _opened(path) as group:
                if "shown" not in group.files:
                    continue
                originals = group["shown"]
                made = {m: group[f"{i}.shown"] for i, m in enumerate(self.methods)}
                found += [
                    (source, originals[row], {method: made[method][row] for method in made})
                    for row, source in enumerate(group["shown_sources"].tolist())
                ]
        return sorted(found, key=lambda one: one[0])

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("group-*.npz"))

    def _each(self, key: str) -> list[np.ndarray]:
        found = []
        for path in self._files():
            with _opened(path) as group:
                if key in group.files:  # of a group of problems there is nothing else
                    found.append(group[key])
        return found


@contextmanager
def _opened(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """A group; its arrays are read when they are asked for, and so are its damages."""
    try:
        with np.load(path, allow_pickle=False) as group:
            yield group
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: damaged ({error}). Delete it: its photographs are measured again"
        ) from error
