"""What a denoiser is trained to say, and how much each noise level counts."""

from __future__ import annotations

import torch
from torch import Tensor

from palmforge.errors import ConfigError

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def signal_to_noise(alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """SNR(t) = ᾱ_t / (1 − ᾱ_t), `[N]` float32.

    Args:
        alphas_cumprod: `[T]`, ᾱ of the schedule.
        timesteps: `[N]` int64 in [0, T).
    """
    kept = alphas_cumprod.to(timesteps.device, torch.float32)[timesteps]
    return kept / (1 - kept)


def add_noise(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor, timesteps: Tensor) -> Tensor:
    """x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε (Ho et al. 2020, Eq. 4).

    Args:
        latents: x_0, `[N, C, h, w]` float32.
        noise: ε, the same shape.
        alphas_cumprod: `[T]`.
        timesteps: `[N]`.
    """
    kept = _column(alphas_cumprod, timesteps, latents)
    return kept.sqrt() * latents + (1 - kept).sqrt() * noise


def target_of(
    prediction_type: str, latents: Tensor, noise: Tensor, alphas_cumprod: Tensor, timesteps: Tensor
) -> Tensor:
    """What the network shall predict: ε, v = √ᾱ ε − √(1 − ᾱ) x_0 (Salimans & Ho 2022), or x_0."""
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return latents
    kept = _column(alphas_cumprod, timesteps, latents)
    return kept.sqrt() * noise - (1 - kept).sqrt() * latents


def predicted_sample(
    prediction_type: str,
    prediction: Tensor,
    noisy: Tensor,
    alphas_cumprod: Tensor,
    timesteps: Tensor,
) -> Tensor:
    """x̂_0 from what the network predicted at x_t (CemiFace, spec §4, for `epsilon`).

    Args:
        prediction_type: What it is a prediction of.
        prediction: `[N, C, h, w]`.
        noisy: x_t.
        alphas_cumprod: `[T]`.
        timesteps: `[N]`.
    """
    if prediction_type == "sample":
        return prediction
    kept = _column(alphas_cumprod, timesteps, noisy)
    if prediction_type == "v_prediction":
        return kept.sqrt() * noisy - (1 - kept).sqrt() * prediction
    return (noisy - (1 - kept).sqrt() * prediction) / kept.sqrt()


def min_snr_weight(snr: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Min-SNR-γ (Hang et al. 2023, §3.4): the loss on x_0 counts min(SNR, γ) in any case.

    Args:
        snr: `[N]`.
        gamma: γ; the paper's is 5.
        prediction_type: Of the network; the weight is for the squared error of *its* target.

    Returns:
        `[N]`: min(SNR, γ) / SNR for ε, / (SNR + 1) for v, / 1 for x_0.
    """
    clamped = snr.clamp(max=gamma)
    if prediction_type == "epsilon":
        return clamped / snr
    return clamped / (snr + 1) if prediction_type == "v_prediction" else clamped


def denoising_loss(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error, a sample weighted by its noise level.

    Args:
        prediction: `[N, C, h, w]`.
        target: The same shape.
        weight: `[N]`, or None: 1 each.

    Returns:
        `[N]` losses, float32.
    """
    error = (prediction.float() - target.float()).square().flatten(1).mean(1)
    return error if weight is None else weight * error


def check_objective(
    prediction_type: str, min_snr_gamma: float | None, alphas_cumprod: Tensor
) -> None:
    """Refuses what cannot be trained.

    Raises:
        ConfigError: If the prediction type is unknown; or if ε is predicted where the last step is
            noise alone and min-SNR divides by its SNR of 0: the weight is NaN.
    """
    if prediction_type not in PREDICTION_TYPES:
        raise ConfigError(
            f"model.prediction_type: {prediction_type!r} is none of {', '.join(PREDICTION_TYPES)}"
        )
    if prediction_type != "epsilon" or float(alphas_cumprod[-1]) > 0:
        return
    if min_snr_gamma is not None:
        raise ConfigError(
            "model.min_snr_gamma with a zero-terminal-SNR schedule and epsilon: the weight at the "
            "last step is 0 / 0. Set model.prediction_type=v_prediction, or min_snr_gamma=null"
        )


def _column(alphas_cumprod: Tensor, timesteps: Tensor, like: Tensor) -> Tensor:
    kept = alphas_cumprod.to(like.device, torch.float32)[timesteps]
    return kept.view(-1, *(1,) * (like.ndim - 1))
