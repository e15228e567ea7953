"""Sidecar files: where the 14 key points of a photograph stand.

Two forms, both ours, since the data set publishes none:

* one `keypoints.csv` in the folder of a domain (`ROOT/iPhone/Flash/keypoints.csv`; of the layout
  `folder`: in `ROOT`), with the header
  `file,x0,y0,x1,y1,…,x13,y13` and paths relative to that folder;
* or, beside `IMG_1.JPG`, an `IMG_1.json` with `{"keypoints": [[x, y], … 14 pairs]}`.

Coordinates are pixels of the upright picture (EXIF rotation applied), pixel centres at integers.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

from palmforge.data.records import NUM_KEYPOINTS, Point
from palmforge.errors import DataError

CSV_NAME = "keypoints.csv"
HEADER = ["file"] + [f"{axis}{i}" for i in range(NUM_KEYPOINTS) for axis in "xy"]


def read_csv(path: Path) -> tuple[dict[str, tuple[Point, ...]], dict[str, str]]:
    """Reads a domain's key points.

    Args:
        path: The CSV file.

    Returns:
        points: File name as written (forward slashes) → 14 points.
        problems: File name → what is wrong with its line.

    Raises:
        DataError: If it is no CSV in UTF-8, or the header is not the documented one.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from error
    header = [name.strip() for name in rows[0]] if rows else []
    if header[:1] != ["file"] or header[1:3] != ["x0", "y0"]:
        raise DataError(f"{path}: the header must be {','.join(HEADER[:3])},…,{HEADER[-1]}")
    points: dict[str, tuple[Point, ...]] = {}
    problems: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in row):
            continue
        name = row[0].strip().replace("\\", "/")
        try:
            points[name] = _as_points([float(value) for value in row[1:] if value.strip()])
        except ValueError as error:
            problems[name] = f"{path}, line {number}: {error}"
    return points, problems


def read_json(path: Path) -> tuple[Point, ...]:
    """Reads the key points of one picture from the JSON file beside it.

    Raises:
        ValueError: If the file does not hold 14 (x, y) pairs.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        pairs = content["keypoints"]
        return _as_points([float(value) for x, y in pairs for value in (x, y)])
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: no readable 'keypoints' ({error})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _as_points(flat: list[float]) -> tuple[Point, ...]:
    if len(flat) != 2 * NUM_KEYPOINTS:
        count = len(flat) / 2
        raise ValueError(f"{NUM_KEYPOINTS} key points are needed, there are {count:g}")
    return tuple(zip(flat[::2], flat[1::2], strict=True))
