"""What a denoiser is trained to say, against diffusers and against the definition."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from palmforge.errors import ConfigError
from palmforge.losses.diffusion import (
    PREDICTION_TYPES,
    add_noise,
    check_objective,
    denoising_loss,
    min_snr_weight,
    predicted_sample,
    signal_to_noise,
    target_of,
)

STEPS = torch.tensor([0, 1, 250, 500, 998, 999])


@pytest.fixture(params=["linear", "scaled_linear", "squaredcos_cap_v2"])
def scheduler(request) -> DDPMScheduler:
    return DDPMScheduler(beta_schedule=request.param)


@pytest.fixture
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(6, 4, 3, 5, generator=generator) for _ in range(2))


def test_noise_is_added_as_diffusers_does(scheduler, drawn):
    latents, noise = drawn
    ours = add_noise(latents, noise, scheduler.alphas_cumprod, STEPS)
    torch.testing.assert_close(ours, scheduler.add_noise(latents, noise, STEPS))


def test_velocity_is_that_of_diffusers(scheduler, drawn):
    latents, noise = drawn
    ours = target_of("v_prediction", latents, noise, scheduler.alphas_cumprod, STEPS)
    torch.testing.assert_close(ours, scheduler.get_velocity(latents, noise, STEPS))


def test_signal_to_noise_is_that_of_diffusers(scheduler):
    ours = signal_to_noise(scheduler.alphas_cumprod, STEPS)
    torch.testing.assert_close(ours, compute_snr(scheduler, STEPS), rtol=1e-4, atol=0.0)


def test_targets_by_hand():
    """ᾱ = 0.64: x_t = 0.8 x_0 + 0.6 ε, v = 0.8 ε − 0.6 x_0."""
    kept, step = torch.tensor([1.0, 0.64]), torch.tensor([1])
    latents, noise = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), -1.0)
    assert add_noise(latents, noise, kept, step).item() == pytest.approx(1.0)
    values = {k: target_of(k, latents, noise, kept, step).item() for k in PREDICTION_TYPES}
    assert values == {
        "epsilon": -1.0,
        "v_prediction": pytest.approx(-2.0),
        "sample": 2.0,
    }
    assert signal_to_noise(kept, step).item() == pytest.approx(0.64 / 0.36)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_the_sample_comes_back_from_each_target(kind, drawn):
    latents, noise = (part.double() for part in drawn)
    kept, steps = torch.linspace(0.999, 0.05, 6), torch.arange(6)
    noisy = add_noise(latents, noise, kept, steps)
    target = target_of(kind, latents, noise, kept, steps)
    back = predicted_sample(kind, target, noisy, kept, steps)
    torch.testing.assert_close(back, latents, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("gamma", [1.0, 5.0])
@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_an_error_of_the_sample_counts_the_same_in_each_prediction_type(kind, gamma, drawn):
    """Whatever the network says: ‖error of x̂_0‖² has the weight min(SNR, γ)."""
    latents, noise = (part.double() for part in drawn)
    kept, steps = torch.linspace(0.99, 0.02, 6), torch.arange(6)
    noisy = add_noise(latents, noise, kept, steps)
    target = target_of(kind, latents, noise, kept, steps)
    said = target + 0.1 * latents.flip(0)
    snr = signal_to_noise(kept, steps)
    losses = denoising_loss(said, target, min_snr_weight(snr, gamma, kind))
    sample = predicted_sample(kind, said, noisy, kept, steps)
    of_sample = (sample - latents).square().flatten(1).mean(1)
    torch.testing.assert_close(
        losses, (snr.clamp(max=gamma) * of_sample).float(), rtol=1e-4, atol=0.0
    )


def test_min_snr_weights_by_hand():
    snr = torch.tensor([0.5, 20.0])
    assert min_snr_weight(snr, 5.0, "epsilon").tolist() == [1.0, 0.25]
    assert min_snr_weight(snr, 5.0, "sample").tolist() == [0.5, 5.0]
    torch.testing.assert_close(
        min_snr_weight(snr, 5.0, "v_prediction"), torch.tensor([0.5 / 1.5, 5 / 21])
    )


def test_the_loss_is_a_mean_a_picture_in_float32():
    prediction = torch.tensor([[[[1.0, 2.0]]], [[[0.0, 0.0]]]], dtype=torch.bfloat16)
    target = torch.tensor([[[[0.0, 0.0]]], [[[3.0, 1.0]]]])
    losses = denoising_loss(prediction, target)
    assert losses.dtype == torch.float32 and losses.tolist() == [2.5, 5.0]
    assert denoising_loss(prediction, target, torch.tensor([2.0, 0.0])).tolist() == [5.0, 0.0]


def _to_pure_noise() -> torch.Tensor:
    return DDPMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing").alphas_cumprod


def test_epsilon_at_a_step_of_pure_noise_is_refused_with_min_snr():
    kept = _to_pure_noise()
    weight = min_snr_weight(signal_to_noise(kept, torch.tensor([999])), 5.0, "epsilon")
    zero = DDPMScheduler(trained_betas=[0.5, 1.0]).alphas_cumprod
    assert weight.isfinite().all() or kept[-1] <= 1e-8  # what would come of it
    for alphas in (kept, zero):
        with pytest.raises(ConfigError, match=r"prediction_type=v_prediction, or min_snr_gamma"):
            check_objective("epsilon", 5.0, alphas)
    check_objective("epsilon", None, kept)
    check_objective("epsilon", 5.0, DDPMScheduler().alphas_cumprod)


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_other_targets_have_finite_weights_at_pure_noise(kind):
    kept = DDPMScheduler(trained_betas=[0.5, 1.0]).alphas_cumprod
    check_objective(kind, 5.0, kept)
    snr = signal_to_noise(kept, torch.tensor([0, 1]))
    assert snr[1] == 0
    assert min_snr_weight(snr, 5.0, kind)[1] == 0


def test_an_unknown_prediction_type_is_refused_by_name():
    with pytest.raises(ConfigError, match="'flow' is none of epsilon, v_prediction, sample"):
        check_objective("flow", None, DDPMScheduler().alphas_cumprod)
