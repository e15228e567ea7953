"""The dial's loss by hand, its values from seeds, and what likeness counts at a noise level."""

from __future__ import annotations

import pytest
import torch

from palmforge.errors import ConfigError
from palmforge.losses.identity import (
    draw_similarity,
    identity_loss,
    identity_weights,
    similarity_grid,
    similarity_loss,
)
from palmforge.modules.draws import generators


def test_similarity_loss_by_hand():
    # t = 0: (1 - 0.5)² = 0.25, whatever m.         t = T: (m - cos)² = (-1 - 0.5)² = 2.25.
    # t = 250: 0.75 · (1 - 0.2)² + 0.25 · (0.6 - 0.2)² = 0.48 + 0.04.
    # m = 1: γ does not matter, (1 + 0.5)².         m = cos = 0: 0.5 · 1 + 0.5 · 0.
    cosine = torch.tensor([0.5, 0.5, 0.2, -0.5, 0.0])
    similarity = torch.tensor([-1.0, -1.0, 0.6, 1.0, 0.0])
    steps = torch.tensor([0, 1000, 250, 777, 500])
    losses = similarity_loss(cosine, similarity, steps, 1000)
    torch.testing.assert_close(losses, torch.tensor([0.25, 2.25, 0.52, 2.25, 0.5]))


def test_at_one_noise_level_the_best_cosine_lies_between_one_and_m():
    """The derivative is 0 at cos = (1 − γ) + γ m."""
    best = 1 - 0.75 + 0.75 * torch.tensor([-1.0, -0.2, 0.4])
    cosine = best.clone().requires_grad_()
    steps = torch.full((3,), 75)
    losses = similarity_loss(cosine, torch.tensor([-1.0, -0.2, 0.4]), steps, 100)
    (gradient,) = torch.autograd.grad(losses.sum(), cosine)
    assert gradient.abs().max() < 1e-6


def test_gradients_are_those_of_finite_differences():
    cosine = torch.tensor([0.9, -0.3, 0.1], dtype=torch.float64, requires_grad=True)
    similarity, steps = torch.tensor([0.0, -0.52, 1.0]), torch.tensor([0, 13, 49])
    weights = torch.tensor([0.1, 1.0, 0.7])
    assert torch.autograd.gradcheck(lambda c: similarity_loss(c, similarity, steps, 50), cosine)
    assert torch.autograd.gradcheck(lambda c: identity_loss(c, weights), cosine)


def test_no_gradient_reaches_m():
    m = torch.tensor([0.5], requires_grad=True)
    cosine = torch.tensor([0.1], requires_grad=True)
    similarity_loss(cosine, m, torch.tensor([5]), 10).sum().backward()
    assert m.grad is None and cosine.grad is not None


def test_half_precision_is_widened():
    half = torch.tensor([0.9990234375], dtype=torch.float16)  # 1 - 2^-10; its square: 2^-20
    losses = similarity_loss(half, torch.zeros(1), torch.tensor([0]), 10)
    assert losses.dtype == torch.float32 and losses.item() == 2**-20
    assert identity_loss(half).dtype == torch.float32


@pytest.mark.parametrize("wrong", [1.01, -1.0001, float("nan"), float("inf")])
def test_m_out_of_range_is_refused(wrong):
    cosine, steps = torch.zeros(2), torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"similarity must be in \[-1, 1\], got"):
        similarity_loss(cosine, torch.tensor([0.0, wrong]), steps, 10)


def test_timesteps_out_of_range_are_refused():
    for step, num in ((11, 10), (-1, 10), (0, 0)):
        with pytest.raises(ValueError, match=r"timesteps must be in \[0, "):
            similarity_loss(torch.zeros(1), torch.zeros(1), torch.tensor([step]), num)


def test_shapes_that_would_be_broadcast_are_refused():
    one, two = torch.zeros(1), torch.zeros(2)
    for parts in ((one, two, two), (two, one, two), (two, two, one), (two[:, None], two, two)):
        with pytest.raises(ValueError, match=r"must be \[N\] all three"):
            similarity_loss(*parts, 10)
    with pytest.raises(ValueError, match="must have one shape"):
        identity_loss(two, one)


def test_the_grid_is_the_papers():
    grid = similarity_grid()
    assert len(grid) == 51 and grid.dtype == torch.float32
    assert (grid[0], grid[25], grid[50]) == (-1, 0, 1)
    torch.testing.assert_close(grid.diff(), torch.full((50,), 0.04), atol=1e-6, rtol=0)
    assert torch.equal(grid, -grid.flip(0))
    assert similarity_grid(2.0).tolist() == [-1, 1]


@pytest.mark.parametrize("step", [0.0, -0.04, 0.3, 3.0, 1e9])
def test_a_step_that_misses_one_is_refused(step):
    with pytest.raises(ConfigError, match="does not lead from -1 to 1"):
        similarity_grid(step)


def test_m_belongs_to_the_seed_not_to_the_batch():
    seeds = torch.arange(40)
    drawn = draw_similarity(generators(seeds, 5))
    alone = [draw_similarity(generators(s[None], 5)).item() for s in seeds.flip(0)]
    assert drawn.tolist() == alone[::-1]
    assert not torch.equal(drawn, draw_similarity(generators(seeds, 6)))
    assert draw_similarity([]).shape == (0,)


def test_all_of_the_grid_is_drawn_alike():
    drawn = draw_similarity(generators(torch.arange(2000)), step=0.5)
    values, counts = drawn.unique(return_counts=True)
    assert values.tolist() == similarity_grid(0.5).tolist() == [-1, -0.5, 0, 0.5, 1]
    assert counts.min() > 340 and counts.max() < 460  # 400 ± 3.4 deviations


def test_identity_loss_by_hand():
    cosine = torch.tensor([1.0, 0.25, -1.0])
    assert identity_loss(cosine).tolist() == [0, 0.75, 2]
    assert identity_loss(cosine, torch.tensor([1.0, 0.5, 0.0])).tolist() == [0, 0.375, 0]


def test_identity_weights_by_hand():
    kept = torch.tensor([1.0, 0.9, 0.5, 0.0])  # SNR ∞, 9, 1, 0
    steps = torch.arange(4)
    signal = identity_weights(kept, steps)
    torch.testing.assert_close(signal, torch.tensor([1.0, 0.9**0.5, 0.5**0.5, 0.0]))
    clamped = identity_weights(kept, steps, "min_snr", gamma=5.0)
    torch.testing.assert_close(clamped, torch.tensor([1.0, 1.0, 0.2, 0.0]))


def test_unknown_weights_are_refused():
    kept, steps = torch.tensor([0.5]), torch.tensor([0])
    with pytest.raises(ConfigError, match="'snr' is neither signal nor min_snr"):
        identity_weights(kept, steps, "snr")
    with pytest.raises(ConfigError, match="gamma must be positive"):
        identity_weights(kept, steps, "min_snr", gamma=0.0)
