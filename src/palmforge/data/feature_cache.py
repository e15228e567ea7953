"""What frozen networks make of an image, kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from palmforge.data.atomic import check_writable, write_aside

Tensors = dict[str, Tensor]


def state_digest(state: Mapping[str, Tensor], *settings: object) -> str:
    """A name for weights and whatever else decides the output of a network."""
    digest = hashlib.sha256(repr(settings).encode())
    for name in sorted(state):
        digest.update(name.encode())
        values = state[name].detach().cpu().contiguous()
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:24]


class FeatureCache:
    """Rows of tensors by name, one file a row.

    Args:
        directory: Shared by any number of processes; each file is renamed into place whole.
        fingerprint: Of the network (`state_digest`); another network is another folder.

    Raises:
        DataError: If the directory cannot be written to.
    """

    def __init__(self, directory: str, fingerprint: str) -> None:
        self.directory = Path(directory).expanduser() / fingerprint
        check_writable(self.directory, "model.feature_cache_dir")

    def get(self, keys: Sequence[str], compute: Callable[[], Tensors]) -> Tensors:
        """Rows from disk, or computed and stored.

        One missing row computes the whole batch again: kernels may choose another order of
        summation for another batch size, and a resumed run must see the same bits.

        Args:
            keys: `[N]` names of pictures.
            compute: Gives tensors `[N, …]` for them.

        Returns:
            CPU tensors `[N, …]` if all were stored, else what `compute` gave. Contiguous either
            way: kernels choose by memory format too.
        """
        rows = [self._read(key) for key in keys]
        if all(row is not None for row in rows):
            return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}  # type: ignore[index,union-attr]
        computed = {name: values.contiguous() for name, values in compute().items()}
        for index, (key, row) in enumerate(zip(keys, rows, strict=True)):
            if row is None:
                one = {name: values[index].cpu().contiguous() for name, values in computed.items()}
                with write_aside(self._path(key)) as aside:
                    save_file(one, aside)
        return computed

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        return self.directory / name[:2] / f"{name[2:]}.safetensors"

    def _read(self, key: str) -> Tensors | None:
        path = self._path(key)
        if not path.exists():
            return None
        try:
            return load_file(path)
        except (OSError, SafetensorError):  # cut short by a full disk, say: make it again
            return None
