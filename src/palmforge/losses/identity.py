"""How near a generated palm shall be to its identity: the dial of CemiFace, and plain likeness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from palmforge.errors import ConfigError
from palmforge.losses.diffusion import signal_to_noise
from palmforge.losses.reduction import widen

IdentityWeighting = Literal["signal", "min_snr"]


def similarity_loss(
    cosine: Tensor, similarity: Tensor, timesteps: Tensor, num_timesteps: int
) -> Tensor:
    """(1 − γ_t) · (1 − cos)² + γ_t · (m − cos)², γ_t = t / T (CemiFace, spec §4).

    cos is that of E(x), the inquiry image's embedding, and E(x̂_0). Where there is little noise,
    x̂_0 is the inquiry image and shall stay it; where there is much, the picture is still to be
    decided, and shall come to lie m from it. In training it counts λ = 0.05 beside the denoiser's
    error.

    Args:
        cosine: `[N]`, of unit embeddings.
        similarity: m, `[N]` in [−1, 1]; no gradient flows into it.
        timesteps: t, `[N]` in [0, T], counted from 0 as the schedules do.
        num_timesteps: T.

    Returns:
        `[N]`, float32 at least, in [0, 4].

    Raises:
        ValueError: If shapes differ, or m or t is out of range.
    """
    if not cosine.ndim == similarity.ndim == timesteps.ndim == 1 or not (
        len(cosine) == len(similarity) == len(timesteps)
    ):
        raise ValueError(
            f"cosine {list(cosine.shape)}, similarity {list(similarity.shape)} and timesteps "
            f"{list(timesteps.shape)} must be [N] all three"
        )
    if not bool((similarity.abs() <= 1).all()):  # NaN is refused as well
        raise ValueError(f"similarity must be in [-1, 1], got {similarity.tolist()}")
    if num_timesteps < 1 or not bool(((timesteps >= 0) & (timesteps <= num_timesteps)).all()):
        raise ValueError(f"timesteps must be in [0, {num_timesteps}], got {timesteps.tolist()}")
    cosine = widen(cosine)
    gamma = timesteps.to(cosine) / num_timesteps
    target = similarity.detach().to(cosine)
    return (1 - gamma) * (1 - cosine).square() + gamma * (target - cosine).square()


def similarity_grid(step: float = 0.04) -> Tensor:
    """Values that m is drawn from: −1, −1 + step, … 1, and 0 to the bit if it is one of them.

    Args:
        step: 0.04 is the paper's: 51 values. Drawn from a continuum, training collapses.

    Returns:
        `[2 / step + 1]` float32.

    Raises:
        ConfigError: If 2 is no multiple of the step.
    """
    steps = round(2 / step) if step > 0 else 0
    if steps < 1 or abs(steps * step - 2) > 1e-6:
        raise ConfigError(f"a similarity step of {step} does not lead from -1 to 1: 0.04 does")
    return ((2 * torch.arange(steps + 1, dtype=torch.float64) - steps) / steps).float()


def draw_similarity(generators: Sequence[torch.Generator], step: float = 0.04) -> Tensor:
    """An m for each sample, each value of the grid as likely as the others.

    Args:
        generators: One a sample, on the CPU, from the sample's seed (`modules.draws.generators`):
            m is then a pure function of that seed, whatever the batch and the number of processes.
        step: Of `similarity_grid`.

    Returns:
        `[N]` float32 on the CPU.

    Raises:
        ConfigError: See `similarity_grid`.
    """
    grid = similarity_grid(step)
    places = [int(torch.randint(len(grid), (), generator=g)) for g in generators]
    return grid[torch.tensor(places, dtype=torch.long)]


def identity_weights(
    alphas_cumprod: Tensor,
    timesteps: Tensor,
    kind: IdentityWeighting = "signal",
    gamma: float = 5.0,
) -> Tensor:
    """How much the identity of x̂_0 counts at a noise level: 1 in clean pictures, 0 in noise.

    x̂_0 of a very noisy picture is a blur, of which a recogniser says nothing; and where x̂_0 is
    made of a predicted ε its gradient carries 1 / √ᾱ_t, which `signal` takes away.

    Args:
        alphas_cumprod: `[T]`, ᾱ of the schedule.
        timesteps: `[N]` int64 in [0, T).
        kind: `signal`: √ᾱ_t. `min_snr`: min(SNR(t), γ) / γ, as an error of x_0 counts with
            min-SNR-γ (`losses.diffusion`), but at most 1.
        gamma: γ.

    Returns:
        `[N]` float32 in [0, 1].

    Raises:
        ConfigError: If the kind is unknown or γ is not positive.
    """
    if kind not in ("signal", "min_snr"):
        raise ConfigError(f"identity weighting: {kind!r} is neither signal nor min_snr")
    if gamma <= 0:
        raise ConfigError(f"identity weighting: gamma must be positive, got {gamma}")
    if kind == "signal":
        return alphas_cumprod.to(timesteps.device, torch.float32)[timesteps].sqrt()
    return signal_to_noise(alphas_cumprod, timesteps).clamp(max=gamma) / gamma


def identity_loss(cosine: Tensor, weights: Tensor | None = None) -> Tensor:
    """w_t · (1 − cos) of x̂_0 and its reference, both seen by a frozen recogniser.

    Args:
        cosine: `[N]`, of unit embeddings.
        weights: `[N]` (`identity_weights`), or None: 1 each.

    Returns:
        `[N]`, float32 at least, in [0, 2].

    Raises:
        ValueError: If the two have different shapes.
    """
    loss = 1 - widen(cosine)
    if weights is None:
        return loss
    if weights.shape != cosine.shape:
        raise ValueError(
            f"cosine {list(cosine.shape)} and weights {list(weights.shape)} must have one shape"
        )
    return weights.to(loss) * loss
