"""Autoencoders that bring back a thumbnail before their first step."""

from __future__ import annotations

import pytest
import torch
from hand_photographs import hand

from palmforge.errors import ConfigError
from palmforge.modules.palm_autoencoder import PalmAutoencoder
from palmforge.networks.autoencoder_start import start_as_thumbnail
from palmforge.networks.stable_diffusion import TinyStableDiffusion, tiny_autoencoder

SIZES = TinyStableDiffusion(latent_channels=4, vae_norm_groups=1)


def _autoencoder(thumbnail):
    torch.manual_seed(0)
    vae = tiny_autoencoder(SIZES, 64).eval()
    if thumbnail:
        start_as_thumbnail(vae)
    return vae


def _pictures():
    faces = [torch.from_numpy(hand(n, 64)[0].copy()).permute(2, 0, 1) for n in range(2)]
    return torch.stack(faces).float() / 127.5 - 1


@torch.no_grad()
def test_latents_are_colours_and_the_decoder_shows_them():
    vae, pictures = _autoencoder(thumbnail=True), _pictures()
    small = torch.nn.functional.avg_pool2d(pictures, 4).flatten(2)
    posterior = vae.encode(pictures).latent_dist
    made = vae.decode(posterior.mean).sample
    for channel in range(3):
        latent = posterior.mean[:, channel].flatten(1)
        for row in range(2):
            pair = torch.stack([latent[row], small[row, channel]])
            assert torch.corrcoef(pair)[0, 1] > 0.99
    assert posterior.std.max() < 0.1
    error = (made - pictures).square().mean()
    assert error < 0.25 * pictures.square().mean()
    assert (
        error < 0.25 * (_autoencoder(thumbnail=False)(pictures).sample - pictures).square().mean()
    )


def test_every_weight_still_gets_a_gradient():
    vae, pictures = _autoencoder(thumbnail=True), _pictures()
    (vae.decode(vae.encode(pictures).latent_dist.mean).sample - pictures).abs().mean().backward()
    behind = {  # of what begins at nothing: from the second step on
        name for name, p in vae.named_parameters() if p.grad is None or not p.grad.any()
    }
    assert all(".conv1." in name or ".norm" in name or "logvar" in name for name in behind), behind


@pytest.mark.parametrize(
    "sizes", [TinyStableDiffusion(), TinyStableDiffusion(latent_channels=2, vae_norm_groups=1)]
)
def test_norms_of_many_groups_and_too_few_latents_are_refused(sizes):
    with pytest.raises(ConfigError, match=r"vae_norm_groups: 1 and three latents"):
        PalmAutoencoder(sizes, 64, start="thumbnail")
