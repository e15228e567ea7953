"""What can be exported, with everything that belongs to it inside: pixels in, codes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from palmforge.errors import CheckpointError, ConfigError
from palmforge.localization.weights import NetworkSettings, load_weights
from palmforge.networks.hashing import TinyHashing, VGG16Hashing
from palmforge.networks.landmarks import PalmDetector, PalmLandmarks, detector_peaks, peak_points
from palmforge.networks.preparation import as_float
from palmforge.recognition import load
from palmforge.recognition.embedding import EmbeddingRecognizer
from palmforge.recognition.hashing import HashingRecognizer
from palmforge.recognition.weights import EMBEDDED, HAND_CRAFTED

Role = Literal["code", "embedding", "landmarks", "detector"]

SUPPORTED = (
    "a checkpoint of HashingStudent, HashingTeacher, MarginRecognizer, CCNetRecognizer, "
    "PalmLandmarksModule or PalmDetectorModule, a folder of `recognizer export`, or one of "
    "synthetic-only, palm-landmarks, palm-detector"
)
_RECOGNISERS = ("TinyHashing", "VGG16Hashing", "PalmEmbedding", "CCNet")
_FINDERS = {"palm-landmarks": PalmLandmarks, "palm-detector": PalmDetector}
_GENERATORS = ("IdentityGenerator", "IdentityControlNet", "PalmAutoencoder", "ExemplarInpainter")
_NUM_PEAKS = 8

_PIXELS = "pixels of the input, pixel centres at integers"
_OUTPUTS: dict[Role, dict[str, str]] = {
    "code": {
        "code": "[N, B / 8] uint8: the signs, packed as numpy.packbits does; sgn(0) = +1",
        "values": "[N, B] float32 in (-1, 1): what the signs are of",
    },
    "embedding": {"embedding": "[N, D] float32 unit vectors"},
    "landmarks": {
        "points": f"[N, 35, 2] float32 (x, y): 14 of XJTU-UP, then 21 of the hand; {_PIXELS}",
        "visible": "[N, 35] float32: probability that a point is in view and not hidden",
        "present": "[N] float32: probability that the crop shows a palm",
        "mirrored": "[N] float32: probability that it is the wrong way round, as a left hand",
    },
    "detector": {
        "peaks": f"[N, {_NUM_PEAKS}, 7] float32, the surest first: centre x, y and side ({_PIXELS}"
        "), direction of the fingers x, y, probability of a left hand, score in (0, 1)",
    },
}


@dataclass(frozen=True)
class Exportable:
    """A network that is ready to be written.

    Attributes:
        module: `[N, 3, S, S]` uint8 RGB → a tuple, in the order of `outputs`.
        reference: The same pictures → what the package itself makes of them, to compare the first
            output with.
        role: What the first output is.
        network_class: Of the network inside.
        image_size: S.
        outputs: Name → what it is.
        made_by: The command or the files that made the weights, where they are known.
    """

    module: nn.Module
    reference: Callable[[Tensor], Tensor]
    role: Role
    network_class: str
    image_size: int
    outputs: dict[str, str]
    made_by: str = ""

    @property
    def distance(self) -> Literal["hamming", "cosine"] | None:
        """By which its templates are compared; None if it makes no templates."""
        return {"code": "hamming", "embedding": "cosine"}.get(self.role)  # type: ignore[return-value]


def load_exportable(name_or_path: str) -> Exportable:
    """What a checkpoint, a folder or a name stands for.

    Args:
        name_or_path: See `SUPPORTED`.

    Raises:
        CheckpointError: There is no such checkpoint, or it cannot be read.
        ConfigError: It is of something that cannot be exported.
    """
    if name_or_path in HAND_CRAFTED:
        raise ConfigError(f"ckpt: {name_or_path} has no network to export. Give {SUPPORTED}")
    if name_or_path in _FINDERS:
        weights = load_weights("default")
        role = name_or_path.removeprefix("palm-")
        settings = getattr(weights, f"{role}_settings")
        return _finder(getattr(weights, role), settings, "rendered hands (docs/localization.md)")
    path = Path(name_or_path).expanduser()
    if name_or_path not in EMBEDDED and not path.exists():
        raise CheckpointError(f"ckpt: no {name_or_path!r}. Give {SUPPORTED}")
    if path.is_file():
        checkpoint = _read(path)
        if (found := checkpoint.get("network_class")) not in _RECOGNISERS:
            return _finder_of(checkpoint, found, name_or_path)
    return _recognizer(name_or_path)


class _Coded(nn.Module):
    def __init__(self, network: TinyHashing | VGG16Hashing) -> None:
        super().__init__()
        self.network = network
        # Not named as an output: ONNX would have the name twice.
        powers = torch.tensor([128.0, 64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0])
        self.register_buffer("powers_of_two", powers)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        values = self.network(as_float(image)).codes
        bits = (values >= 0).reshape(values.shape[0], -1, 8).to(values.dtype)
        return (bits * self.powers_of_two).sum(2).to(torch.uint8), values


class _Embedded(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.network(as_float(image)),)


class _Landmarks(_Embedded):
    def forward(self, image: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        said = self.network(as_float(image))
        facts = said.visible.sigmoid(), said.present.sigmoid(), said.mirrored.sigmoid()
        return peak_points(said.heat)[0], *facts


class _Detector(_Embedded):
    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (detector_peaks(self.network(as_float(image)), _NUM_PEAKS),)


def _recognizer(name_or_path: str) -> Exportable:
    recognizer = load(name_or_path)
    assert isinstance(recognizer, HashingRecognizer | EmbeddingRecognizer)
    hashing = isinstance(recognizer, HashingRecognizer)
    network: Any = recognizer.network
    return Exportable(
        (_Coded if hashing else _Embedded)(network).eval(),
        recognizer.embed,
        "code" if hashing else "embedding",
        type(network).__name__,
        network.config["image_size"] if not hashing else network.image_size,
        _OUTPUTS["code" if hashing else "embedding"],
        "rendered palms alone (docs/recognition.md)" if name_or_path in EMBEDDED else "",
    )


def _finder(network: nn.Module, settings: NetworkSettings, made_by: str = "") -> Exportable:
    role: Role = "landmarks" if isinstance(network, PalmLandmarks) else "detector"
    kinds = {"landmarks": _Landmarks, "detector": _Detector}
    module = kinds[role](network).eval().requires_grad_(False)
    return Exportable(
        module,
        lambda images: torch.cat([module(part)[0] for part in images.split(32)]),
        role,
        type(network).__name__,
        settings.image_size,
        _OUTPUTS[role],
        made_by,
    )


def _finder_of(checkpoint: dict[str, Any], found: str | None, path: str) -> Exportable:
    """A palm finder's checkpoint, which has no name of its own, by its weights."""
    state = {k.removeprefix("network."): v for k, v in checkpoint.get("state_dict", {}).items()}
    kind = next(
        (k for k, sign in ((PalmLandmarks, "facts.weight"), (PalmDetector, "head.2.weight"))
         if sign in state and "trunk.stem.0.0.weight" in state),
        None,
    )  # fmt: skip
    if kind is None:
        hint = (
            ". For diffusers: train.py generator export"
            if found in _GENERATORS
            else f". Give {SUPPORTED}"
        )
        raise ConfigError(
            f"ckpt: {path} is of {found or 'something else'}, which export does not write{hint}"
        )
    try:
        settings = NetworkSettings.of(checkpoint["hyper_parameters"])
        network = kind(settings.widths, settings.depths, settings.neck)
        network.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: weights and settings do not fit: {error}") from error
    return _finder(network, settings)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load lets anything through
        raise CheckpointError(f"ckpt: {path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"ckpt: {path} is not a checkpoint")
    return content
