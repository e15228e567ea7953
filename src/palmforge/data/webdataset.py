"""Tar files as WebDataset reads them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from palmforge.data.atomic import write_aside
from palmforge.errors import DataError


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


def read_pictures(path: Path) -> dict[str, bytes]:
    """Key and ending → bytes, of all files of a shard but the json."""
    with tarfile.open(path) as shard:
        members = [member for member in shard if not member.name.endswith(".json")]
        return {member.name: shard.extractfile(member).read() for member in members}  # type: ignore[union-attr]
