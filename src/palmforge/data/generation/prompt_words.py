"""What is known of a palm image, in words: the fields of the grammar of `prompts`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from palmforge.data.records import PalmRecord
from palmforge.errors import DataError

HANDS = {"L": "left", "R": "right"}
DEVICES = {
    "iphone": "iPhone", "huawei": "Huawei phone", "lg": "LG phone", "samsung": "Samsung phone",
    "mi8": "Mi 8 phone", "xiaomi": "Xiaomi phone", "phone": "phone", "old phone": "old phone",
    "webcam": "webcam", "compact": "compact camera", "press": "press photograph",
}  # fmt: skip
ILLUMINATIONS = {
    "flash": "flash", "nature": "natural light", "room": "natural light",
    "overcast": "overcast light", "window": "window light", "ceiling": "ceiling light",
    "sun": "sunlight", "raking": "light from the side", "behind": "light from behind",
    "coloured": "coloured light", "mixed": "mixed light",
}  # fmt: skip
POSES = ("fingers spread", "fingers closed", "cupped", "tilted")
# The least linear luminance of a palm that is called so: those of the inner stops between the
# palest and the darkest palm of synthetic.complexion, so that each word is as frequent.
SKINS = {"very light": 0.46, "light": 0.38, "medium": 0.30, "dark": 0.23, "very dark": 0.0}
WORDS: dict[str, tuple[str, ...]] = {
    "hand": tuple(HANDS.values()),
    "device": tuple(DEVICES.values()),
    "illumination": tuple(dict.fromkeys(ILLUMINATIONS.values())),
    "pose": POSES,
    "skin": tuple(SKINS),
}
MANIFEST = "manifest.parquet"
_PALM = ("skin.palm.0", "skin.palm.1", "skin.palm.2")
_HOLD = ("pose.cupping", "viewpoint.tilt.0", "viewpoint.tilt.1")
# When a hand closes by one degree, these turn by −1, −0.15, 0.65, 1.4 (synthetic.articulation).
_SPREAD = ("pose.spread.1", "pose.spread.2", "pose.spread.3", "pose.spread.4")
_NUMBERS = (*_PALM, *_HOLD, *_SPREAD)
_TEXTS = ("hand", "device.folder", "light.kind")
_ROI_ONLY = "frame_error"  # a column of sets of ROIs: no finger is in those pictures


def words_of(record: PalmRecord, row: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What is known of a picture, in words.

    Args:
        record: The picture.
        row: Its row of the set's manifest, if there is one; it knows better than the record.

    Returns:
        Field → word, for the fields of `WORDS` that are known. Other data sets than rendered ones
        tell neither pose nor skin. A device without a word of ours keeps its name.
    """
    row = {} if row is None else row
    device = _text(row, "device.folder") or record.device
    light = _text(row, "light.kind") or record.illumination
    found = {
        "hand": HANDS.get(record.hand or _text(row, "hand")),
        "device": DEVICES.get(device.lower(), device),
        "illumination": ILLUMINATIONS.get(light.lower()),
        "pose": _pose(row),
        "skin": _skin(row),
    }
    return {field: word for field, word in found.items() if word}


def manifest_rows(path: Path) -> dict[str, dict[str, Any]]:
    """What the grammar uses of a manifest.

    Args:
        path: Of the Parquet file.

    Returns:
        File → column → value (`words_of`); empty where there is no manifest.

    Raises:
        DataError: If it is no Parquet file, or has no column `file`.
    """
    if not path.exists():
        return {}
    try:
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
        wanted = [name for name in (*_TEXTS, *_NUMBERS, _ROI_ONLY) if name in names]
        table = file.read(["file", *wanted])
        files = table["file"].to_pylist()
    except (OSError, KeyError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise DataError(f"{path}: not a manifest with a column `file` ({error})") from error
    # to_numpy is 20 times faster than to_pylist; a gap becomes NaN.
    columns = [
        table[name].to_pylist()
        if name in _TEXTS
        else table[name].to_numpy(zero_copy_only=False).tolist()
        for name in wanted
    ]
    rows = zip(*columns, strict=True) if columns else [()] * len(files)
    return {
        name: dict(zip(wanted, row, strict=True)) for name, row in zip(files, rows, strict=True)
    }


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _numbers(row: Mapping[str, Any], names: Iterable[str]) -> list[float]:
    """Numbers of the row; NaN where it has none: comparisons with it are false."""
    return [math.nan if (value := row.get(name)) is None else value for name in names]


def _skin(row: Mapping[str, Any]) -> str | None:
    red, green, blue = _numbers(row, _PALM)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue  # BT.709
    for word, least in SKINS.items():
        if luminance >= least:
            return word
    return None


def _pose(row: Mapping[str, Any]) -> str | None:
    """The most striking thing about how the hand is held, where it is clear; else None."""
    cupping, tilt, turn = _numbers(row, _HOLD)
    if cupping >= 0.3:  # 1 in 8 in the wild
        return "cupped"
    if math.hypot(tilt, turn) >= 30:  # degrees; 1 in 8 in the wild, never in XJTU-UP
        return "tilted"
    if _ROI_ONLY in row:
        return None
    # Least squares: by how many degrees the hand is closed; drawn from −2 … 9.5.
    index, middle, ring, little = _numbers(row, _SPREAD)
    closing = (-1.0 * index - 0.15 * middle + 0.65 * ring + 1.4 * little) / 3.405
    return "fingers spread" if closing <= 1.5 else "fingers closed" if closing >= 7 else None
