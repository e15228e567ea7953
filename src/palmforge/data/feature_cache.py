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

    def get(self, keys: Sequence[str], compute: Callable[[int], Tensors]) -> Tensors:
        """Rows from disk; what is missing is computed, picture by picture, and stored.

        Picture by picture, because kernels may choose another order of summation for another batch
        size: what is stored must not depend on which pictures happened to be missing together.

        Args:
            keys: `[N]` names of pictures.
            compute: Gives tensors `[1, …]` for the picture of a row.

        Returns:
            CPU tensors `[N, …]`, contiguous.
        """
        rows = [self._read(key) or self._make(key, compute(i)) for i, key in enumerate(keys)]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _make(self, key: str, computed: Tensors) -> Tensors:
        row = {name: values[0].cpu().contiguous() for name, values in computed.items()}
        with write_aside(self._path(key)) as aside:
            save_file(row, aside)
        return row

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
