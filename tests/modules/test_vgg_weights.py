"""Pretrained blocks, from files and from torchvision's cache; no network is touched."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import VGG16_BN_Weights, VGG16_Weights
from torchvision.models.vgg import cfgs, make_layers

from palmforge.errors import CheckpointError
from palmforge.modules.vgg_weights import load_pretrained_blocks
from palmforge.networks.hashing import IMAGENET_MEAN, IMAGENET_STD, VGG16Hashing

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def networks() -> dict[str, VGG16Hashing]:
    return {norm: VGG16Hashing(image_size=32, norm=norm).eval() for norm in ("none", "batch")}


@pytest.fixture(scope="module")
def originals() -> dict[str, nn.Sequential]:
    """The convolutions of torchvision's `vgg16` and `vgg16_bn`, random."""
    torch.manual_seed(1)
    found = {n: make_layers(cfgs["D"], batch_norm=n == "batch").eval() for n in ("none", "batch")}
    for module in found["batch"].modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return found


def _state(features: nn.Module) -> dict[str, Tensor]:
    """As a file of torchvision's has it, classifier included (cut short)."""
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    return {**state, "classifier.0.weight": torch.zeros(4, 4)}


def _save(path: Path, state) -> str:
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


def _is_loaded(network: VGG16Hashing, features: nn.Module) -> bool:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    with torch.no_grad():
        ours = network.normalize(IMAGES)
        for block in network.blocks:
            ours = block(ours)
        return torch.equal(ours, features((IMAGES - mean) / std))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_blocks_are_torchvisions(networks, originals, tmp_path, suffix, norm) -> None:
    network, features = networks[norm], originals[norm]
    network.reset_parameters()
    head = network.full[1].weight.clone()
    assert not _is_loaded(network, features)
    load_pretrained_blocks(network, _save(tmp_path / f"vgg{suffix}", _state(features)))
    assert _is_loaded(network, features)
    assert torch.equal(network.full[1].weight, head)


def test_files_that_do_not_count_batches_are_read(networks, originals, tmp_path) -> None:
    state = {n: v for n, v in _state(originals["batch"]).items() if "num_batches" not in n}
    networks["batch"].reset_parameters()
    load_pretrained_blocks(networks["batch"], _save(tmp_path / "vgg.pth", state))
    assert _is_loaded(networks["batch"], originals["batch"])


def test_checkpoints_of_our_own_and_blocks_alone_are_read(networks, tmp_path) -> None:
    source = VGG16Hashing(image_size=32, width=0.125, norm="batch")
    blocks = source.blocks.state_dict()
    files = {
        "run.ckpt": {"state_dict": {f"network.{n}": v for n, v in source.state_dict().items()}},
        "blocks.safetensors": {f"blocks.{n}": v for n, v in blocks.items()},
    }
    for name, state in files.items():
        target = VGG16Hashing(image_size=32, width=0.125, norm="batch")
        load_pretrained_blocks(target, _save(tmp_path / name, state))
        for ours, theirs in zip(target.blocks.state_dict().values(), blocks.values(), strict=True):
            assert torch.equal(ours, theirs)


def test_missing_and_unreadable_files_name_the_key(networks, tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.weights: no file '.*gone\.pth'"):
        load_pretrained_blocks(networks["none"], str(tmp_path / "gone.pth"))
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("no weights")
        with pytest.raises(CheckpointError, match=rf"model\.weights: .*{name} cannot be read"):
            load_pretrained_blocks(networks["none"], str(tmp_path / name))


def test_pickles_that_run_code_are_refused(networks, tmp_path) -> None:
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("ran",))

    torch.save({"features.0.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_pretrained_blocks(networks["none"], str(tmp_path / "trap.pth"))


def test_weights_of_another_network_are_refused(networks, originals, tmp_path) -> None:
    vgg = _state(originals["none"])
    foreign = {
        "resnet": {"conv1.weight": torch.zeros(64, 3, 7, 7)},
        "tensor": torch.zeros(3),
        "short": {n: v for n, v in vgg.items() if not n.startswith("features.28")},
        "shape": {**vgg, "features.2.weight": torch.zeros(64, 64, 5, 5)},
        "no_bias": {n: v for n, v in vgg.items() if n != "features.2.bias"},
    }
    for name, state in foreign.items():
        path = _save(tmp_path / f"{name}.pth", state)
        with pytest.raises(CheckpointError, match=r"model\.weights: .* does not fit this network"):
            load_pretrained_blocks(networks["none"], path)


def test_norm_and_width_must_be_those_of_the_weights(networks, originals, tmp_path) -> None:
    path = _save(tmp_path / "vgg.pth", _state(originals["none"]))
    for network in (
        networks["batch"],
        VGG16Hashing(image_size=32, width=0.125),
        VGG16Hashing(image_size=32, width=0.125, norm="group"),
    ):
        with pytest.raises(CheckpointError, match=r"IMAGENET1K_V1 needs width 1\.0 and norm"):
            load_pretrained_blocks(network, path)


@pytest.fixture
def no_network(tmp_path, monkeypatch) -> Path:
    """torchvision's download cache, empty, and no way out."""

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path / "hub" / "checkpoints"


def test_without_network_the_error_says_what_to_do(networks, no_network) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_pretrained_blocks(networks["none"], "IMAGENET1K_V1")
    for part in (
        "model.weights: IMAGENET1K_V1 could not be downloaded",
        "Name or service not known",
        VGG16_Weights.IMAGENET1K_V1.url,
        str(no_network / "vgg16-397923af.pth"),
        "--model.weights=null",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("norm", "url"),
    [("none", VGG16_Weights.IMAGENET1K_V1.url), ("batch", VGG16_BN_Weights.IMAGENET1K_V1.url)],
)
def test_a_file_put_into_the_cache_is_used(networks, originals, no_network, norm, url) -> None:
    no_network.mkdir(parents=True)
    _save(no_network / url.rpartition("/")[2], _state(originals[norm]))
    networks[norm].reset_parameters()
    load_pretrained_blocks(networks[norm], "IMAGENET1K_V1")
    assert _is_loaded(networks[norm], originals[norm])


@pytest.mark.parametrize("name", ["IMAGENET1K_V2", "IMAGENET1K_FEATURES", "imagenet"])
def test_other_names_are_refused(networks, name) -> None:
    with pytest.raises(
        CheckpointError, match=f"'{name}' is neither a file nor one of IMAGENET1K_V1"
    ):
        load_pretrained_blocks(networks["none"], name)
