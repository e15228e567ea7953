"""Directories on disk → records.

Layouts:

* `xjtu_up`: `ROOT/{device}/{Flash|Nature}/{L|R}_{NNN}/IMG_*.JPG`, as XJTU-UP is released, both as
  280 × 280 ROI crops and as full photographs with key points (palmforge.data.keypoints);
* `folder`: `ROOT/{identity}/image`, any depth-one collection. A folder named like `L_007`, `007_L`
  or `7-left` also tells the hand and the subject. Key points: `ROOT/keypoints.csv`, or JSON files.
  Pictures in a factory's shards, `ROOT/shard-000000.tar`, are read where they are;
* the public databases of palmforge.data.databases, by their released names (docs/databases.md).
  Key points: `ROOT/keypoints.csv`, or JSON files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from palmforge.data.databases import DATABASES, read
from palmforge.data.databases.reader import expected
from palmforge.data.images import is_image
from palmforge.data.records import PalmRecord, Point
from palmforge.data.sidecar import Sidecar
from palmforge.data.webdataset import shard_records
from palmforge.errors import DataError

Layout = Literal[
    "auto", "xjtu_up", "folder", "tongji", "iitd", "polyu_contactless", "polyu_3d", "polyu_ii",
    "casia", "casia_ms", "mpdv2", "ntu_pi", "ntu_cp", "rest", "coep",
]  # fmt: skip
LAYOUTS: tuple[str, ...] = get_args(Layout)
DEVICES = {"iphone": "I", "huawei": "H", "lg": "L", "samsung": "S", "mi8": "M"}
ILLUMINATIONS = {"flash": "F", "nature": "N", "natural": "N"}
DOMAINS = tuple(d + i for d in "IHLSM" for i in "FN")

_XJTU_IDENTITY = re.compile(r"(?P<hand>[LR])[_-]?(?P<subject>\d+)$", re.IGNORECASE)
_HAND_FIRST = re.compile(r"(?P<hand>l|r|left|right)[_-](?P<subject>.+)$", re.IGNORECASE)
_HAND_LAST = re.compile(r"(?P<subject>.+)[_-](?P<hand>l|r|left|right)$", re.IGNORECASE)


@dataclass
class Scan:
    """What a root holds.

    Attributes:
        root: The directory that was read.
        layout: One of `LAYOUTS`, not `"auto"`.
        records: Sorted by domain, identity and file name.
        problems: Path → what is wrong with it and how it was treated.
    """

    root: str
    layout: str
    records: list[PalmRecord] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def domains(self) -> list[str]:
        """The domains that have at least one image, in the order of XJTU-UP, then by name."""
        found = {record.domain for record in self.records}
        known = [domain for domain in DOMAINS if domain in found]
        return known + sorted(found - set(known))


def scan(root: str, layout: str = "auto", domains: list[str] | None = None) -> Scan:
    """Reads a directory of palm images.

    Pictures are not opened; that is done once, when ROIs are cut.

    Args:
        root: The directory.
        layout: One of `LAYOUTS`; `auto` is `xjtu_up` where a device folder is found, else `folder`:
            the other databases are read only by name.
        domains: Only these, for example `["IF", "IN"]`; all by default.

    Raises:
        DataError: If the directory is missing or empty, or a domain asked for is not there.
    """
    top = Path(root).expanduser()
    if not top.is_dir():
        raise DataError(
            f"data.root: no directory {str(top)!r}. Give the root of your data set, or "
            "`--data.root=synthetic` for the embedded one."
        )
    if layout not in LAYOUTS:
        raise DataError(f"data.layout: {layout!r} is not one of {', '.join(LAYOUTS)}")
    asked = layout
    if layout == "auto":
        layout = "xjtu_up" if any(d.name.lower() in DEVICES for d in _folders(top)) else "folder"
    result = Scan(root=str(top), layout=layout)
    if layout in _SCANS:
        _SCANS[layout](top, result)
    else:
        result.records, result.problems = read(top, DATABASES[layout])
    result.records.sort(key=lambda record: (record.domain, record.identity, record.path))
    if not result.records:
        raise DataError(_nothing(result, asked))
    return _only(result, domains)


def _nothing(result: Scan, asked: str) -> str:
    names = _EXPECTED.get(result.layout) or expected(DATABASES[result.layout])
    message = f"{result.root}: no image of the layout {result.layout!r} in it (expected {names})"
    if asked == "auto":
        others = ", ".join(name for name in LAYOUTS if name not in ("auto", *_EXPECTED))
        message += f". A public database is read by its name, layout= one of {others}"
    if any(Path(result.root).glob("*.tar")):
        message += (
            ". Of tar files only a factory's (shard-000000.tar) are read; make others as files "
            "(data.shard_identities=0, or `data synthesize` without --shard_size)"
        )
    problem = next((f". First problem: {p}: {r}" for p, r in result.problems.items()), "")
    return message + problem


def _only(result: Scan, domains: list[str] | None) -> Scan:
    if domains is None:
        return result
    if not domains:
        raise DataError("data.domains: the list is empty; leave the key out (null) for all domains")
    here = result.domains
    missing = [domain for domain in domains if domain not in here]
    if missing:
        raise DataError(
            f"data.domains: {', '.join(missing)} not in {result.root}, which has "
            f"{', '.join(name or '(none)' for name in here)}. --data.domains=null takes all"
        )
    result.records = [record for record in result.records if record.domain in domains]
    return result


def _folders(top: Path) -> list[Path]:
    return sorted(Path(e.path) for e in os.scandir(top) if e.is_dir() and e.name[0] != ".")


def _images(folder: Path) -> tuple[list[Path], set[str]]:
    """Its pictures, sorted by name, and the names of all its files."""
    # scandir, not glob and stat: a domain of XJTU-UP has thousands of files on a network drive.
    # Not is_file(): a link that leads nowhere is a bad picture, to be named, and not a gap.
    names = {entry.name for entry in os.scandir(folder) if not entry.is_dir()}
    return sorted(p for p in (folder / name for name in names) if is_image(p)), names


def _scan_xjtu(top: Path, result: Scan) -> None:
    for device_dir in _folders(top):
        device = device_dir.name.lower()
        if device not in DEVICES:
            result.problems[str(device_dir)] = (
                f"not one of the devices {', '.join(DEVICES)}: left out"
            )
            continue
        for light_dir in _folders(device_dir):
            initial = ILLUMINATIONS.get(light_dir.name.lower())
            if initial is None:
                result.problems[str(light_dir)] = "neither Flash nor Nature: left out"
                continue
            illumination = "flash" if initial == "F" else "nature"
            _scan_domain(light_dir, device, illumination, DEVICES[device] + initial, result)


def _scan_domain(folder: Path, device: str, illumination: str, domain: str, result: Scan) -> None:
    sidecar = Sidecar(folder)
    before, seen = len(result.records), set()
    for identity_dir in _folders(folder):
        match = _XJTU_IDENTITY.match(identity_dir.name)
        if match is None:
            result.problems[str(identity_dir)] = "not named like L_001: left out"
            continue
        hand, subject = match["hand"].upper(), match["subject"]
        seen |= {f"{identity_dir.name}/{name}" for name in _images(identity_dir)[1]}
        for path, points in _with_points(identity_dir, sidecar, result):
            result.records.append(
                PalmRecord(
                    str(path), subject, hand, f"{hand}_{subject}",
                    device, illumination, domain, points,
                )
            )  # fmt: skip
    result.problems.update(sidecar.unmet(seen))
    if len(result.records) == before:
        result.problems[str(folder)] = f"domain {domain} is empty"


def _scan_folder(top: Path, result: Scan) -> None:
    sidecar = Sidecar(top)
    for identity_dir in _folders(top):
        match = _HAND_FIRST.match(identity_dir.name) or _HAND_LAST.match(identity_dir.name)
        subject = match["subject"] if match else identity_dir.name
        hand = match["hand"][0].upper() if match else ""
        if not _images(identity_dir)[0]:
            result.problems[str(identity_dir)] = "no image in it: left out"
        for path, points in _with_points(identity_dir, sidecar, result):
            result.records.append(
                PalmRecord(str(path), subject, hand, identity_dir.name, keypoints=points)
            )
    result.records += shard_records(top)


def _with_points(
    identity_dir: Path, sidecar: Sidecar, result: Scan
) -> Iterator[tuple[Path, tuple[Point, ...] | None]]:
    """The usable pictures of an identity and their points; the others become problems."""
    images, names = _images(identity_dir)
    for path in images:
        problem, points = sidecar.points_of(path, f"{identity_dir.name}/{path.name}", names)
        if problem is not None:
            result.problems[str(path)] = problem
        else:
            yield path, points


_SCANS = {"xjtu_up": _scan_xjtu, "folder": _scan_folder}
_EXPECTED = {
    "xjtu_up": "{device}/{Flash|Nature}/{L|R}_{NNN}/IMG_*.JPG",
    "folder": "{identity}/image.jpg",
}
