"""Checkpointed blocks: the same gradients, fewer activations."""

from __future__ import annotations

import copy

import torch

from palmforge.networks.gradient_checkpointing import checkpoint_blocks
from palmforge.networks.stable_diffusion import TinyStableDiffusion, tiny_components

SIZES = TinyStableDiffusion(unet_channels=(16, 32), vae_channels=(8, 8, 8), text_dim=16)


def _loss(unet) -> torch.Tensor:
    draws = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 8, 16, 16, generator=draws)
    words = torch.randn(2, 5, 16, generator=draws)
    return unet(noisy, torch.tensor([3, 700]), words).sample.square().mean()


def _kept(unet) -> int:
    """Bytes that a step keeps, parameters aside."""
    storages = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = _loss(unet)
    own = {parameter.untyped_storage().data_ptr() for parameter in unet.parameters()}
    total = sum(kept.nbytes() for address, kept in storages.items() if address not in own)
    loss.backward()
    return total


def test_gradients_are_those_of_the_plain_network_with_fewer_activations() -> None:
    torch.manual_seed(0)
    plain = tiny_components(SIZES, 64, ["a palm"])["unet"].train()
    theirs, ours = copy.deepcopy(plain), copy.deepcopy(plain)
    theirs.enable_gradient_checkpointing()
    checkpoint_blocks(ours)
    checkpoint_blocks(ours)  # once is enough, twice no harm
    kept = [_kept(network) for network in (plain, theirs, ours)]
    assert kept[2] < 0.75 * kept[1] < 0.75 * kept[0]
    for one, other in zip(plain.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=0)


def test_a_copy_has_weights_of_its_own() -> None:
    unet = tiny_components(SIZES, 64, ["a palm"])["unet"]
    checkpoint_blocks(unet)
    copied = copy.deepcopy(unet)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.zero_()
        assert _loss(unet) == 0
        assert _loss(copied) > 0
