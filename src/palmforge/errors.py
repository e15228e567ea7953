"""The few errors of our own: each says what is wrong, where, and what to do."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line of at most 200 characters."""
    told = str(error).strip()
    return told.splitlines()[0][:200] if told else type(error).__name__


class PalmForgeError(Exception):
    """Something the user can mend: the command line prints it, no traceback, and exits with 2."""


class DataError(PalmForgeError):
    """A directory, a sidecar file or a protocol does not give what was asked of it."""


class BadImage(PalmForgeError):
    """One picture cannot be used. It is counted and listed; it never ends a run.

    Attributes:
        path: The picture.
        reason: Why it cannot be used, without the path.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class CheckpointError(PalmForgeError):
    """A checkpoint or a weights file is missing, is of another model, or cannot be had."""


class ConfigError(PalmForgeError):
    """Settings that contradict each other, by the names of their keys."""


class TrainingError(PalmForgeError):
    """Training cannot go on, for example because the loss is not finite."""
