"""Sampling: guidance for words and control apart, noise that captures of a palm share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from palmforge.data.seeds import mixed_wide
from palmforge.errors import ConfigError

Denoise = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class NoiseSeeds:
    """What the noise of a sample is drawn from.

    Attributes:
        capture: Of each sample, >= 0.
        identity: Of its palm, shared by all its captures.
        shared_steps: K: in the last K of T steps the noise is the palm's (Diff-Palm's noise
            sharing); 0: every capture has its own in all.
    """

    capture: Sequence[int]
    identity: Sequence[int]
    shared_steps: int = 0

    def start(self) -> list[torch.Generator]:
        """Of x_T, one generator a sample, on the CPU."""
        return [torch.Generator().manual_seed(seed) for seed in self.capture]

    def of_step(self, step: int, num_steps: int) -> list[torch.Generator]:
        """Of the noise that step 0 … T − 1 adds: a function of (seed, step) alone."""
        shared = step >= num_steps - self.shared_steps
        seeds = self.identity if shared else self.capture
        return [torch.Generator().manual_seed(mixed_wide(seed, step)) for seed in seeds]


def sample_latents(
    scheduler: Any,
    denoise: Denoise,
    shape: tuple[int, ...],
    device: torch.device,
    num_inference_steps: int,
    seeds: NoiseSeeds,
    eta: float = 0.0,
) -> Tensor:
    """x_T → x_0 with any sampler of diffusers, as its pipelines do it.

    Args:
        scheduler: Of diffusers.
        denoise: (x_t, t) → prediction, guidance included.
        shape: `[N, C, h, w]`.
        device: Where to.
        num_inference_steps: T.
        seeds: Of the start noise, and of what the steps add.
        eta: Of DDIM: 0 adds no noise, 1 as much as DDPM; other samplers have their own.

    Returns:
        Latents, `[N, C, h, w]` float32.

    Raises:
        ConfigError: `shared_steps` is out of 0 … T, or the sampler adds no noise that could be
            shared.
    """
    from diffusers.utils.torch_utils import randn_tensor

    if seeds.shared_steps and not _adds_noise(scheduler, num_inference_steps, eta):
        raise ConfigError(
            f"shared_steps: {type(scheduler).__name__} with eta={eta:g} adds no noise that could "
            "be shared. Take DDPMScheduler, or DDIMScheduler with eta=1"
        )
    scheduler.set_timesteps(num_inference_steps, device=device)
    num_steps = len(scheduler.timesteps)  # samplers of second order take each but one twice
    if not 0 <= seeds.shared_steps <= num_steps:
        raise ConfigError(f"shared_steps: {seeds.shared_steps} is not in 0 … {num_steps} (steps)")
    latents = randn_tensor(shape, generator=seeds.start(), device=device, dtype=torch.float32)
    latents = latents * scheduler.init_noise_sigma
    for step, t in enumerate(scheduler.timesteps):
        prediction = denoise(scheduler.scale_model_input(latents, t), t)
        options = step_options(scheduler, eta, seeds.of_step(step, num_steps))
        latents = scheduler.step(prediction, t, latents, **options).prev_sample
    return latents


def step_options(scheduler: Any, eta: float, noise: list[torch.Generator]) -> dict[str, Any]:
    """Of those that some samplers' steps take, those that this one's does."""
    takes = signature(scheduler.step).parameters
    return {n: v for n, v in {"eta": eta, "generator": noise}.items() if n in takes}


def _adds_noise(scheduler: Any, num_inference_steps: int, eta: float) -> bool:
    """By trying two steps: many a sampler takes a generator and asks it for nothing."""
    results = []
    for seed in (0, 1):
        trial = deepcopy(scheduler)
        trial.set_timesteps(max(2, num_inference_steps))  # the last step adds none
        options = step_options(trial, eta, [torch.Generator().manual_seed(seed)])
        sample = torch.zeros(1, 1, 2, 2)
        for t in trial.timesteps[:2]:
            prediction = torch.zeros_like(trial.scale_model_input(sample, t))
            sample = trial.step(prediction, t, sample, **options).prev_sample
        results.append(sample)
    return not torch.equal(*results)


def guided(
    predict: Callable[[Tensor, Tensor, str], Tensor], words: float, control: float
) -> Denoise:
    """Classifier-free guidance with a scale for each condition (Brooks et al. 2023, Eq. 3).

    ε(∅, ∅) + s_c (ε(∅, c) − ε(∅, ∅)) + s_w (ε(w, c) − ε(∅, c)). With s_c = 1 it is what the
    pipelines of diffusers do.

    Args:
        predict: (x_t, t, which) → ε, `which` of `both`, `control` (no words), `nothing`.
        words: s_w.
        control: s_c.
    """

    def denoise(noisy: Tensor, t: Tensor) -> Tensor:
        both = predict(noisy, t, "both")
        if words == 1 and control == 1:
            return both
        no_words = predict(noisy, t, "control")
        result = no_words + words * (both - no_words)
        if control != 1:
            nothing = predict(noisy, t, "nothing")
            result = result + (control - 1) * (no_words - nothing)
        return result

    return denoise
