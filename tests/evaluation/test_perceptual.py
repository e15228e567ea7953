"""LPIPS out of files, and its stand-in of local features under a name of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hand_photographs import hand
from safetensors.torch import load_file
from torch import Tensor, nn

from palmforge.data.deidentification.baselines import conceal
from palmforge.data.deidentification.segmentation import palm_polygon
from palmforge.errors import CheckpointError
from palmforge.evaluation.perceptual import (
    LOCAL_DISTANCE,
    LOCAL_FRECHET,
    LocalPerceptualDistance,
    LocalTrunk,
    fid_features,
    load_perceptual,
)
from palmforge.metrics.generation import frechet_distance

IMAGE, POINTS = hand()
MASK = palm_polygon(POINTS, *IMAGE.shape[:2])


def _tensor(picture) -> Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)


def _hands(count: int = 3) -> Tensor:
    return torch.stack([_tensor(hand(identity)[0])[:, 32:128, 32:128] for identity in range(count)])


@pytest.fixture(scope="module")
def local() -> LocalPerceptualDistance:
    found = load_perceptual(None)
    assert isinstance(found, LocalPerceptualDistance)
    return found


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory) -> tuple[Path, nn.Sequential]:
    """A file of torchvision's AlexNet, with random weights, and its convolutions."""
    from torchvision.models.alexnet import AlexNet

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        features = AlexNet().features
    features = features.to_empty(device="cpu")
    draw = torch.Generator().manual_seed(0)
    for values in features.state_dict().values():
        values.copy_(0.05 * torch.randn(values.shape, generator=draw))
    path = tmp_path_factory.mktemp("alex") / "alexnet.pth"
    torch.save({f"features.{k}": v for k, v in features.state_dict().items()}, path)
    return path, features.eval()


def test_the_trunk_is_the_one_that_recognisers_start_from():
    import palmforge
    from palmforge.networks.hashing import VGG16Hashing

    file = Path(palmforge.__file__).parent / "assets/vgg16_synthetic/blocks.safetensors"
    theirs = VGG16Hashing(8, None, 32, 0.25, "group", normalization="image").eval()
    _, unknown = theirs.load_state_dict(load_file(file), strict=False)
    assert not unknown
    theirs.freeze(5)
    pictures = _hands(1)[..., :32, :32] / 255
    with torch.no_grad():
        (last,) = LocalTrunk()(theirs.normalize(pictures))[-1:]
        wanted = theirs.frozen_features(pictures)
    torch.testing.assert_close(nn.functional.max_pool2d(last, 2), wanted)


def test_the_formula_is_that_of_lpips_with_weights_of_one():
    class Trunk(nn.Module):
        def forward(self, pair: Tensor) -> list[Tensor]:
            one = torch.tensor([[3.0, 4.0], [4.0, 3.0]]).view(2, 2, 1, 1)
            two = torch.tensor([[[[7.0, 1.0]], [[0.0, 0.0]]], [[[2.0, 0.0]], [[0.0, 5.0]]]])
            return [one, two]

    model = LocalPerceptualDistance()
    model.trunk = Trunk()
    model.register_buffer("here", torch.zeros(1))
    model.parameters = model.buffers  # where it lies: the stub has no weights
    pair = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    wanted = ((0.2**2 + 0.2**2) + (0 + 2) / 2) / 2  # mean of two layers; the second of two places
    torch.testing.assert_close(model.distance(pair, pair), torch.tensor([wanted]))


def test_equal_pictures_are_no_distance_apart_and_order_does_not_matter(local):
    pictures = _hands()
    torch.testing.assert_close(local.distance(pictures, pictures), torch.zeros(3))
    there = local.distance(pictures[:2], pictures[1:])
    torch.testing.assert_close(there, local.distance(pictures[1:], pictures[:2]))
    assert (there > 0.01).all() and (there < 2).all()
    torch.testing.assert_close(there[1:], local.distance(pictures[1:2], pictures[2:]))


def test_what_is_changed_more_looks_more_different(local):
    changed = [conceal(IMAGE, MASK, "blurring", share) for share in (0.02, 0.1, 0.5)]
    changed.append(conceal(IMAGE, MASK, "masking"))
    batch = torch.stack([_tensor(picture) for picture in changed])
    found = local.distance(_tensor(IMAGE)[None].expand(4, -1, -1, -1), batch)
    assert (found.diff() > 0).all() and found[0] > 0


def test_another_light_is_a_difference(local):
    darker = (0.5 * _hands(1)).to(torch.uint8)
    assert local.distance(_hands(1), darker) > 0.01


def test_no_table_calls_local_features_lpips_or_fid(local):
    assert local.name == LOCAL_DISTANCE and "LPIPS" not in local.name
    assert fid_features().name == LOCAL_FRECHET and "FID" not in LOCAL_FRECHET


def test_local_features_are_close_for_pictures_that_are(local):
    features = fid_features()
    originals = torch.stack([_tensor(hand(i)[0]) for i in range(3)])
    weak, black = (
        torch.stack([_tensor(conceal(hand(i)[0], MASK, *how)) for i in range(3)])
        for how in (("blurring", 0.02), ("masking",))
    )
    made = features(originals)
    assert made.shape == (3, 368) and made.dtype == torch.float32
    near, far = (frechet_distance(made, features(batch)) for batch in (weak, black))
    assert 0 < near < far


def test_lpips_of_a_file_is_that_of_the_authors_formula(alexnet):
    import torchmetrics

    path, features = alexnet
    model = load_perceptual(str(path))
    assert model.name == "LPIPS (alex)"
    pictures = _hands(3)
    heads = torch.load(
        Path(torchmetrics.__file__).parent / "functional/image/lpips_models/alex.pth",
        "cpu",
        weights_only=True,
    )
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    maps, values = [], (pictures / 127.5 - 1 - shift) / scale
    with torch.no_grad():
        for number, layer in enumerate(features):
            values = layer(values)
            if number in (1, 4, 7, 9, 11):
                maps.append(nn.functional.normalize(values.clone(), dim=1))
    wanted = torch.zeros(2)
    for number, unit in enumerate(maps):
        weights = heads[f"lin{number}.model.1.weight"].view(1, -1, 1, 1)
        wanted += ((unit[:2] - unit[1:]).square() * weights).sum(1).mean((1, 2))
    torch.testing.assert_close(
        model.distance(pictures[:2], pictures[1:]), wanted, rtol=1e-3, atol=1e-6
    )
    assert model.distance(pictures[:1], pictures[:1]).tolist() == [0]


def test_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("alex", "vgg"):
        with pytest.raises(CheckpointError, match=r"Fetch https://download\.pytorch\.org"):
            load_perceptual(name)
    assert not list(tmp_path.rglob("*.pth"))
    with pytest.raises(CheckpointError, match="neither alex nor vgg nor a file"):
        load_perceptual("squeeze")
    with pytest.raises(CheckpointError, match="no file"):
        fid_features(str(tmp_path / "inception.pth"))


def test_weights_in_the_hubs_folder_are_found_and_no_random_number_is_drawn(
    alexnet, tmp_path, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    place.parent.mkdir(parents=True)
    place.symlink_to(alexnet[0])
    before = torch.random.get_rng_state()
    assert load_perceptual("alex").name == "LPIPS (alex)"
    load_perceptual(None)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_file_of_something_else_is_refused(alexnet, tmp_path):
    other = tmp_path / "other.pth"
    other.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_perceptual(str(other))
    torch.save({"layer.weight": torch.zeros(2)}, other)
    with pytest.raises(CheckpointError, match="neither torchvision's alexnet nor its vgg16"):
        load_perceptual(str(other))
    state = torch.load(alexnet[0], weights_only=True)
    del state["features.10.bias"]
    torch.save(state, other)
    with pytest.raises(CheckpointError, match=r"10\.bias is missing"):
        load_perceptual(str(other))


def test_other_than_two_batches_of_one_size_is_refused(local):
    pictures = _hands(1)
    for other in (pictures.float(), pictures[0], pictures[..., 1:], pictures.expand(2, -1, -1, -1)):
        with pytest.raises(ValueError, match="expected"):
            local.distance(pictures, other)


def test_a_tiny_hand_has_no_distance_and_ends_nothing(local, alexnet):
    tiny = _hands(2)[..., :9]
    assert local.distance(tiny, tiny).isnan().tolist() == [True, True]
    some = _hands(2)[..., :64, :64]
    assert load_perceptual(str(alexnet[0])).distance(some, some).tolist() == [0, 0]
    small = some[..., :16, :16]
    assert local.distance(small, small).tolist() == [0, 0]
    features = fid_features()(tiny)
    assert features.shape == (2, 368) and features.isfinite().all()
