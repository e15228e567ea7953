"""A progress bar for whoever watches, and nothing in log files."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress_bar(items: Iterable[T], what: str, total: int) -> Iterable[T]:
    """`items`, counted on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        return items
    return track(items, what, total, console=Console(stderr=True), transient=True)
