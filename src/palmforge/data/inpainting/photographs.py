"""A user's photographs as hands with points: found once by a localizer, then kept."""

from __future__ import annotations

import hashlib
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.deidentification.photographs import find_pictures
from palmforge.data.hands.records import NUM_POINTS, HandPoints, Hands
from palmforge.data.images import is_image
from palmforge.data.layouts import Scan, scan
from palmforge.data.progress import progress_bar
from palmforge.data.records import NUM_KEYPOINTS, PalmRecord
from palmforge.errors import BadImage, ConfigError, DataError
from palmforge.localization.location import Localizer
from palmforge.localization.methods import localizer_identity
from palmforge.localization.photographs import Acceptance, find_palms
from palmforge.localization.pool import map_with_localizer

_VERSION = 1  # of what _search does: raise it, and old entries are never read again


def find_hands(
    root: str,
    layout: str,
    domains: list[str] | None,
    localizer: str,
    cache_dir: str,
    num_workers: int = 1,
) -> Hands:
    """The surest hand of each photograph; a photograph without one is a problem, with its reason.

    Args:
        root: A data set of a known layout; or, with `layout` `auto`, any photographs: pictures in a
            folder are of one identity, pictures in `root` itself one each.
        layout: See `palmforge.data.layouts.scan`.
        domains: Only these.
        localizer: By name (`palmforge.localization.methods`).
        cache_dir: Where points are kept: a photograph is searched once.
        num_workers: Processes.

    Raises:
        DataError: If no hand is found at all, or the cache cannot be written to.
        ConfigError: If the localizer gives no 21 points.
    """
    found = _scan(root, layout, domains)
    folder = Path(cache_dir).expanduser() / "hand_points"
    identity = localizer_identity(localizer)
    places = {r.path: folder / _key(r.path, identity) for r in found.records}
    missing = [path for path, place in places.items() if not place.exists()]
    if missing:
        check_writable(folder, "data.cache_dir", 4096 * len(missing))
        searched = map_with_localizer(
            partial(_search, Acceptance()), missing, localizer, min(num_workers, len(missing))
        )
        bar = progress_bar(searched, "locating hands", len(missing))
        for path, entry in zip(missing, bar, strict=True):
            with write_aside(places[path]) as aside:
                aside.write_text(json.dumps(entry), encoding="utf-8")
    return _hands(found, places)


def _scan(root: str, layout: str, domains: list[str] | None) -> Scan:
    top = Path(root).expanduser()
    loose = top.is_dir() and any(is_image(entry) for entry in top.iterdir() if entry.is_file())
    if layout != "auto" or not loose:
        return scan(root, layout, domains)
    pictures, others = find_pictures(top)
    found = Scan(str(top), "photographs", problems=others)
    for picture in pictures:
        name = os.path.dirname(picture) or picture
        found.records.append(PalmRecord(str(top / picture), name, "", name))
    return found


def _key(path: str, identity: str) -> str:
    stat = os.stat(path) if os.path.exists(path) else None
    seen = [stat.st_size, stat.st_mtime_ns] if stat else [-1, -1]
    content = json.dumps([_VERSION, identity, os.path.abspath(path), *seen]).encode()
    name = hashlib.sha256(content).hexdigest()[:32]
    return f"{name[:2]}/{name[2:]}.json"


def _search(acceptance: Acceptance, localizer: Localizer, path: str) -> dict[str, Any]:
    """An entry: points of the surest hand, or the reason for none."""
    try:
        palms = find_palms(path, localizer, acceptance, roi_size=1)
    except BadImage as bad:
        return {"reason": bad.reason}
    if not palms.accepted:
        return {"reason": "; ".join(palms.reasons)}
    palm = palms.accepted[0]
    if palm.keypoints21 is None:
        raise ConfigError("data.localizer: it finds no 21 key points, by which palms are masked")
    points = np.concatenate([palm.keypoints14, palm.keypoints21])
    if not np.isfinite(points).all():
        return {"reason": "its points are no finite numbers"}
    return {"points": np.round(points, 2).tolist()}


def _hands(found: Scan, places: dict[str, Path]) -> Hands:
    hands = Hands(found)
    unknown = np.full(NUM_POINTS, np.nan, np.float32)
    for record in found.records:
        entry = json.loads(places[record.path].read_text(encoding="utf-8"))
        if "points" in entry:
            points = np.asarray(entry["points"], np.float32)
            hands.points[record.path] = HandPoints(points, unknown)
        else:
            found.problems[record.path] = f"left out: {entry['reason']}"
    found.records = [record for record in found.records if record.path in hands.points]
    if not found.records:
        first = next(iter(found.problems.items()), ("", "nothing there"))
        raise DataError(
            f"{found.root}: no hand in any photograph. First problem: {': '.join(first)}"
        )
    assert all(len(p.points) == NUM_KEYPOINTS + 21 for p in hands.points.values())
    return hands
