"""Files that are there whole or not at all, whoever else writes at the same time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from palmforge.errors import DataError


@contextmanager
def write_aside(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to, and renames it to `path` when that went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()


def check_writable(folder: Path, key: str, needed_bytes: int = 0) -> None:
    """Finds out now, not hours later, that a directory cannot take what will be written.

    Args:
        folder: Made if it is not there.
        key: The setting that names it, for the message.
        needed_bytes: What will be written.

    Raises:
        DataError: If it cannot be written to, or the disk has less room.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0" * 4096)
    except OSError as error:
        raise DataError(f"{key}: cannot write to {str(folder)!r}: {error}") from error
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise DataError(
            f"{key}: {needed_bytes / 2**20:,.0f} MiB are needed in {str(folder)!r}, "
            f"{free / 2**20:,.0f} MiB are free"
        )
