"""CCNet: Gabor filters by the formula, a competition that is one, and what the gradient reaches."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import conv2d, interpolate

from palmforge.errors import ConfigError
from palmforge.networks.ccnet import CCNet, CompetitiveBlock, LearnableGabor, compete

SMALL = {"embedding_dim": 12, "hidden_dim": 20, "image_size": 64, "orientations": (3, 4, 3)}


def _network(**settings) -> CCNet:
    torch.manual_seed(0)
    return CCNet(**{**SMALL, "channels": 4, **settings}).eval()


@pytest.fixture
def palms():
    noise = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    return 0.2 + 0.4 * interpolate(noise, (64, 64), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize(("size", "scale"), [(7, 0.25), (35, 1.0)])
def test_kernels_are_the_formula(size, scale):
    layer = LearnableGabor(5, size, scale)
    sigma, frequency, gamma = 9.2 * scale, 0.057 / scale, 2.0
    kernels = torch.empty(5, size, size, dtype=torch.float64)
    for k in range(5):
        for row in range(size):
            for column in range(size):
                x, y, angle = column - size // 2, row - size // 2, k * math.pi / 5
                along = x * math.cos(angle) + y * math.sin(angle)
                across = y * math.cos(angle) - x * math.sin(angle)
                inside = (gamma**2 * along**2 + across**2) / (8 * sigma**2)
                wave = math.cos(2 * math.pi * frequency * along)
                kernels[k, row, column] = -math.exp(-inside / 2) * wave
    kernels -= kernels.mean((1, 2), keepdim=True)
    torch.testing.assert_close(layer.kernels().double(), kernels, atol=1e-5, rtol=0)


def test_kernels_see_no_brightness_but_a_dark_line_across_their_wave():
    layer = LearnableGabor(4, 17, 0.5)  # waves run at 0°, 45°, 90° and 135°
    torch.testing.assert_close(layer.kernels().mean((1, 2)), torch.zeros(4), atol=1e-7, rtol=0)
    dark_line = torch.ones(1, 1, 17, 17)
    dark_line[..., 8] = 0  # upright
    response = (layer.kernels() * dark_line[0]).sum((1, 2))
    assert response.argmax() == 0 and response[0] > 0


def test_all_channels_meet_the_same_kernel():
    """Their sum, filtered once, is the convolution with that kernel for each of them."""
    layer, maps = LearnableGabor(6, 7, 0.25).double(), torch.rand(2, 9, 20, 20).double()
    plain = conv2d(maps, layer.kernels()[:, None].expand(-1, 9, -1, -1), stride=2, padding=3)
    assert layer(maps).shape == (2, 6, 10, 10)
    torch.testing.assert_close(layer(maps), plain)


def test_competition_shares_out_one_among_channels_rows_and_columns():
    responses = 5 * torch.randn(2, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(compete(responses, 1.0).sum(1), torch.ones(2, 7, 8))
    spatial = compete(responses, 0.0)
    rows, columns = responses.softmax(2), responses.softmax(3)
    torch.testing.assert_close(spatial, (rows + columns) / 2)
    torch.testing.assert_close(rows.sum(2), torch.ones(2, 6, 8))
    torch.testing.assert_close(columns.sum(3), torch.ones(2, 6, 7))
    mixed = compete(responses, 0.8)
    torch.testing.assert_close(mixed, 0.8 * compete(responses, 1.0) + 0.2 * spatial)
    total = 0.8 * 7 * 8 + 0.1 * 6 * (7 + 8)
    torch.testing.assert_close(mixed.sum((1, 2, 3)), torch.full((2,), total))


def test_the_size_is_that_of_the_authors():
    network = CCNet()
    assert network.hidden.in_features == 3 * 16 * (15**2 + 7**2) == 13_152
    assert sum(p.numel() for p in network.parameters()) == 62_314_490


def test_branches_start_at_the_scale_of_their_kernel():
    sigmas = [block.first.sigma.item() for block in _network().backbone]
    assert sigmas == pytest.approx([9.2, 4.6, 2.3])


@pytest.mark.parametrize("normalized", [False, True])
def test_embeddings_are_unit_vectors_of_any_size_of_picture(palms, normalized):
    network = _network(normalized=normalized)
    for pictures in (palms, interpolate(palms, (50, 90)), palms[:1]):
        embeddings = network(pictures)
        assert embeddings.shape == (len(pictures), 12) and embeddings.dtype == torch.float32
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(pictures)))
    hidden, features = network.both_layers(palms)
    assert hidden.shape == (4, 20)
    torch.testing.assert_close(features, network.features(palms))


def test_gradients_reach_what_makes_a_filter(palms):
    network = _network()
    network.features(palms).square().sum().backward()
    for block in network.backbone:
        for layer in (block.first, block.second):
            for parameter in (layer.sigma, layer.gamma, layer.frequency):
                assert parameter.grad is not None and parameter.grad.abs() > 0


def test_under_autocast_filters_and_competition_stay_in_float32(palms):
    block = CompetitiveBlock(4, 17, 4, channel_weight=0.8)
    seen = []
    for layer in (block.first, block.second):
        layer.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        block(palms.mean(1, keepdim=True))
    assert seen == [torch.float32] * 2


def test_exposure_does_not_matter(palms):
    network = _network()
    torch.testing.assert_close(network(palms), network(0.6 * palms + 0.1), atol=2e-2, rtol=0)


def test_the_config_rebuilds_the_network(palms):
    network = _network(normalized=True)
    again = CCNet(**network.config).eval()
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(palms), network(palms))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel_sizes": (35, 17)}, "one each a branch"),
        ({"kernel_sizes": (35, 16, 7)}, "16 has no middle"),
        ({"image_size": 32}, "image_size: 32 is too small"),
        ({"standardize": "batch"}, "model.standardize"),
    ],
)
def test_what_cannot_be_built_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        _network(**settings)


def test_other_inputs_are_refused():
    with pytest.raises(ValueError, match=r"images \[N, 3, H, W\]"):
        _network()(torch.zeros(2, 1, 64, 64))
