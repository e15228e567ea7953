"""Networks that see as people do, more or less: LPIPS, the features of FID, and stand-ins for both.

The published ones read weights that come from a network. Where these cannot be had, the first
layers of the package's own trunk (assets/vgg16_synthetic) take their place, under another name: it
has seen rendered palms alone, and what it gives is not LPIPS and not FID. Such figures rank the
methods of one table and say nothing beside a paper's. Nothing here downloads anything.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from palmforge.errors import CheckpointError, ConfigError
from palmforge.evaluation.inception import load_inception
from palmforge.networks.hashing import VGG16Hashing

LOCAL_DISTANCE = "perceptual distance (local features)"
LOCAL_FRECHET = "Fréchet distance (local features)"
_TRUNK = Path(__file__).parents[1] / "assets" / "vgg16_synthetic" / "blocks.safetensors"
_URL = "https://download.pytorch.org/models/"
_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth"}
_ROOM = 1e-10  # as LPIPS has it: a place where no feature answers has no direction
Net = Literal["alex", "vgg"]


class PerceptualDistance(Protocol):
    """How different two pictures look.

    Attributes:
        name: What a table may call it.
        smallest: Pixels that a picture must have a side.
    """

    name: str
    smallest: int

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """uint8 `[N, 3, H, W]` twice → `[N]` float32, 0 for equal pictures.

        NaN where they are smaller than `smallest`: a tiny hand must not end a run.
        """
        ...


class FeatureExtractor(Protocol):
    """Images → features, for `metrics.generation.frechet_distance`.

    Attributes:
        name: What a table may call that distance.
    """

    name: str

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 `[N, 3, H, W]` → `[N, D]` float32."""
        ...


class LocalTrunk(nn.Module):
    """The package's VGG-16 of a quarter of the width, up to its fully connected layers.

    It takes pictures of any size from 16 pixels a side on.
    """

    def __init__(self) -> None:
        super().__init__()
        from safetensors.torch import load_file

        with torch.random.fork_rng(devices=[]):  # its first, random weights are nobody's
            whole = VGG16Hashing(8, None, 32, width=0.25, norm="group", normalization="image")
        prefix = "blocks."
        state = {key.removeprefix(prefix): value for key, value in load_file(_TRUNK).items()}
        self.blocks = cast(nn.ModuleList, whole.blocks)
        self.blocks.load_state_dict(state)
        self.requires_grad_(False).eval()

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Float `[N, 3, H, W]`, normalized → the last map of each block, before it is halved."""
        maps: list[Tensor] = []
        for block in self.blocks:
            *layers, halve = cast(nn.Sequential, block)
            pictures = halve(maps[-1]) if maps else pictures
            for layer in layers:
                pictures = layer(pictures)
            maps.append(pictures)
        return maps


class LocalPerceptualDistance(nn.Module):
    """Eq. 1 of Zhang et al. 2018 with all weights w = 1, on the local trunk, as a mean of layers.

    Features of five layers, unit length at each place; squared differences, summed over channels,
    averaged over places and then over layers (Eq. 1 sums these): in [0, 2]. A pair is normalized
    with the mean and spread of both pictures together, so that a change of its light counts.

    Attributes:
        name: See `PerceptualDistance`.
        smallest: Likewise.
    """

    name = LOCAL_DISTANCE
    smallest = 16

    def __init__(self) -> None:
        super().__init__()
        self.trunk = LocalTrunk()

    @torch.no_grad()
    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """See `PerceptualDistance`; one pair at a time, so that large photographs fit.

        Raises:
            ValueError: If these are no two batches of uint8 RGB pictures of one size.
        """
        _check(a, b)
        place = next(self.parameters()).device
        if min(a.shape[2:]) < self.smallest:
            return torch.full((len(a),), torch.nan, device=place)
        pairs = zip(a.to(place), b.to(place), strict=True)
        found = [self._of_pair(torch.stack(pair).float() / 255) for pair in pairs]
        return torch.stack(found) if found else torch.zeros(0, device=place)

    def _of_pair(self, pair: Tensor) -> Tensor:
        maps = self.trunk(_standardized(pair, dim=(0, 2, 3)))
        units = [normalize(features, dim=1, eps=_ROOM) for features in maps]
        layers = [(one - other).square().sum(0).mean() for one, other in units]
        return torch.stack(layers).mean()


class Lpips(nn.Module):
    """LPIPS (Zhang et al. 2018), version 0.1: torchmetrics' network and weights of its layers.

    Attributes:
        name: See `PerceptualDistance`.
        smallest: Likewise.

    Args:
        network: Of torchmetrics.
        net: Which one it is.
    """

    def __init__(self, network: nn.Module, net: Net) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.name = f"LPIPS ({net})"
        self.smallest = 64 if net == "alex" else 16

    @torch.no_grad()
    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """See `PerceptualDistance`.

        Raises:
            ValueError: If these are no two batches of uint8 RGB pictures of one size.
        """
        _check(a, b)
        place = next(self.parameters()).device
        if min(a.shape[2:]) < self.smallest:
            return torch.full((len(a),), torch.nan, device=place)
        found: Tensor = self.network(a.to(place) / 255, b.to(place) / 255, normalize=True)
        return found.reshape(len(a))


class FidFeatures(nn.Module):
    """Features with the name of the Fréchet distance that they give.

    Attributes:
        name: `FID` for Inception's alone.

    Args:
        network: uint8 `[N, 3, H, W]` → `[N, D]`.
        name: See above.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network = network
        self.name = name

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """uint8 `[N, 3, H, W]` → `[N, D]` float32."""
        features: Tensor = self.network(images)
        return features.float()


class PooledTrunk(nn.Module):
    """Mean of each channel of the five layers of the local trunk: 368 numbers a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = LocalTrunk()

    def forward(self, images: Tensor) -> Tensor:
        """uint8 `[N, 3, H, W]` → `[N, 368]`; what is below 16 pixels a side is enlarged to that."""
        _check(images, images)
        pictures = images.to(next(self.parameters()).device).float() / 255
        size = [max(side, LocalPerceptualDistance.smallest) for side in pictures.shape[2:]]
        if size != list(pictures.shape[2:]):
            pictures = interpolate(pictures, size, mode="bilinear", align_corners=False)
        maps = self.trunk(_standardized(pictures, dim=(2, 3)))
        return torch.cat([features.mean(dim=(2, 3)) for features in maps], dim=1)


def load_perceptual(name_or_path: str | None = None) -> Lpips | LocalPerceptualDistance:
    """LPIPS, or the package's own distance of that kind.

    The paper does not say which network its LPIPS has; `alex` is the LPIPS authors' default.

    Args:
        name_or_path: `alex` or `vgg`: from torch hub's folder, if torchvision put its weights there
            before; or a file of torchvision's `alexnet` or `vgg16`, with ImageNet weights. None:
            the local one.

    Raises:
        CheckpointError: If the weights are not there, or are others.
    """
    if name_or_path is None:
        return LocalPerceptualDistance()
    if name_or_path in _FILES:
        net = cast(Net, name_or_path)
        place = Path(torch.hub.get_dir()) / "checkpoints" / _FILES[net]
        if not place.is_file():
            raise CheckpointError(
                f"lpips: the weights of {net!r} are not at {place}. Fetch {_URL}{_FILES[net]} and "
                "put it there or give its path; or leave it out: the distance is then one of local "
                "features, which is not LPIPS"
            )
        return Lpips(_lpips_network(place, net), net)
    place = Path(name_or_path).expanduser()
    if not place.is_file():
        raise CheckpointError(
            f"lpips: {name_or_path!r} is neither alex nor vgg nor a file. Fetch "
            f"{_URL}{_FILES['alex']}, or leave it out: the distance is then one of local features"
        )
    return Lpips(*_lpips_of_file(place))


def fid_features(inception: str | None = None) -> FidFeatures:
    """The features of FID, or local ones.

    Args:
        inception: A file for `load_inception`; None: the means of the local trunk's layers.

    Raises:
        ConfigError, CheckpointError: As `load_inception`.
    """
    if inception is None:
        return FidFeatures(PooledTrunk().eval(), LOCAL_FRECHET)
    return FidFeatures(load_inception(os.path.expanduser(inception)), "FID")


def _lpips_of_file(path: Path) -> tuple[nn.Module, Net]:
    """By the size of its first filters."""
    first = _read(path).get("features.0.weight")
    sizes: dict[tuple[int, ...], str] = {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}
    net = sizes.get(tuple(first.shape)) if isinstance(first, Tensor) else None
    if net is None:
        raise CheckpointError(
            f"lpips: {path} holds neither torchvision's alexnet nor its vgg16; fetch "
            f"{_URL}{_FILES['alex']}"
        )
    return _lpips_network(path, cast(Net, net)), cast(Net, net)


def _lpips_network(path: Path, net: Net) -> nn.Module:
    """LPIPS of torchmetrics around a trunk from a file: by itself it would download that."""
    try:
        from torchmetrics.functional.image.lpips import _LPIPS
    except ImportError as error:
        raise ConfigError(f"lpips: torchmetrics has it no more where it was ({error})") from error
    with torch.random.fork_rng(devices=[]):
        network = _LPIPS(pretrained=True, net=net, pnet_rand=True)  # weights of the layers
    state = _read(path)
    trunk = network.net.state_dict()
    theirs = {key: state.get(f"features.{key.partition('.')[2]}") for key in trunk}
    for key, value in theirs.items():
        if not isinstance(value, Tensor) or value.shape != trunk[key].shape:
            raise CheckpointError(
                f"lpips: {path} does not hold torchvision's weights for {net!r} ({key} is missing "
                f"or of another size); fetch {_URL}{_FILES[net]}"
            )
    network.net.load_state_dict(theirs)
    return network


def _read(path: Path) -> dict[str, object]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load lets anything through
        raise CheckpointError(f"lpips: {path} cannot be read ({error})") from error
    return state if isinstance(state, dict) else {}


def _standardized(pictures: Tensor, dim: tuple[int, ...]) -> Tensor:
    """As the trunk was trained (`VGG16Hashing.normalize`): mean 0 and spread 1 of each colour."""
    centred = pictures - pictures.mean(dim=dim, keepdim=True)
    return centred / (centred.square().mean(dim=dim, keepdim=True).sqrt() + 1e-3)


def _check(a: Tensor, b: Tensor) -> None:
    for pictures in (a, b):
        if pictures.ndim != 4 or pictures.shape[1] != 3 or pictures.dtype != torch.uint8:
            raise ValueError(
                f"uint8 [N, 3, H, W] expected, got {pictures.dtype} {list(pictures.shape)}"
            )
    if a.shape != b.shape:
        raise ValueError(f"pictures of one size expected, got {list(a.shape)} and {list(b.shape)}")
