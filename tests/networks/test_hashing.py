"""The two networks: sizes as documented, codes, freezing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from palmforge.networks.hashing import TinyHashing, VGG16Hashing, binarize


def _parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _small_vgg(**arguments) -> VGG16Hashing:
    torch.manual_seed(0)
    return VGG16Hashing(**{"image_size": 32, "width": 0.125, **arguments})


def test_tiny_network_is_table_1() -> None:
    network = TinyHashing()
    assert _parameters(network) == 243_424
    assert sum(p.numel() * p.element_size() for p in network.parameters()) == 973_696
    assert _parameters(TinyHashing(image_size=224)) == 685_792
    assert _parameters(TinyHashing(num_classes=10)) == 243_424 + 10 * 129
    for text in ("243,424", "973,696", "685,792"):
        assert text in TinyHashing.__doc__
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.MaxPool2d)]
    first, _, second, _, *full = layers
    assert (first.kernel_size, first.out_channels, first.stride, first.padding) == (
        (3, 3), 16, (4, 4), (0, 0)
    )  # fmt: skip
    assert (second.kernel_size, second.out_channels, second.stride, second.padding) == (
        (5, 5), 32, (2, 2), (0, 0)
    )  # fmt: skip
    assert [layer.out_features for layer in full] == [512, 128, 128]


@pytest.mark.parametrize(("size", "millions"), [(128, 65.6), (224, 134.8)])
def test_teacher_has_the_parameters_of_its_docstring(size, millions) -> None:
    with torch.device("meta"):
        network = VGG16Hashing(image_size=size)
    assert round(_parameters(network) / 1e6, 1) == millions
    assert f"{millions} M" in VGG16Hashing.__doc__


@pytest.mark.parametrize("bits", [8, 128])
@pytest.mark.parametrize("classes", [None, 5])
@pytest.mark.parametrize("kind", [TinyHashing, _small_vgg])
def test_output_shapes(bits, classes, kind) -> None:
    output = kind(num_bits=bits, num_classes=classes, image_size=64)(torch.rand(3, 3, 64, 64))
    assert output.codes.shape == (3, bits)
    assert output.codes.abs().max() < 1
    assert output.features.shape[0] == 3
    assert output.logits is None if classes is None else output.logits.shape == (3, classes)


@pytest.mark.parametrize("size", [55, 56, 100, 224])
def test_tiny_network_takes_any_size_from_55(size) -> None:
    assert TinyHashing(image_size=size)(torch.rand(1, 3, size, size)).codes.shape == (1, 128)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TinyHashing(image_size=54), "image_size must be 55 or more"),
        (lambda: VGG16Hashing(image_size=100), "multiple of 32"),
        (lambda: VGG16Hashing(image_size=0), "multiple of 32"),
        (lambda: TinyHashing(num_bits=12), "num_bits must be a positive multiple of 8"),
        (lambda: TinyHashing(num_bits=0), "num_bits"),
        (lambda: _small_vgg(norm="layer"), "norm must be"),
        (lambda: TinyHashing(normalization="max"), "normalization must be imagenet or image"),
        (lambda: _small_vgg().freeze(6), "frozen_blocks must be 0 to 5"),
    ],
)
def test_settings_that_do_not_fit_are_named(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("shape", [(1, 3, 96, 64), (1, 1, 64, 64), (3, 64, 64)])
def test_pictures_of_another_size_are_refused(shape) -> None:
    with pytest.raises(ValueError, match="image_size of the model and of the data"):
        TinyHashing(image_size=64)(torch.rand(shape))


def test_sign_of_zero_is_plus_one() -> None:
    codes = torch.tensor([[0.0, -0.0, 1e-9, -1e-9, 0.7, -0.7]])
    for kind in (torch.float32, torch.bfloat16):
        signs = binarize(codes.to(kind))
        assert signs.tolist() == [[1, 1, 1, -1, 1, -1]]
        assert signs.dtype == kind


def test_image_normalization_takes_exposure_and_white_balance_out() -> None:
    network, images = TinyHashing(normalization="image", image_size=64), torch.rand(2, 3, 64, 64)
    gain = torch.tensor([0.5, 0.7, 0.9]).view(3, 1, 1)
    normalized = network.normalize(images)
    torch.testing.assert_close(
        network.normalize(images * gain + 0.05), normalized, atol=0.02, rtol=0
    )
    assert normalized.mean((2, 3)).abs().max() < 1e-4
    assert network.normalize(torch.full((1, 3, 64, 64), 0.3)).abs().max() < 1e-2  # no 0 / 0
    other = TinyHashing(normalization="imagenet", image_size=64)
    mean = other.mean.expand(3, 64, 64)[None]
    torch.testing.assert_close(other.normalize(mean), torch.zeros_like(mean))
    torch.testing.assert_close(other.normalize(mean + other.std), torch.ones_like(mean))


@pytest.mark.parametrize("blocks", [0, 1, 4, 5])
def test_frozen_blocks_stay_in_eval_mode_and_get_no_gradient(blocks) -> None:
    network = _small_vgg(norm="batch", num_classes=4)
    network.freeze(blocks)
    network.train()
    before = {n: b.clone() for n, b in network.named_buffers() if "running_mean" in n}
    output = network(torch.rand(4, 3, 32, 32))
    (output.codes.sum() + output.logits.square().sum()).backward()
    for number, block in enumerate(network.blocks):
        frozen = number < blocks
        assert all(module.training != frozen for module in block.modules())
        assert all((p.grad is None) == frozen for p in block.parameters())
        assert all(p.requires_grad != frozen for p in block.parameters())
    for name, buffer in network.named_buffers():
        if "running_mean" in name:
            assert torch.equal(buffer, before[name]) == (int(name.split(".")[1]) < blocks)
    assert network.full.training
    assert not network.eval().full.training


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_cached_features_give_the_bits_of_the_direct_path(memory_format) -> None:
    network = _small_vgg(num_classes=4).eval().to(memory_format=memory_format)
    network.freeze(4)
    images = torch.rand(2, 3, 32, 32).contiguous(memory_format=memory_format)
    features = network.frozen_features(images)
    assert not features.requires_grad
    cached = network(torch.zeros(0), features)
    for ours, direct in zip(cached, network(images), strict=True):
        assert torch.equal(ours, direct)


def test_images_of_a_batch_do_not_mix_with_group_norm() -> None:
    network = _small_vgg(norm="group")
    network.full.eval()  # dropout
    images = torch.rand(4, 3, 32, 32)
    alone = torch.cat([network(image[None]).codes for image in images])
    torch.testing.assert_close(network(images).codes, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", [TinyHashing, _small_vgg])
def test_bf16_autocast_runs_and_gives_gradients(kind) -> None:
    network = kind(image_size=64, num_classes=3).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(torch.rand(2, 3, 64, 64))
    (output.codes.float().sum() + output.logits.float().square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_the_statistics_are_no_part_of_a_checkpoint() -> None:
    names = TinyHashing().state_dict().keys()
    assert not {"mean", "std"} & set(names)


def test_the_signal_survives_thirteen_layers_from_scratch() -> None:
    network = _small_vgg(image_size=64).eval()
    output = network(torch.rand(8, 3, 64, 64))
    assert 0.05 < output.features.std() < 50
