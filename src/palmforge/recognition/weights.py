"""Recognisers by name, from a folder of `model.safetensors` and `config.json`, or from a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from palmforge.data.atomic import write_aside
from palmforge.errors import CheckpointError, ConfigError
from palmforge.networks.ccnet import CCNet
from palmforge.networks.embedding import PalmEmbedding
from palmforge.networks.hashing import TinyHashing, VGG16Hashing
from palmforge.recognition.competitive_code import CompetitiveCode
from palmforge.recognition.embedding import EmbeddingRecognizer
from palmforge.recognition.hashing import HashingRecognizer
from palmforge.recognition.multi_order_code import MultiOrderCode
from palmforge.recognition.recognizer import Recognizer

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_ASSETS = Path(__file__).parents[1] / "assets"
EMBEDDED = {  # one network: the second was trained on from the first
    "synthetic-only-v1": _ASSETS / "recognizer_synthetic_v1",
    "synthetic-only": _ASSETS / "recognizer_synthetic",
}
HAND_CRAFTED = {kind.name: kind for kind in (CompetitiveCode, MultiOrderCode)}

EmbeddingNetwork: TypeAlias = PalmEmbedding | CCNet
_EMBEDDINGS = {kind.__name__: kind for kind in (PalmEmbedding, CCNet)}
_HASHING = {kind.__name__: kind for kind in (TinyHashing, VGG16Hashing)}
_PREFIX = "network."


def load(name_or_path: str = "synthetic-only") -> Recognizer:
    """A recogniser ready for use, on the CPU; no network is needed.

    Args:
        name_or_path: `synthetic-only` (embedded: trained on rendered palms alone), or
            `synthetic-only-v1`, which the embedded ControlNet has learned from;
            `competitive-code` or `mtcc` (hand-crafted); a folder that `save` wrote; or a checkpoint
            of a run of `MarginRecognizer`, `CCNetRecognizer`, `HashingTeacher` or `HashingStudent`.

    Returns:
        What has `embed` and `distance`. Those of the embedding kind are also modules `[N, 3, H, W]`
        float RGB in [0, 1] → `[N, D]` unit vectors.

    Raises:
        CheckpointError: If there is nothing of that name, or it is something else.
    """
    if name_or_path in HAND_CRAFTED:
        return HAND_CRAFTED[name_or_path]()
    path = _found(name_or_path)
    if path.is_dir():
        return EmbeddingRecognizer(_from_folder(path), name_or_path)
    checkpoint = _checkpoint(path)
    trained_on = checkpoint.get("class_names")
    if checkpoint.get("network_class") in _HASHING:
        return HashingRecognizer(_hashing(checkpoint, path), name_or_path, trained_on)
    return EmbeddingRecognizer(_embedding(checkpoint, path), name_or_path, trained_on)


def load_embedding(name_or_path: str, setting: str) -> EmbeddingRecognizer:
    """As `load`, for what needs unit vectors.

    Args:
        name_or_path: See `load`.
        setting: What the user calls it, for the message.

    Raises:
        CheckpointError: As in `load`.
        ConfigError: If the template is a code.
    """
    recognizer = load(name_or_path)
    if not isinstance(recognizer, EmbeddingRecognizer):
        raise ConfigError(
            f"{setting}: {name_or_path} makes codes, not embeddings. Give synthetic-only, or a run "
            "of MarginRecognizer or CCNetRecognizer"
        )
    return recognizer


def weights_path(name_or_path: str) -> Path:
    """Where the weights of a recogniser lie; of a hand-crafted one nothing does."""
    return EMBEDDED.get(name_or_path, Path(name_or_path).expanduser())


def load_network(name_or_path: str) -> EmbeddingNetwork:
    """The network of a recogniser of the embedding kind, for training on and for `save`.

    Raises:
        CheckpointError: As in `load`; or if the template is no embedding.
    """
    recognizer = load(name_or_path)
    if not isinstance(recognizer, EmbeddingRecognizer):
        raise CheckpointError(f"{name_or_path} makes no embeddings, but codes")
    return recognizer.network.requires_grad_(True)


def save(network: EmbeddingNetwork, folder: str, made_by: str, half: bool = True) -> None:
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
    kind = type(network).__name__
    config = {"network_class": kind, "network": network.config, "made_by": made_by}
    with write_aside(Path(folder) / CONFIG) as aside:
        aside.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _found(name_or_path: str) -> Path:
    path = weights_path(name_or_path)
    if (path / CONFIG).is_file() or path.is_file():
        return path
    if name_or_path in EMBEDDED:
        raise CheckpointError(
            f"the embedded weights are missing from {path}; docs/recognition.md has the commands "
            "that make them"
        )
    names = ", ".join((*EMBEDDED, *HAND_CRAFTED))
    raise CheckpointError(
        f"no recogniser {name_or_path!r}: neither one of {names}, nor a folder with {CONFIG} and "
        f"{WEIGHTS}, nor a checkpoint"
    )


def _storable(values: Tensor, half: bool) -> Tensor:
    return (values.half() if half and values.is_floating_point() else values).contiguous()


def _from_folder(folder: Path) -> EmbeddingNetwork:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = _EMBEDDINGS[config.get("network_class", PalmEmbedding.__name__)]
        network, state = config["network"], load_file(folder / WEIGHTS)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: not a whole recogniser ({error})") from error
    return _built(kind, network, state, str(folder))


def _checkpoint(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        assert isinstance(checkpoint["state_dict"], dict)
    except Exception as error:  # torch.load lets anything through
        raise CheckpointError(f"{path} is not a checkpoint of a recogniser") from error
    return checkpoint


def _embedding(checkpoint: dict[str, Any], path: Path) -> EmbeddingNetwork:
    kind = _EMBEDDINGS.get(checkpoint.get("network_class", PalmEmbedding.__name__))
    if kind is None or "embedding_config" not in checkpoint:
        raise CheckpointError(f"{path} is not a checkpoint of a recogniser")
    return _built(kind, checkpoint["embedding_config"], _network_state(checkpoint), str(path))


def _hashing(checkpoint: dict[str, Any], path: Path) -> TinyHashing | VGG16Hashing:
    """Without the classifier, which says nothing of other palms."""
    config = {**checkpoint["architecture"], "num_classes": None}
    state = _network_state(checkpoint)
    state = {name: values for name, values in state.items() if not name.startswith("classifier.")}
    return _built(_HASHING[checkpoint["network_class"]], config, state, str(path))


def _network_state(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    state = checkpoint["state_dict"].items()
    return {k.removeprefix(_PREFIX): v for k, v in state if k.startswith(_PREFIX)}


def _built(kind: Any, config: dict[str, Any], state: dict[str, Tensor], source: str) -> Any:
    try:
        network = kind(**config)
        network.load_state_dict(state)
    except (ConfigError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{source}: weights and configuration do not fit: {error}") from error
    return network
