"""A generated set as the commands that judge one read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from palmforge.data.layouts import Scan, scan
from palmforge.data.records import PalmRecord
from palmforge.errors import BadImage, ConfigError, DataError


def generated_set(images: str) -> Scan:
    """The pictures of `images`, a folder of `identity/image` or of a factory's shards.

    Raises:
        ConfigError: There is no such folder, or nothing in it.
    """
    if not Path(images).expanduser().is_dir():
        raise ConfigError(f"images: no directory {images!r}. `train.py predict` writes one")
    try:
        return scan(images, "folder")
    except DataError as error:
        raise ConfigError(
            f"images: no picture lies under {images!r} as identity/image, for example "
            "000123/000.png. `train.py predict` writes them so"
        ) from error


def readable(
    records: Iterable[PalmRecord],
    read: Callable[[PalmRecord], np.ndarray],
    problems: dict[str, str],
) -> Iterator[tuple[PalmRecord, np.ndarray]]:
    """Records with their pictures; what is wrong with the others goes into `problems`."""
    for record in records:
        try:
            yield record, read(record)
        except BadImage as bad:
            problems[bad.path] = bad.reason
