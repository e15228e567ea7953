"""Localizers by the word that a command line or a config gives for them.

* `default`: the CNN whose weights come with the package (`PalmLocalizer`); a PATH: its weights;
* `dlib:PATH`: the paper's method, a folder that `train.py locate fit` wrote;
* `python:module:function`: your own: a `HandPointsDetector` (WiLoR, MediaPipe, …: a function of a
  picture), whose points are then mapped; or a function without arguments that returns one, or a
  `Localizer`.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from palmforge.errors import ConfigError
from palmforge.localization.hand_points import HandPointsLocalizer
from palmforge.localization.location import Localizer

_PYTHON = (
    "Give python:module:function: a HandPointsDetector (a function of a picture), or a function "
    "without arguments that returns one, or a Localizer"
)


def load_localizer(method: str) -> Localizer:
    """Makes a localizer.

    Args:
        method: See the module.

    Raises:
        ConfigError: If there is no such method, or what it needs is not installed.
        DataError, CheckpointError: If its files are missing or of another kind.
    """
    kind, _, rest = method.partition(":")
    if kind == "dlib":
        from palmforge.localization.dlib_reference import DlibLocalizer

        return DlibLocalizer.load(os.path.expanduser(rest))
    if kind == "python":
        return _of_python(method, rest.partition(":")[2])
    try:
        from palmforge.localization.localizer import PalmLocalizer
    except ModuleNotFoundError as error:
        raise ConfigError(f"localizer {method!r}: {error}") from error
    return PalmLocalizer.from_pretrained(method)


def localizer_identity(method: str) -> str:
    """A digest of what decides a method's answers: its weights, or the source of a module.

    The same for the same files wherever they are kept.

    Raises:
        ConfigError, DataError, CheckpointError: As `load_localizer`.
    """
    kind, _, rest = method.partition(":")
    if kind == "python":
        source = getattr(_module_of(method), "__file__", None)
        return _digest(method, [Path(source)] if source else [])
    path = Path(rest if kind == "dlib" else method).expanduser()
    if path.exists():
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        return _digest(kind if kind == "dlib" else "cnn", files)
    return _digest_of_modules(load_localizer(method))


def _module_of(method: str) -> ModuleType:
    """The module of `python:module:function`."""
    if os.getcwd() not in sys.path:  # as `python -m` does: a module of the working folder is found
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(method.split(":")[1])
    except (ImportError, ValueError) as error:
        raise ConfigError(f"localizer {method!r}: {error}. {_PYTHON}") from error


def _of_python(method: str, attribute: str) -> Localizer:
    make = getattr(_module_of(method), attribute, None)
    if not callable(make):
        raise ConfigError(f"localizer {method!r}: no function {attribute!r} there. {_PYTHON}")
    if inspect.signature(make).parameters:  # takes a picture: it is the detector itself
        return HandPointsLocalizer(make)
    try:
        made = make()
    except Exception as error:  # whatever a user's function does
        raise ConfigError(f"localizer {method!r}: {type(error).__name__}: {error}") from error
    if isinstance(made, Localizer):
        return made
    if callable(made):
        return HandPointsLocalizer(made)
    raise ConfigError(
        f"localizer {method!r} gives a {type(made).__name__}, which is neither a Localizer "
        "(locate_all) nor a HandPointsDetector (a call)"
    )


def _digest(kind: str, files: list[Path]) -> str:
    digest = hashlib.sha256(kind.encode())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _digest_of_modules(localizer: Any) -> str:
    """Of all weights that a localizer holds in attributes, and its settings."""
    import torch

    settings = getattr(localizer, "settings", None)  # a dataclass: thresholds
    digest = hashlib.sha256(f"{type(localizer).__name__} {settings}".encode())
    for name, value in sorted(vars(localizer).items()):
        if isinstance(value, torch.nn.Module):
            for key, tensor in value.state_dict().items():
                digest.update(f"{name}.{key}{tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
