"""Pictures of which the key points are known: to train locators on, and to measure them by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from palmforge.data.images import read_image
from palmforge.data.layouts import scan
from palmforge.data.roi import xjtu_roi_quad
from palmforge.data.synthetic import PRESETS, render_palm
from palmforge.errors import BadImage, DataError
from palmforge.localization.dlib_reference import PalmSample
from palmforge.metrics.localization import polygon_area

MANIFEST = "manifest.parquet"


@dataclass(frozen=True)
class PalmTruth:
    """What is known about a picture with one palm. Pixels of the upright picture.

    Attributes:
        path: The file.
        keypoints14: [14, 2].
        keypoints21: [21, 2], or None.
        visible14: [14] bool.
        preset: Or the domain, or "".
        tilt: Degrees between the palm's normal and the optical axis, or NaN.
        size: Longer side of the picture, or NaN where it is not written down.
    """

    path: str
    keypoints14: np.ndarray
    keypoints21: np.ndarray | None = None
    visible14: np.ndarray = field(default_factory=lambda: np.ones(14, dtype=bool))
    preset: str = ""
    tilt: float = float("nan")
    size: float = float("nan")

    @property
    def quad(self) -> np.ndarray:
        """[4, 2] the true ROI."""
        return xjtu_roi_quad(self.keypoints14)

    @property
    def handedness(self) -> Literal["L", "R"]:
        """Which hand the points are of: the quad of a left one runs the other way round."""
        return "R" if polygon_area(self.quad) > 0 else "L"


def read_truth(root: str, most: int | None = None) -> list[PalmTruth]:
    """Pictures with key points, evenly over the data if there are more than `most`.

    Args:
        root: A folder that `train.py data synthesize` wrote (`manifest.parquet`), or any layout
            with sidecars of key points.
        most: Null: all.

    Raises:
        DataError: If there are none.
    """
    top = Path(root).expanduser()
    if (top / MANIFEST).is_file():
        truths = _of_manifest(top)
    else:
        truths = [
            PalmTruth(record.path, np.array(record.keypoints), preset=record.domain)
            for record in scan(root).records
            if record.keypoints is not None
        ]
    if not truths:
        raise DataError(f"root: {root} has no picture with key points (sidecars or {MANIFEST})")
    if most is not None and len(truths) > most:
        truths = [truths[index * len(truths) // most] for index in range(most)]
    return truths


def palm_samples(
    root: str, most: int, preset: str | None, size: int, seed: int
) -> Iterator[PalmSample]:
    """Pictures with their points, one after another; those that cannot be read are left out.

    Args:
        root: As of `read_truth`, or `synthetic`: rendered here, one capture of each identity.
        most: Number of pictures.
        preset: Of rendered pictures; None: `wild` where there is one, else `IN`.
        size: Of rendered pictures, in pixels.
        seed: Of rendered pictures.
    """
    if root == "synthetic":
        preset = preset or ("wild" if "wild" in PRESETS else "IN")
        for identity in range(most):
            image, truth = render_palm(identity, 0, preset, size, seed)
            yield PalmSample(image, truth.keypoints14)
        return
    for known in read_truth(root, most):
        try:
            image, _ = read_image(known.path)
        except BadImage:
            continue
        yield PalmSample(image, known.keypoints14)


def _of_manifest(top: Path) -> list[PalmTruth]:
    import pyarrow.parquet as pq

    table = pq.read_table(top / MANIFEST)
    names = set(table.column_names)
    if missing := {"file", "keypoints14"} - names:
        raise DataError(f"{top / MANIFEST}: no column {', '.join(sorted(missing))}")
    wanted = ["file", "keypoints14", "keypoints21", "visible14", "preset", "size"]
    tilts = [name for name in table.column_names if "tilt" in name.split(".")]
    rows = table.select([name for name in [*wanted, *tilts] if name in names]).to_pylist()
    return [_of_row(top, row, tilts) for row in rows]


def _of_row(top: Path, row: dict[str, Any], tilts: list[str]) -> PalmTruth:
    visible, hand = row.get("visible14"), row.get("keypoints21")
    tilt = [row[name] for name in tilts if row[name] is not None]  # one angle, or one an axis
    return PalmTruth(
        path=str(top / row["file"]),
        keypoints14=np.array(row["keypoints14"], dtype=np.float64).reshape(14, 2),
        keypoints21=None if hand is None else np.array(hand, dtype=np.float64).reshape(21, 2),
        visible14=np.ones(14, bool) if visible is None else np.array(visible, dtype=bool),
        preset=row.get("preset") or "",
        tilt=float(np.linalg.norm(np.ravel(tilt))) if tilt else float("nan"),
        size=float(row["size"]) if row.get("size") is not None else float("nan"),
    )
