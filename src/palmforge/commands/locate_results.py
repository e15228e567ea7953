"""What `locate predict` leaves: a journal while it runs, tables when it is done.

The journal has one line of JSON a picture, written as soon as the picture is done. A picture whose
size and time of change are those of its line is not looked at again.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from palmforge.data import keypoints
from palmforge.data.atomic import write_aside
from palmforge.data.roi import xjtu_roi_quad
from palmforge.errors import ConfigError
from palmforge.localization.location import PalmLocation

JOURNAL, SETTINGS = "results.jsonl", "locate.json"
LOCATIONS, REJECTED = "locations.csv", "rejected.csv"

_CORNERS = [f"quad_{axis}{i}" for i in range(4) for axis in "xy"]
_POINTS14 = [f"{axis}{i}" for i in range(14) for axis in "xy"]
_POINTS21 = [f"hand_{axis}{i}" for i in range(21) for axis in "xy"]
LOCATION_HEADER = [
    *("file", "palm", "roi", "handedness", "confidence"),
    *(_CORNERS + _POINTS14 + _POINTS21),
    "other_palms",
]


@dataclass
class PictureResult:
    """One picture's line.

    Attributes:
        file: Relative to the folder of pictures, with forward slashes.
        stamp: Its bytes and its time of change in ns, when it was read.
        palms: Those that are cut, the surest first.
        reasons: Why it has none, or why other palms in it are left out.
    """

    file: str
    stamp: tuple[int, int]
    palms: list[PalmLocation] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def to_line(self) -> str:
        """JSON without line breaks, coordinates to 1/100 pixel."""
        palms = [
            {
                "hand": palm.handedness,
                "confidence": round(palm.confidence, 4),
                "keypoints14": _rounded(palm.keypoints14),
                "keypoints21": None if palm.keypoints21 is None else _rounded(palm.keypoints21),
            }
            for palm in self.palms
        ]
        content = {
            "file": self.file, "stamp": self.stamp, "palms": palms, "reasons": self.reasons
        }  # fmt: skip
        return json.dumps(content, ensure_ascii=True) + "\n"

    @classmethod
    def from_line(cls, line: str) -> PictureResult:
        """The inverse of `to_line`."""
        content = json.loads(line)
        palms = [
            PalmLocation(
                np.array(palm["keypoints14"]),
                None if palm["keypoints21"] is None else np.array(palm["keypoints21"]),
                palm["hand"],
                palm["confidence"],
            )
            for palm in content["palms"]
        ]
        return cls(content["file"], tuple(content["stamp"]), palms, content["reasons"])


def roi_name(file: str, palm: int) -> str:
    """Path of a ROI below `rois/`: that of the picture, its suffix kept, so that no two meet."""
    return f"{file}.png" if palm == 1 else f"{file}_{palm}.png"


def claim(out: Path, settings: dict[str, Any]) -> None:
    """Records the settings in `out`, or checks them against those recorded there.

    Raises:
        ConfigError: If another run's results are there.
    """
    path = out / SETTINGS
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        other = [key for key in settings if there.get(key) != settings[key]]
        if other:
            changes = ", ".join(f"{key}: {there.get(key)} → {settings[key]}" for key in other)
            raise ConfigError(f"out: {out} holds results of other settings ({changes})")
        return
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"out: {out} holds files that are not of `locate predict`")
    with write_aside(path) as aside:
        aside.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


class Journal:
    """The lines of a run; the newest line of a picture counts.

    Args:
        path: The file; whole lines that are there are read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._where: dict[str, tuple[int, tuple[int, int]]] = {}  # file → offset, stamp
        path.touch()
        with path.open("rb") as lines:
            offset = 0
            for line in lines:
                if not line.endswith(b"\n"):  # the last one, cut short when the run was killed
                    break
                result = PictureResult.from_line(line.decode())
                self._where[result.file] = (offset, result.stamp)
                offset += len(line)
        with path.open("r+b") as lines:
            lines.truncate(offset)
        self._out = path.open("ab")

    def has(self, file: str, stamp: tuple[int, int]) -> bool:
        """Whether a picture, unchanged since, is done."""
        return file in self._where and self._where[file][1] == stamp

    def add(self, result: PictureResult) -> None:
        """Writes a line, at once."""
        self._where[result.file] = (self._out.tell(), result.stamp)
        self._out.write(result.to_line().encode())
        self._out.flush()

    def read(self, files: Iterable[str]) -> Iterator[PictureResult]:
        """The results of pictures, in the order asked for."""
        with self.path.open("rb") as lines:
            for file in files:
                lines.seek(self._where[file][0])
                yield PictureResult.from_line(lines.readline().decode())

    def close(self) -> None:
        """Ends writing."""
        self._out.close()


def write_tables(out: Path, results: Iterable[PictureResult]) -> dict[str, int]:
    """Writes `locations.csv`, `rejected.csv` and the sidecars below `keypoints/`.

    Each picture is in one of the two tables. The sidecars are `keypoints.csv` files in the format
    of `palmforge.data.keypoints`, the surest palm of each picture, in a tree of their own: copied
    over the folder of pictures, the layouts `xjtu_up` and `folder` read them.

    Returns:
        Counts: `located` pictures, `palms`, and of each kind of reason.
    """
    counts: Counter[str] = Counter()
    sidecars: dict[PurePosixPath, list[list[str]]] = {}
    with ExitStack() as stack:
        located = _table(stack, out / LOCATIONS, LOCATION_HEADER)
        rejected = _table(stack, out / REJECTED, ["file", "reason"])
        for result in results:
            if not result.palms:
                reason = "; ".join(result.reasons)
                rejected.writerow([result.file, reason])
                counts[result.reasons[0].split(":")[0].split(" (")[0]] += 1
                continue
            counts["located"] += 1
            counts["palms"] += len(result.palms)
            located.writerows(_rows(result))
            folder, name = _sidecar_place(result.file)
            points = result.palms[0].keypoints14
            sidecars.setdefault(folder, []).append([name, *_cells(points)])
    for folder, rows in sidecars.items():
        with ExitStack() as stack:
            path = out / "keypoints" / folder / keypoints.CSV_NAME
            _table(stack, path, keypoints.HEADER).writerows(rows)
    return dict(counts)


def _rows(result: PictureResult) -> Iterator[list[str]]:
    for number, palm in enumerate(result.palms, start=1):
        hand = [""] * 42 if palm.keypoints21 is None else _cells(palm.keypoints21)
        yield [
            result.file,
            str(number),
            f"rois/{roi_name(result.file, number)}",
            palm.handedness,
            f"{palm.confidence:.4f}",
            *_cells(xjtu_roi_quad(palm.keypoints14)),
            *_cells(palm.keypoints14),
            *hand,
            "; ".join(result.reasons),
        ]


def _sidecar_place(file: str) -> tuple[PurePosixPath, str]:
    """The folder of the sidecar, two levels up (domain/identity/picture), and the name in it."""
    path = PurePosixPath(file)
    folder = PurePosixPath(*path.parts[:-2])
    return folder, str(path.relative_to(folder))


def _table(stack: ExitStack, path: Path, header: list[str]) -> Any:
    aside = stack.enter_context(write_aside(path))
    writer = csv.writer(stack.enter_context(aside.open("w", newline="", encoding="utf-8")))
    writer.writerow(header)
    return writer


def _cells(points: np.ndarray) -> list[str]:
    return [f"{value:.2f}" for value in np.ravel(points)]


def _rounded(points: np.ndarray) -> list[list[float]]:
    return [[round(float(x), 2), round(float(y), 2)] for x, y in points]
