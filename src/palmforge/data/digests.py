"""What weights are, whatever they are called."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from palmforge.errors import CheckpointError


def checkpoint_digest(checkpoint: Any) -> str | None:
    """SHA-256 of a file of weights, or of those of all files of a folder; None without any.

    A file that has not changed since is not read again: parts of one model share theirs.

    Raises:
        CheckpointError: If it cannot be read.
    """
    if not checkpoint:
        return None
    path = Path(checkpoint)
    try:
        if not path.is_dir():
            return file_digest(path)
        files = [file_digest(file) for file in sorted(path.rglob("*")) if file.is_file()]
    except OSError as error:
        raise CheckpointError(f"ckpt_path: cannot read {checkpoint}: {error}") from error
    return hashlib.sha256("".join(files).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        OSError: If it cannot be read.
    """
    stat = path.stat()
    return _read(path.resolve(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _read(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
