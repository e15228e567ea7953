"""Pretrained VGG-16 weights, from torchvision or from a file of the user's."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from palmforge.errors import CheckpointError
from palmforge.networks.hashing import VGG16Hashing


def load_pretrained_blocks(network: VGG16Hashing, weights: str) -> None:
    """Fills the five convolution blocks, in place. The fully connected layers stay as they are.

    Args:
        network: With `width=1`, and the norm that the weights were trained with.
        weights: `"IMAGENET1K_V1"`: torchvision's, downloaded to its cache if it is not there. Or a
            file with a state dict of torchvision's `vgg16` / `vgg16_bn` (`.pth`, `.pt` or
            `.safetensors`).

    Raises:
        CheckpointError: If the weights cannot be had or are those of another network.
    """
    batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    if Path(weights).suffix:
        source, state = weights, _read(Path(weights).expanduser())
    else:
        source, state = _from_torchvision(weights, batch_norm)
    theirs = [value for name, value in state.items() if name.startswith("features.")]
    ours = [(name, value) for name, value in network.blocks.state_dict().items()]
    shapes = [tuple(value.shape) for value in theirs]
    if shapes != [tuple(value.shape) for _, value in ours]:
        raise CheckpointError(
            f"model.weights: {source} does not have the 'features.*' tensors of VGG-16"
            f"{' with batch norm' if batch_norm else ''} ({len(theirs)} tensors for {len(ours)}). "
            "Pretrained weights need width 1.0 and norm 'none' (vgg16) or 'batch' (vgg16_bn)."
        )
    # Both list convolutions (and norms) in the order of the forward pass.
    network.blocks.load_state_dict({n: t for (n, _), t in zip(ours, theirs, strict=True)})


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"model.weights: no file {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"model.weights: {path} cannot be read: {error}") from error


def _from_torchvision(name: str, batch_norm: bool) -> tuple[str, dict[str, Tensor]]:
    from torchvision.models import VGG16_BN_Weights, VGG16_Weights

    kinds = VGG16_BN_Weights if batch_norm else VGG16_Weights
    if name not in kinds.__members__:
        raise CheckpointError(
            f"model.weights: {name!r} is neither a file nor one of {', '.join(kinds.__members__)}"
        )
    member = kinds[name]
    cache = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(member.url)
    try:
        return str(member), member.get_state_dict(progress=False, check_hash=True)
    except Exception as error:
        raise CheckpointError(
            f"model.weights: {name} could not be downloaded ({error}). Without a network, fetch "
            f"{member.url} on another machine and either put it at {cache} or give its path as "
            "--model.weights; or train from scratch with --model.weights=null."
        ) from error
