"""The denoising objective: which noise, at which level, and what each counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from palmforge.losses.diffusion import (
    add_noise,
    check_objective,
    denoising_loss,
    min_snr_weight,
    predicted_sample,
    signal_to_noise,
    target_of,
)
from palmforge.modules.draws import generators, normal_like

# What the numbers of a sample's seed are drawn for.
POSTERIOR, NOISE, TIMESTEP, OFFSET, PERTURBATION = range(5)


@dataclass(frozen=True)
class Objective:
    """How a denoiser is trained. All randomness comes from each sample's seed.

    Attributes:
        prediction_type: `epsilon`, `v_prediction` or `sample`.
        alphas_cumprod: `[T]`, ᾱ of the noise schedule.
        min_snr_gamma: γ of min-SNR weights (Hang et al. 2023); None: each noise level counts 1.
        noise_offset: Deviation of noise that is constant over a picture.
        input_perturbation: Noise beyond what is asked for (Ning et al. 2023).

    Raises:
        ConfigError: See `check_objective`.
    """

    prediction_type: str
    alphas_cumprod: Tensor
    min_snr_gamma: float | None = None
    noise_offset: float = 0.0
    input_perturbation: float = 0.0

    def __post_init__(self) -> None:
        check_objective(self.prediction_type, self.min_snr_gamma, self.alphas_cumprod)

    @staticmethod
    def latents(batch: dict[str, Any]) -> Tensor:
        """A draw from each posterior: `mean`, `sd` `[N, C, h, w]` and `seed` `[N]` → x_0."""
        mean = batch["mean"].float()
        return mean + batch["sd"] * normal_like(mean, batch["seed"], POSTERIOR)

    def timesteps(self, seeds: Tensor) -> Tensor:
        """`[N]`, each level as likely as the others."""
        num = len(self.alphas_cumprod)
        steps = [torch.randint(num, (), generator=g) for g in generators(seeds, TIMESTEP)]
        return torch.stack(steps)

    def fixed_timesteps(self, index: Tensor, quarter: int) -> Tensor:
        """`[N]` for validation: one in this quarter of the levels, spread over the pictures."""
        num = len(self.alphas_cumprod)
        within = (index.cpu() * 0.618 % 1 + quarter) / 4
        return (within * num).long().clamp(max=num - 1)

    def losses(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        latents: Tensor,
        seeds: Tensor,
        steps: Tensor,
        places: Tensor | None = None,
    ) -> Tensor:
        """Weighted squared errors, `[N]` float32. See `errors`."""
        return self.errors(predict, latents, seeds, steps, places)[0]

    def errors(
        self,
        predict: Callable[[Tensor, Tensor], Tensor],
        latents: Tensor,
        seeds: Tensor,
        steps: Tensor,
        places: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Weighted squared errors, and the pictures that the predictions amount to.

        Args:
            predict: (x_t `[N, C, h, w]`, t `[N]`) → prediction.
            latents: x_0.
            seeds: `[N]`, of the noise.
            steps: t, `[N]`.
            places: How much each place of a picture counts, >= 0, to be broadcast to the latents'
                shape; None: all the same.

        Returns:
            losses: `[N]` float32.
            samples: x̂_0, `[N, C, h, w]`.
        """
        steps = steps.to(latents.device)
        noise = normal_like(latents, seeds, NOISE)
        if self.noise_offset:
            noise = noise + self.noise_offset * normal_like(latents[..., :1, :1], seeds, OFFSET)
        shown = noise
        if self.input_perturbation:
            shown = noise + self.input_perturbation * normal_like(latents, seeds, PERTURBATION)
        noisy = add_noise(latents, shown, self.alphas_cumprod, steps)
        prediction = predict(noisy, steps)
        weight = None
        if self.min_snr_gamma is not None:
            snr = signal_to_noise(self.alphas_cumprod, steps)
            weight = min_snr_weight(snr, self.min_snr_gamma, self.prediction_type)
        target = target_of(self.prediction_type, latents, noise, self.alphas_cumprod, steps)
        sample = predicted_sample(
            self.prediction_type, prediction, noisy, self.alphas_cumprod, steps
        )
        if places is not None:
            root = places.sqrt()
            prediction, target = root * prediction, root * target
        return denoising_loss(prediction, target, weight), sample
