"""The localizer's weights: from two checkpoints to one small file, and back."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from palmforge.data.atomic import write_aside
from palmforge.errors import CheckpointError
from palmforge.networks.landmarks import PalmDetector, PalmLandmarks

ASSETS = Path(__file__).resolve().parents[1] / "assets"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class NetworkSettings:
    """How a network was built, and the side of the pictures it was trained on.

    Attributes:
        widths: Of the trunk.
        depths: Of the trunk.
        neck: Of the trunk.
        image_size: Pixels.
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    neck: int
    image_size: int

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> NetworkSettings:
        """From JSON, or from the hyper-parameters of a checkpoint."""
        return cls(
            tuple(values["widths"]), tuple(values["depths"]), values["neck"], values["image_size"]
        )


@dataclass
class LocalizerWeights:
    """Two networks and how they were built."""

    detector: PalmDetector
    landmarks: PalmLandmarks
    detector_settings: NetworkSettings
    landmarks_settings: NetworkSettings

    def save(self, folder: str | Path) -> None:
        """Writes `model.safetensors` (float16) and `config.json`."""
        folder = Path(folder).expanduser()
        tensors: dict[str, Tensor] = {}
        for name, network in (("detector", self.detector), ("landmarks", self.landmarks)):
            for key, values in network.state_dict().items():
                if not key.endswith("num_batches_tracked"):
                    tensors[f"{name}.{key}"] = values.detach().half().contiguous().cpu()
        config = {
            "format_version": FORMAT_VERSION,
            "detector": asdict(self.detector_settings),
            "landmarks": asdict(self.landmarks_settings),
        }
        with write_aside(folder / "model.safetensors") as aside:
            save_file(tensors, aside)
        with write_aside(folder / "config.json") as aside:
            aside.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_weights(name_or_path: str | Path) -> LocalizerWeights:
    """Reads what `LocalizerWeights.save` wrote.

    Args:
        name_or_path: `default`, the weights that come with the package, or a directory.

    Raises:
        CheckpointError: If they are not there, or not whole.
    """
    default = str(name_or_path) == "default"
    folder = ASSETS / "palm_localizer" if default else Path(name_or_path).expanduser()
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "model.safetensors")
        if config["format_version"] != FORMAT_VERSION:
            raise CheckpointError(
                f"{folder}: format {config['format_version']}, this version reads {FORMAT_VERSION}"
            )
        settings = {n: NetworkSettings.of(config[n]) for n in ("detector", "landmarks")}
        return _assemble(tensors, settings["detector"], settings["landmarks"])
    except FileNotFoundError as error:
        raise CheckpointError(
            f"localizer weights: no {error.filename}. Give `default`, or a directory with "
            "model.safetensors and config.json (palmforge.localization.weights)"
        ) from error
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"localizer weights: {folder} cannot be read ({type(error).__name__}: {error})"
        ) from error


def export_localizer(detector: str, landmarks: str, out: str) -> None:
    """Makes the localizer's weights from two trained checkpoints.

    Args:
        detector: A checkpoint of `PalmDetectorModule`.
        landmarks: A checkpoint of `PalmLandmarksModule`.
        out: The directory to write, for PalmLocalizer.from_pretrained.

    Raises:
        CheckpointError: If a checkpoint is missing or is of another module.
    """
    tensors: dict[str, Tensor] = {}
    settings = []
    for name, path in (("detector", detector), ("landmarks", landmarks)):
        state, given = _read_checkpoint(path)
        tensors |= {f"{name}.{key}": values for key, values in state.items()}
        settings.append(given)
    try:
        _assemble(tensors, *settings).save(out)
    except RuntimeError as error:
        raise CheckpointError(
            f"{detector}, {landmarks}: not a detector and a landmark network, in this order: "
            f"{error}"
        ) from error


def _read_checkpoint(path: str) -> tuple[dict[str, Tensor], NetworkSettings]:
    if not Path(path).is_file():
        raise CheckpointError(f"no checkpoint {path!r}")
    content = torch.load(path, map_location="cpu", weights_only=True)
    try:
        settings = NetworkSettings.of(content["hyper_parameters"])
        state = content["state_dict"]
    except KeyError as error:
        raise CheckpointError(f"{path}: not a checkpoint of a palm finder: no {error}") from error
    prefix = "network."
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}, settings


def _assemble(
    tensors: Mapping[str, Tensor], detector: NetworkSettings, landmarks: NetworkSettings
) -> LocalizerWeights:
    def load(network: nn.Module, prefix: str) -> None:
        own = {
            key.removeprefix(prefix): values.float()
            for key, values in tensors.items()
            if key.startswith(prefix) and not key.endswith("num_batches_tracked")
        }
        counters = {k: v for k, v in network.state_dict().items() if "num_batches_tracked" in k}
        network.load_state_dict({**own, **counters})
        network.eval().requires_grad_(False)

    first = PalmDetector(detector.widths, detector.depths, detector.neck)
    second = PalmLandmarks(landmarks.widths, landmarks.depths, landmarks.neck)
    load(first, "detector.")
    load(second, "landmarks.")
    return LocalizerWeights(first, second, detector, landmarks)


def fused(network: nn.Module) -> nn.Module:
    """A copy for inference: batch normalisation in the convolutions before it, channels last."""
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        for child in list(module.children()):
            if isinstance(child, nn.Sequential):
                _fuse_sequence(child)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fuse_sequence(layers: nn.Sequential) -> None:
    for index in range(len(layers) - 1):
        first, second = layers[index], layers[index + 1]
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            layers[index] = fuse_conv_bn_eval(first, second)
            layers[index + 1] = nn.Identity()
