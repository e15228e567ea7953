"""Recognisers on disk: a folder of `model.safetensors` and `config.json`, or a run's checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from palmforge.data.atomic import write_aside
from palmforge.errors import CheckpointError, ConfigError
from palmforge.networks.embedding import PalmEmbedding
from palmforge.recognition.embedding import EmbeddingRecognizer

WEIGHTS, CONFIG = "model.safetensors", "config.json"
EMBEDDED = {
    "synthetic-only": Path(__file__).parents[1] / "assets" / "recognizer_synthetic",
}
_PREFIX = "network."


def load(name_or_path: str = "synthetic-only") -> EmbeddingRecognizer:
    """A recogniser ready for use, on the CPU; no network is needed.

    Args:
        name_or_path: `synthetic-only` (embedded: trained on rendered palms alone); a folder that
            `save` wrote; or a checkpoint of a run of `MarginRecognizer`.

    Returns:
        A module `[N, 3, H, W]` float RGB in [0, 1] → `[N, D]` unit vectors, with `embed` and
        `distance`.

    Raises:
        CheckpointError: If there is nothing of that name, or it is something else.
    """
    path = EMBEDDED.get(name_or_path, Path(name_or_path).expanduser())
    if (path / CONFIG).is_file():
        return EmbeddingRecognizer(_from_folder(path))
    if path.is_file():
        return EmbeddingRecognizer(_from_checkpoint(path))
    if name_or_path in EMBEDDED:
        raise CheckpointError(
            f"the embedded weights are missing from {path}; docs/recognition.md has the commands "
            "that make them"
        )
    raise CheckpointError(
        f"no recogniser {name_or_path!r}: neither one of {', '.join(EMBEDDED)}, nor a folder with "
        f"{CONFIG} and {WEIGHTS}, nor a checkpoint"
    )


def save(network: PalmEmbedding, folder: str, made_by: str, half: bool = True) -> None:
    """Writes what `load` reads.

    Args:
        network: With its weights.
        folder: Made if need be.
        made_by: The command that made the weights, for whoever finds them.
        half: Weights in float16: half the size; embeddings differ by some 0.1 %.
    """
    tensors = {name: _storable(values, half) for name, values in network.state_dict().items()}
    with write_aside(Path(folder) / WEIGHTS) as aside:
        save_file(tensors, aside)
    config = {"network": network.config, "made_by": made_by}
    with write_aside(Path(folder) / CONFIG) as aside:
        aside.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _storable(values: Tensor, half: bool) -> Tensor:
    return (values.half() if half and values.is_floating_point() else values).contiguous()


def _from_folder(folder: Path) -> PalmEmbedding:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["network"]
        state = load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: not a whole recogniser ({error})") from error
    return _built(config, state, str(folder))


def _from_checkpoint(path: Path) -> PalmEmbedding:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        config = checkpoint["embedding_config"]
        state = checkpoint["state_dict"]
    except Exception as error:  # torch.load lets anything through
        raise CheckpointError(f"{path} is not a checkpoint of MarginRecognizer") from error
    mine = {k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}
    return _built(config, mine, str(path))


def _built(config: dict[str, Any], state: dict[str, Tensor], source: str) -> PalmEmbedding:
    try:
        network = PalmEmbedding(**config)
        network.load_state_dict(state)
    except (ConfigError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{source}: weights and configuration do not fit: {error}") from error
    return network
