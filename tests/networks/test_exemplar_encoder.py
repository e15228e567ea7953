"""The image encoder of Paint-by-Example: diffusers' own, under the published names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from palmforge.networks.paint_by_example import TinyPaintByExample, tiny_components

SIZES = TinyPaintByExample(
    vae_channels=(8, 8, 16), unet_channels=(16, 32), attention_heads=2, exemplar_size=32,
    encoder_dim=32, encoder_layers=9, embedding_dim=24,
)  # fmt: skip


@pytest.fixture(scope="module")
def parts() -> dict:
    torch.manual_seed(0)
    return tiny_components(SIZES, 32)


def test_it_computes_what_diffusers_own_class_does(parts):
    theirs = pytest.importorskip("diffusers.pipelines.deprecated.paint_by_example.image_encoder")
    ours = parts["image_encoder"].eval()
    ours.uncond_vector.data.normal_()
    twin = theirs.PaintByExampleImageEncoder(ours.config).eval()
    assert twin.state_dict().keys() == ours.state_dict().keys()
    twin.load_state_dict(ours.state_dict())
    pixels = torch.randn(3, 3, 32, 32)
    for mine, other in zip(ours(pixels, True), twin(pixels, True), strict=True):
        assert torch.equal(mine, other)
    assert torch.equal(ours(pixels), ours(pixels, True)[0])


def test_shapes_and_the_number_of_blocks(parts):
    encoder = parts["image_encoder"]
    assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, 1, 24)
    assert encoder.uncond_vector.shape == (1, 1, 24)
    assert len(encoder.mapper.blocks) == 2  # (9 + 1) // 5
    assert parts["unet"].config.in_channels == 9


def test_gradients_reach_every_weight(parts):
    encoder = parts["image_encoder"].train()
    embedding, nothing = encoder(torch.randn(2, 3, 32, 32), return_uncond_vector=True)
    (embedding.square().sum() + nothing.sum()).backward()
    without = {name for name, weight in encoder.named_parameters() if weight.grad is None}
    assert not without
    encoder.zero_grad()


def test_too_few_layers_for_a_mapper_are_refused():
    with pytest.raises(ValueError, match="encoder_layers: 3, at least 4"):
        tiny_components(replace(SIZES, encoder_layers=3), 32)


def test_the_defaults_fit_the_package():
    """The committed model may weigh 16 MB, in float16."""
    parts = tiny_components(TinyPaintByExample(), 64)
    weights = sum(
        weight.numel()
        for name in ("unet", "vae", "image_encoder")
        for weight in parts[name].parameters()
    )
    assert 2 * weights < 16 * 2**20
