"""What one process finds out for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import lightning as L

from palmforge.errors import PalmForgeError

T = TypeVar("T")


def on_rank_zero(trainer: L.Trainer, look: Callable[[], T]) -> T:
    """What `look` gives or raises there, on all processes: else the others would wait for ever."""
    found: Any = None
    if trainer.is_global_zero:
        try:
            found = look()
        except PalmForgeError as error:
            found = error
    found = trainer.strategy.broadcast(found)
    if isinstance(found, PalmForgeError):
        raise found
    return found
