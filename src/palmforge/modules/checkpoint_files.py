"""Checkpoints opened outside of a Trainer."""

from __future__ import annotations

from typing import Any, TypeVar

import lightning as L
import torch
from torch import Tensor

from palmforge.callbacks.ema import STATE_KEY, averaged
from palmforge.errors import CheckpointError

M = TypeVar("M", bound=L.LightningModule)


def read_checkpoint(path: str, *network_classes: str) -> dict[str, Any]:
    """A checkpoint of one of some modules, without running anything that is in it.

    Args:
        path: A `.ckpt` file.
        network_classes: The modules that it may be of.

    Raises:
        CheckpointError: If it is missing, unsafe, or of none of these modules.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint {path!r}") from None
    except Exception as error:
        raise CheckpointError(f"{path} cannot be read as a checkpoint: {error}") from error
    if (found := checkpoint.get("network_class")) not in network_classes:
        raise CheckpointError(
            f"{path} is a checkpoint of {found or 'something else'}, not of "
            f"{' or '.join(network_classes)}"
        )
    return checkpoint


def weights_of(checkpoint: dict[str, Any], prefer_averages: bool) -> dict[str, Tensor]:
    """Its weights; the averages of `WeightEMA` in their place, if there are any and it is asked."""
    if prefer_averages and STATE_KEY in checkpoint.get("callbacks", {}):
        return averaged(checkpoint)
    weights: dict[str, Tensor] = checkpoint["state_dict"]
    return weights


def plain_arguments(architecture: dict[str, Any], **settings: type) -> dict[str, Any]:
    """Constructor arguments from the plain types that files keep.

    Args:
        architecture: Argument → value.
        settings: Argument → the dataclass that it is, which was kept as a dictionary.
    """
    arguments = dict(architecture)
    for name, dataclass in settings.items():
        fields = arguments[name].items()
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in fields}
        arguments[name] = dataclass(**values)
    return arguments


def load_module(kind: type[M], path: str, averaged: bool, **settings: type) -> M:
    """The module of a checkpoint, for using: its weights in it, and in eval mode.

    Args:
        kind: Its class; the checkpoint's `architecture` are constructor arguments.
        path: A `.ckpt` file.
        averaged: The averages of `WeightEMA`, where it was trained with that.
        settings: Argument → the dataclass that it is, which a checkpoint keeps as a dictionary.

    Raises:
        CheckpointError: If it is missing, unsafe, or of another model.
    """
    checkpoint = read_checkpoint(path, kind.__name__)
    module = kind(**plain_arguments(checkpoint["architecture"], **settings))
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(weights_of(checkpoint, averaged), strict=module.strict_loading)
    return module.eval()
