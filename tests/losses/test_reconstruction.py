"""The autoencoder's losses, against loops of a few lines."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck
from torch.distributions import Normal, kl_divergence

from palmforge.losses.reconstruction import edge_loss, gaussian_kl, tone_loss


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, 8, 16)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


def test_edge_loss_compares_slopes(pair):
    made, image = pair
    across = (made[..., 1:] - made[..., :-1]) - (image[..., 1:] - image[..., :-1])
    down = (made[:, :, 1:] - made[:, :, :-1]) - (image[:, :, 1:] - image[:, :, :-1])
    torch.testing.assert_close(edge_loss(*pair), (across.abs().mean() + down.abs().mean()) / 2)


def test_edge_loss_by_hand():
    image = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    assert edge_loss(torch.zeros_like(image), image).item() == 0.5  # 1 across, 0 down
    assert edge_loss(image + 7, image).item() == 0.0  # a tint has no edges


@pytest.mark.parametrize("size", [2, 8])
def test_tone_loss_compares_the_means_of_neighbourhoods(pair, size):
    made, image = pair
    errors = [
        (made - image)[n, c, y : y + size, x : x + size].mean().abs()
        for n in range(2)
        for c in range(3)
        for y in range(0, 8, size)
        for x in range(0, 16, size)
    ]
    torch.testing.assert_close(tone_loss(made, image, size), torch.stack(errors).mean())


def test_tone_loss_sees_a_tint_and_no_fine_pattern():
    image = torch.zeros(1, 1, 8, 8)
    checks = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    assert tone_loss(image + checks, image).item() == 0.0
    assert tone_loss(image + 0.25, image).item() == 0.25


def test_kl_is_that_of_torch(pair):
    mean, sd = pair[0], pair[1].abs() + 0.1
    expected = kl_divergence(Normal(mean, sd), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(gaussian_kl(mean, sd), expected)
    assert gaussian_kl(torch.zeros(3), torch.ones(3)).item() == 0.0


@pytest.mark.parametrize("loss", [edge_loss, tone_loss])
def test_gradients_are_those_of_finite_differences(loss, pair):
    made = pair[0][:1, :1].clone().requires_grad_()
    assert gradcheck(lambda x: loss(x, pair[1][:1, :1]), (made,))
