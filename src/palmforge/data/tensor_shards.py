"""Tensors by key on disk, written by many processes and read through memory maps."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from palmforge.data.atomic import check_writable, write_aside

Tensors = dict[str, Tensor]


class TensorShards:
    """Rows of tensors by key. Each shard is a safetensors file that holds its keys too.

    A shard is written once, whole, and never changed; so any number of processes may add some at
    the same time, and what a killed one has finished is kept. Two shards with the same key hold the
    same row. Rows are read through memory maps: processes share the pages, and a set larger than
    the memory is no trouble.

    Args:
        directory: Named by what decides the rows (weights, size): other weights, another folder.
        setting: The key of the config that names the directory, for messages.

    Raises:
        DataError: If the directory cannot be written to.
    """

    def __init__(self, directory: str | Path, setting: str) -> None:
        self.directory = Path(directory).expanduser()
        self.setting = setting
        check_writable(self.directory, setting)
        self._place: dict[str, tuple[Path, int]] = {}
        self._open: dict[Path, Any] = {}
        self._opened_by = os.getpid()
        self.refresh()

    def refresh(self) -> None:
        """Finds what other processes have added. A damaged shard counts as not there."""
        known = {path for path, _ in self._place.values()}
        for path in sorted(self.directory.glob("*.safetensors")):
            if path not in known:
                for row, key in enumerate(_keys(path)):
                    self._place.setdefault(key, (path, row))

    def __contains__(self, key: str) -> bool:
        return key in self._place

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those that are not there, each once, in their order."""
        return [key for key in dict.fromkeys(keys) if key not in self._place]

    def check_room(self, row: Tensors, count: int) -> None:
        """Raises DataError where the disk has no room for so many rows like this one."""
        size = sum(value.numel() * value.element_size() for value in row.values())
        check_writable(self.directory, self.setting, needed_bytes=count * size)

    def add(self, keys: Sequence[str], rows: Tensors) -> None:
        """Writes a shard.

        Args:
            keys: `[N]`.
            rows: Tensors `[N, ...]` by name.
        """
        name = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]
        path = self.directory / f"{name}.safetensors"
        on_cpu = {key: value.detach().cpu().contiguous() for key, value in rows.items()}
        with write_aside(path) as aside:
            save_file(on_cpu, aside, metadata={"keys": json.dumps(list(keys))})
        for row, key in enumerate(keys):
            self._place.setdefault(key, (path, row))

    def __getitem__(self, key: str) -> Tensors:
        """The row of a key: tensors of their own, by name."""
        path, row = self._place[key]
        file = self._file(path)
        # Cloned: what is written to a view of the map, the next reader would see.
        return {name: file.get_slice(name)[row].clone() for name in file.keys()}  # noqa: SIM118

    def _file(self, path: Path) -> Any:
        if self._opened_by != os.getpid():  # a DataLoader worker opens its own
            self._open, self._opened_by = {}, os.getpid()
        if path not in self._open:
            self._open[path] = safe_open(path, framework="pt")
        return self._open[path]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}


def _keys(path: Path) -> list[str]:
    try:
        with safe_open(path, framework="pt") as file:
            keys: list[str] = json.loads((file.metadata() or {})["keys"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return []
    return keys


def stack(rows: Sequence[Tensors]) -> Tensors:
    """Rows → a batch, by name."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
