"""Pictures of hands with key points, from a manifest of rendered hands or from any known layout."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palmforge.data.layouts import Scan, scan
from palmforge.data.records import NUM_KEYPOINTS, PalmRecord
from palmforge.errors import DataError

MANIFEST = "manifest.parquet"
NUM_HAND_POINTS = 21
NUM_POINTS = NUM_KEYPOINTS + NUM_HAND_POINTS
_COLUMNS = ("file", "identity", "hand", "preset", "keypoints14", "keypoints21")


@dataclass(frozen=True)
class HandPoints:
    """What is known of the points of one picture.

    Attributes:
        points: [35, 2] float32 pixels (x, y): the 14 of XJTU-UP, then the 21 of the hand. NaN where
            unknown.
        visible: [35] float32: 1 in view and not hidden, 0 not, NaN unknown.
    """

    points: np.ndarray
    visible: np.ndarray


@dataclass
class Hands:
    """Pictures with points.

    Attributes:
        scan: The records, and what was left out.
        points: Path → its points.
    """

    scan: Scan
    points: dict[str, HandPoints] = field(default_factory=dict)


def read_hands(root: str, layout: str = "auto", domains: list[str] | None = None) -> Hands:
    """Reads a directory of hands: `manifest.parquet` if it has one, else `layouts.scan`.

    Args:
        root: The directory.
        layout: For `scan`.
        domains: Only these domains (presets); all by default.

    Raises:
        DataError: If there is no picture with key points, or the manifest is not one.
    """
    top = Path(root).expanduser()
    if (top / MANIFEST).is_file():
        return _read_manifest(top, domains)
    found = scan(root, layout, domains)
    hands = Hands(found)
    for record in found.records:
        if record.keypoints is None:
            found.problems[record.path] = "left out: no key points"
        else:
            hands.points[record.path] = _fourteen(np.array(record.keypoints, np.float32))
    return _with_points(hands)


def _fourteen(keypoints: np.ndarray) -> HandPoints:
    points = np.full((NUM_POINTS, 2), np.nan, np.float32)
    points[:NUM_KEYPOINTS] = keypoints
    return HandPoints(points, np.full(NUM_POINTS, np.nan, np.float32))


def _with_points(hands: Hands) -> Hands:
    found = hands.scan
    found.records = [record for record in found.records if record.path in hands.points]
    if not found.records:
        raise DataError(
            f"{found.root}: no picture with key points. Add a keypoints.csv (docs/data.md), or "
            "render hands: train.py data synthesize"
        )
    return hands


def _read_manifest(top: Path, domains: list[str] | None) -> Hands:
    path = top / MANIFEST
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a Parquet file that can be read ({error})") from error
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}. Render it again")
    wanted = [*_COLUMNS, *(n for n in ("visible14", "visible21") if n in table.column_names)]
    hands = Hands(Scan(str(top), "manifest"))
    for row in table.select(wanted).to_pylist():
        if domains is not None and row["preset"] not in domains:
            continue
        record = _record(top, row)
        try:
            hands.points[record.path] = _points(row)
        except (ValueError, TypeError) as error:
            hands.scan.problems[record.path] = f"left out: {error}"
            continue
        hands.scan.records.append(record)
    hands.scan.records.sort(key=lambda record: (record.domain, record.identity, record.path))
    return _with_points(hands)


def _record(top: Path, row: dict) -> PalmRecord:
    # Identities 2k and 2k + 1 are the two hands of person k (palmforge.data.synthetic.render).
    subject = f"{int(row['identity']) // 2:06d}"
    hand = str(row["hand"])
    return PalmRecord(
        str(top / row["file"]), subject, hand, f"{hand}_{subject}", domain=str(row["preset"])
    )


def _points(row: dict) -> HandPoints:
    points, visible = [], []
    for count in (NUM_KEYPOINTS, NUM_HAND_POINTS):
        pairs = np.asarray(row[f"keypoints{count}"], np.float32)
        if pairs.shape != (2 * count,) or not np.isfinite(pairs).all():
            raise ValueError(f"keypoints{count} are not {2 * count} finite numbers")
        points.append(pairs.reshape(count, 2))
        flags = row.get(f"visible{count}")
        if flags is not None and len(flags) != count:
            raise ValueError(f"visible{count} are not {count} flags")
        visible.append(np.full(count, np.nan) if flags is None else np.asarray(flags, np.float32))
    return HandPoints(np.concatenate(points), np.concatenate(visible).astype(np.float32))
