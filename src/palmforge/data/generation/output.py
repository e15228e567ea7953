"""A directory of generated pictures: whose it is, and how pictures come into it."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from palmforge.data.atomic import write_aside
from palmforge.errors import ConfigError, DataError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def is_there(path: Path) -> bool:
    """Whether a file is there and has something in it."""
    with suppress(FileNotFoundError):
        return path.stat().st_size > 0
    return False


def write_png(path: Path, pixels: np.ndarray) -> None:
    """`[H, W, 3]` uint8 RGB, whole or not at all."""
    with write_aside(path) as aside:
        Image.fromarray(pixels).save(aside, format="PNG")


@contextmanager
def told_if_full(out: Path, progress: Callable[[], str]) -> Iterator[None]:
    """A full disk as DataError, which tells the progress."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise DataError(
            f"{out}: no room left on the disk ({error}). {progress()} are written; make room, and "
            f"the same command with --data.out={out} goes on from there"
        ) from error


def refuse_foreign(out: Path, key: str, why: str) -> None:
    """Refuses a directory with files in it.

    Args:
        out: Without settings in it.
        key: The setting that names it, for the message.
        why: What is wrong with the files, likewise: `were not generated here`.

    Raises:
        ConfigError: If it is not empty, or no directory.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{key}: {out} holds files that {why}; give a new or an empty directory")


def claim(path: Path, settings: dict[str, Any], key: str) -> None:
    """Writes down what decides the pictures of a directory, or compares (`check_settings`).

    Args:
        path: A JSON file.
        settings: Those of now.
        key: The setting that names the directory, for the message.

    Raises:
        ConfigError: If it was made with others.
    """
    if path.exists():
        check_settings(path, settings, key)
        return
    with write_aside(path) as aside:
        aside.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def check_settings(path: Path, settings: dict[str, Any], key: str, partly: bool = False) -> None:
    """Refuses to add to a directory that was made with other settings.

    Args:
        path: Of `claim`.
        settings: Those of now; without `checkpoint_sha256` that is not compared.
        key: The setting that names the directory, for the message.
        partly: Not all are known yet; those that are not are not compared.

    Raises:
        ConfigError: If they differ, by their names, or the file is damaged.
    """
    try:
        there = dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ConfigError(f"{path}: damaged ({error}); choose another directory") from error
    settings = json.loads(json.dumps(settings))  # tuples have become lists in the file
    names = settings if partly else {**there, **settings}
    if not partly and "checkpoint_sha256" not in settings:
        names.pop("checkpoint_sha256", None)
    if differing := [
        f"{name}: {_shown(there[name]) if name in there else 'not told'} there, "
        f"{_shown(settings.get(name))} now"
        for name in names
        if there.get(name) != settings.get(name)
    ]:
        raise ConfigError(
            f"{key}: {path.parent} was generated with other settings ({'; '.join(differing)}). "
            "Choose another with --data.out, or go back to those settings"
        )


def _shown(value: Any) -> str:
    """A setting in a message; of a digest its beginning, of no checkpoint what that means."""
    if value is None:
        return "none (weights as they come)"
    return value[:8] + "…" if isinstance(value, str) and len(value) == 64 else repr(value)
