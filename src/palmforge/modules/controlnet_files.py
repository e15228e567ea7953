"""What is kept of a ControlNet: files of plain diffusers, and beside them what its tokens need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from palmforge.data.atomic import write_aside
from palmforge.errors import CheckpointError

PRETRAINED = "pretrained"
PRETRAINED_PATH = Path(__file__).resolve().parents[1] / "assets" / "identity_controlnet_tiny"
ARCHITECTURE = "identity.json"  # constructor arguments of `IdentityControlNet`
TOKENS = "identity_tokens.safetensors"


def folder_of(name_or_path: str) -> Path:
    """`pretrained` is the folder of the package."""
    return PRETRAINED_PATH if name_or_path == PRETRAINED else Path(name_or_path)


def save_controlnet(
    directory: Path, controlnet: Any, conditions: nn.Module, architecture: dict[str, Any]
) -> None:
    """Writes a folder that `ControlNetModel.from_pretrained` reads, and `load_controlnet` too.

    Args:
        directory: New.
        controlnet: Of diffusers.
        conditions: Whose weights, if there are any, stand beside it.
        architecture: Constructor arguments of `IdentityControlNet`.
    """
    controlnet.save_pretrained(directory)
    if weights := conditions.state_dict():
        save_file({name: value.contiguous() for name, value in weights.items()}, directory / TOKENS)
    for file in directory.glob("*.safetensors"):
        file.chmod(0o644)  # diffusers leaves it to its owner alone
    with write_aside(directory / ARCHITECTURE) as aside:
        aside.write_text(json.dumps(architecture, indent=2) + "\n", encoding="utf-8")


def read_architecture(directory: Path) -> dict[str, Any]:
    """Constructor arguments that `save_controlnet` has written.

    Raises:
        CheckpointError: If there are none.
    """
    try:
        read: dict[str, Any] = json.loads((directory / ARCHITECTURE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{directory}: no {ARCHITECTURE} of `train.py generator export` ({error})"
        ) from error
    return read


def begin_with(directory: Path, controlnet: Any, conditions: nn.Module) -> None:
    """Puts the weights of a folder into a ControlNet and, if it has any, into its conditions.

    Tokens that the folder knows nothing of begin as they are: a dial can be added.

    Raises:
        CheckpointError: If it is no such folder, or of other conditions.
    """
    from diffusers import ControlNetModel

    if (directory / TOKENS).exists() and not conditions.state_dict():
        raise CheckpointError(
            f"model.controlnet: {str(directory)!r} was trained with a dial or with embeddings, and "
            "keeps no palm without them. Give model.similarity_weight and model.conditions as its "
            f"{ARCHITECTURE} has them; for the one of the package: "
            "--config configs/ablation/similarity_dial.yaml --model.controlnet=pretrained"
        )
    try:
        start = ControlNetModel.from_pretrained(directory, use_safetensors=True)
        controlnet.load_state_dict(start.state_dict())
        if conditions.state_dict() and (directory / TOKENS).exists():
            conditions.load_state_dict(load_file(directory / TOKENS))
    except (OSError, ValueError, RuntimeError) as error:  # not there, damaged, of other sizes
        raise CheckpointError(
            f"model.controlnet: {str(directory)!r} is no ControlNet of these conditions: {error}"
        ) from error
