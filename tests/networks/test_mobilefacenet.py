"""MobileFaceNet: the paper's shapes and size, and what timm makes of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from palmforge.errors import ConfigError
from palmforge.networks.embedding import PalmEmbedding
from palmforge.networks.mobilefacenet import MobileFaceNet


def _count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_it_has_the_size_of_the_paper():
    """§3.3: 0.99 M parameters at 112 pixels; that is without the slopes of PReLU."""
    network = MobileFaceNet(in_chans=3, num_classes=128, gdconv_size=7)
    slopes = sum(_count(m) for m in network.modules() if isinstance(m, nn.PReLU))
    assert (_count(network), slopes) == (1_003_136, 7_552)
    assert int((_count(network) - slopes) / 1e4) == 99
    assert _count(MobileFaceNet(in_chans=3)) == 911_232


def test_the_maps_are_those_of_table_1():
    network = MobileFaceNet(gdconv_size=7, num_classes=128)
    shapes = []
    for layer in [*network.stem, *network.blocks, network.last, network.gdconv]:
        layer.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    assert network(torch.rand(2, 3, 112, 112)).shape == (2, 128)
    table = (
        [(64, 56)] * 2 + [(64, 28)] * 5 + [(128, 14)] * 7 + [(128, 7)] * 3 + [(512, 7), (512, 1)]
    )
    assert shapes == [(channels, side, side) for channels, side in table]


def test_only_bottlenecks_that_keep_the_shape_are_residual():
    residual = [block.is_residual for block in MobileFaceNet().blocks]
    assert residual == [False] + [True] * 4 + [False] + [True] * 6 + [False] + [True] * 2
    block = MobileFaceNet().blocks[1].eval()
    nn.init.zeros_(block[2][1].weight)  # its own part says nothing
    maps = torch.rand(1, 64, 8, 8)
    torch.testing.assert_close(block(maps), maps)


@pytest.mark.parametrize(("gdconv", "channels"), [(0, 4), (4, 0)])
def test_a_recogniser_can_stand_on_it(gdconv, channels):
    arguments = {"gdconv_size": gdconv, "width": 0.25}
    network = PalmEmbedding(
        "mobilefacenet", 16, 64, grid_channels=channels, backbone_args=arguments
    )
    network.eval()
    embeddings = network(torch.rand(3, 3, 80, 80))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    again = PalmEmbedding(**network.config)
    again.load_state_dict(network.state_dict())


def test_each_place_has_a_weight_of_its_own():
    """What a mean over places cannot tell apart: a map and the same map mirrored."""
    torch.manual_seed(0)
    network = MobileFaceNet(in_chans=1, gdconv_size=4, width=0.25).eval()
    maps = torch.rand(1, 128, 4, 4)
    assert not torch.allclose(network.gdconv(maps), network.gdconv(maps.flip(3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gdconv_size": 7}, r"gdconv_size: 7, but pictures of 64 pixels .* 4 × 4"),
        ({"num_classes": 8}, "timm makes no 'mobilefacenet'"),
        ({"depth": 3}, "no argument depth"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        PalmEmbedding("mobilefacenet", 16, 64, backbone_args=arguments)


def test_an_embedding_needs_its_global_convolution():
    with pytest.raises(ConfigError, match="num_classes needs gdconv_size"):
        MobileFaceNet(num_classes=128)
