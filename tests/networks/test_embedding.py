"""The embedding: unit vectors, blind to exposure and colour, of pictures of any size."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from palmforge.errors import ConfigError
from palmforge.networks.embedding import PalmEmbedding

SMALL = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}


def _network(**settings) -> PalmEmbedding:
    torch.manual_seed(0)
    settings = {"image_size": 64, "embedding_dim": 24, "backbone_args": SMALL, **settings}
    return PalmEmbedding(**settings).eval()


@pytest.fixture
def palms():
    """Smooth pictures away from 0 and 1, so that gains clip nothing."""
    noise = torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    return 0.2 + 0.4 * interpolate(noise, (64, 64), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("grid", [0, 4])
@pytest.mark.parametrize("grey", [True, False])
def test_embeddings_are_unit_vectors_of_any_size_of_picture(palms, grid, grey):
    network = _network(grid_channels=grid, grey=grey)
    for pictures in (palms, interpolate(palms, (50, 90)), palms[:1]):
        embeddings = network(pictures)
        assert embeddings.shape == (len(pictures), 24) and embeddings.dtype == torch.float32
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(pictures)))


def test_exposure_and_white_balance_do_not_matter(palms):
    """Of what the first convolution reads: an untrained network says much the same of anything."""
    gains = torch.tensor([0.7, 1.2, 1.5]).view(3, 1, 1)
    read = _network(grey=False).prepare
    torch.testing.assert_close(read(palms, 64), read(palms * gains + 0.05, 64), atol=0.1, rtol=0)
    as_given = _network(grey=False, standardize="none").prepare
    torch.testing.assert_close(as_given(palms, 64), palms)


def test_grey_networks_see_no_hue(palms):
    luma = (palms * torch.tensor([0.25, 0.5, 0.25]).view(3, 1, 1)).sum(1, keepdim=True)
    network = _network(grey=True)
    torch.testing.assert_close(network(palms), network(luma.expand(-1, 3, -1, -1)))


def test_larger_pictures_are_resized_with_antialiasing(palms):
    """A grating finer than the input's pixels leaves nothing."""
    read = _network().prepare
    large = interpolate(palms, (512, 512), mode="bilinear")
    stripes = 0.1 * (-1.0) ** torch.arange(512).view(1, 1, 1, -1)
    torch.testing.assert_close(read(large, 64), read(large + stripes, 64), atol=0.1, rtol=0)


def test_an_even_picture_gives_a_finite_embedding():
    assert torch.isfinite(_network()(torch.zeros(2, 3, 64, 64))).all()


def test_features_can_be_read_at_a_smaller_side(palms):
    network = _network(grid_channels=4)
    assert network.features(palms, size=48).shape == (5, 24)


def test_the_config_rebuilds_the_network(palms):
    network = _network(grid_channels=4, grey=False)
    again = PalmEmbedding(**network.config).eval()
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(palms), network(palms))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "resnet_of_nobody", "backbone_args": {}}, "model.backbone"),
        ({"backbone_args": {"no_such": 1}}, "model.backbone"),
        ({"standardize": "batch"}, "model.standardize"),
    ],
)
def test_what_cannot_be_built_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        _network(**settings)


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 1, 64, 64), torch.zeros(2, 3, 64, 64, dtype=torch.uint8)]
)
def test_other_inputs_are_refused(images):
    with pytest.raises(ValueError, match=r"images \[N, 3, H, W\]"):
        _network()(images)
