"""Tar files as WebDataset reads them."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from palmforge.data.atomic import write_aside
from palmforge.data.records import PalmRecord
from palmforge.errors import DataError

_INSIDE = ".tar/"  # of a path to a picture in a shard: shard-000000.tar/000012-003.png
_FACTORYS = "shard-" + 6 * "[0-9]" + ".tar"


def write_shard(path: Path, samples: Iterable[tuple[str, bytes, dict[str, Any]]]) -> None:
    """A tar in which `L_001/IMG_0001.JPG` is the sample `L_001-IMG_0001` of jpg and json.

    Args:
        path: Of the shard.
        samples: The picture's file name, its bytes, and what is known of it.
    """
    with write_aside(path) as aside, tarfile.open(aside, "w") as shard:
        for file, picture, row in samples:
            name, suffix = file.rsplit(".", 1)
            key = name.replace(".", "_").replace("/", "-")
            for ending, data in ((suffix.lower(), picture), ("json", json.dumps(row).encode())):
                entry = tarfile.TarInfo(f"{key}.{ending}")  # its time is 0: the same bytes always
                entry.size = len(data)
                shard.addfile(entry, io.BytesIO(data))


def picture_names(path: Path) -> list[str]:
    """Key and ending of all files of a shard but the json.

    Raises:
        DataError: If it is damaged.
    """
    try:
        with tarfile.open(path) as shard:
            return [name for name in shard.getnames() if not name.endswith(".json")]
    except tarfile.TarError as error:
        raise DataError(
            f"{path}: damaged ({error}). Delete it: its pictures are made again"
        ) from error


def shard_records(root: Path) -> list[PalmRecord]:
    """The pictures of a factory's shards; `read_image` reads them by their paths.

    Raises:
        DataError: If one is damaged.
    """
    return [
        PalmRecord(f"{shard}/{name}", identity, "", identity)
        for shard in sorted(root.glob(_FACTORYS))
        for name in picture_names(shard)
        for identity in [name.rpartition("-")[0]]
    ]


def file_of(path: str | Path) -> str:
    """The file that a picture lies in: a shard, or its own."""
    before, inside, _ = str(path).rpartition(_INSIDE)
    shard = f"{before}.tar"
    return shard if inside and os.path.isfile(shard) else str(path)


def openable(path: str | Path) -> str | Path | io.BytesIO:
    """What Pillow opens: a path, or the bytes of a picture in a shard.

    Raises:
        OSError: If the shard is damaged, or has no such picture.
    """
    if (shard := file_of(path)) == str(path):
        return path
    places = _places(shard, os.stat(shard).st_mtime_ns)
    if (name := str(path)[len(shard) + 1 :]) not in places:
        raise FileNotFoundError(name)
    start, size = places[name]
    with open(shard, "rb") as file:
        file.seek(start)
        return io.BytesIO(file.read(size))


@lru_cache(64)
def _places(path: str, changed: int) -> dict[str, tuple[int, int]]:
    """Name → where its bytes begin and how many they are, of a shard as it was changed last."""
    try:
        with tarfile.open(path, "r:") as shard:
            return {member.name: (member.offset_data, member.size) for member in shard}
    except tarfile.TarError as error:
        raise OSError(f"{path}: damaged ({error})") from error


def read_pictures(path: Path) -> dict[str, bytes]:
    """Key and ending → bytes, of all files of a shard but the json."""
    with tarfile.open(path) as shard:
        members = [member for member in shard if not member.name.endswith(".json")]
        return {member.name: shard.extractfile(member).read() for member in members}  # type: ignore[union-attr]
