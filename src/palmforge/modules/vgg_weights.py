"""Pretrained weights for the convolution blocks of VGG-16: embedded, torchvision's or a file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from palmforge.errors import CheckpointError
from palmforge.networks.hashing import VGG16Hashing

EMBEDDED = {
    "SYNTHETIC_V1": Path(__file__).parents[1] / "assets" / "vgg16_synthetic" / "blocks.safetensors"
}


def load_pretrained_blocks(network: VGG16Hashing, weights: str) -> None:
    """Fills the five convolution blocks, in place. The fully connected layers stay as they are.

    Args:
        network: With the width and norm that the weights were trained with.
        weights: `IMAGENET1K_V1`: torchvision's (width 1), downloaded to its cache if it is not
            there. `SYNTHETIC_V1`: the embedded ones (width 0.25, norm `group`, normalization
            `image`). Or a file: torchvision's state dict of `vgg16` or `vgg16_bn`, `blocks.*`
            tensors, or a checkpoint of `HashingTeacher` (`.pth`, `.pt`, `.ckpt`, `.safetensors`).

    Raises:
        CheckpointError: If the weights cannot be had or are those of another network.
    """
    batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    if weights in EMBEDDED:
        source, state = weights, _read(EMBEDDED[weights])
    elif Path(weights).suffix:
        source, state = weights, _read(Path(weights).expanduser())
    else:
        source, state = _from_torchvision(weights, batch_norm)
    theirs, ours = _in_forward_order(state), _in_forward_order(network.state_dict())
    if [(kind, t.shape) for kind, t in theirs] != [(kind, t.shape) for kind, t in ours]:
        raise CheckpointError(
            f"model.weights: {source} does not fit this network ({len(theirs)} tensors of "
            f"convolution blocks for {len(ours)}, or of other shapes). IMAGENET1K_V1 needs width "
            "1.0 and norm none (vgg16) or batch (vgg16_bn); SYNTHETIC_V1 width 0.25 and norm group."
        )
    with torch.no_grad():
        for (_, target), (_, values) in zip(ours, theirs, strict=True):
            target.copy_(values)


def save_blocks(checkpoint: str, path: str) -> None:
    """Writes the convolution blocks of a `HashingTeacher` checkpoint as float16 safetensors.

    This is how the embedded weights were made; the file is what `weights` takes.

    Args:
        checkpoint: A `.ckpt` file.
        path: The `.safetensors` file to write.

    Raises:
        CheckpointError: If the checkpoint cannot be read or has no blocks.
    """
    from safetensors.torch import save_file

    state: dict[str, Any] = dict(_read(Path(checkpoint)).get("state_dict", {}))
    prefix = "network."
    blocks = {
        name.removeprefix(prefix): values.half().contiguous()
        for name, values in state.items()
        if name.startswith(f"{prefix}blocks.")
    }
    if not blocks:
        raise CheckpointError(f"{checkpoint} is not a checkpoint of HashingTeacher")
    save_file(blocks, path)


def _in_forward_order(state: Any) -> list[tuple[str, Tensor]]:
    """(weight, bias, …, tensor) of the convolution blocks, layer by layer.

    torchvision numbers layers through (`features.28`), we by block (`blocks.4.4`), and safetensors
    gives names in the order of the alphabet: sorting by number makes them one. The number of
    batches that a norm has seen is left out: files of 2017, torchvision's among them, lack it.
    """
    if not isinstance(state, Mapping):
        return []
    state = state.get("state_dict", state)
    found: dict[tuple[int, ...], dict[str, Tensor]] = {}
    for name, values in state.items():
        match = re.fullmatch(r"(?:network\.)?(?:features|blocks)\.([\d.]+)\.(\w+)", str(name))
        if match and match[2] != "num_batches_tracked":
            layer = tuple(int(number) for number in match[1].split("."))
            found.setdefault(layer, {})[match[2]] = values
    return [item for layer in sorted(found) for item in sorted(found[layer].items())]


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
    if name != "IMAGENET1K_V1":  # torchvision's IMAGENET1K_FEATURES want another scale of input
        known = ", ".join(["IMAGENET1K_V1", *EMBEDDED])
        raise CheckpointError(f"model.weights: {name!r} is neither a file nor one of {known}")
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
