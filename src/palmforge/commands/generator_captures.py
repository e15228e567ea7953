"""Captures of palms under several settings of a ControlNet, each with the same seeds and words."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from palmforge.data.generation.captures import CapturePlan
from palmforge.data.progress import progress_bar
from palmforge.errors import CheckpointError, ConfigError
from palmforge.evaluation.identity import Setting
from palmforge.modules.controlnet_files import folder_of
from palmforge.modules.identity_controlnet import IdentityControlNet, load_controlnet
from palmforge.modules.sampling import NoiseSeeds, sample_latents


def loaded(checkpoint: str, averaged: bool, **changes: float | None) -> IdentityControlNet:
    """The ControlNet of a checkpoint, on a GPU if there is one.

    Args:
        checkpoint: Of a run of `IdentityControlNet`.
        averaged: The averages of `WeightEMA`, where there are any.
        changes: How it samples, `num_inference_steps` and so on; None: as it was trained.

    Raises:
        CheckpointError: If it is missing, or of another model.
    """
    try:
        net = load_controlnet(checkpoint, averaged)
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint: {error}") from error
    for name, value in changes.items():
        if value is not None:
            setattr(net, name, value)
    return net.to("cuda" if torch.cuda.is_available() else "cpu")


def check_asked(
    checkpoint: str,
    similarities: Sequence[float] | None,
    shared_steps: Sequence[int],
    eta: float | None,
) -> None:
    """Refuses what no ControlNet can do, before one is loaded.

    Args:
        checkpoint: Of a run of `IdentityControlNet`.
        similarities: m; None: not given.
        shared_steps: K.
        eta: Of DDIM; None: not given.

    Raises:
        CheckpointError: There is no such checkpoint.
        ConfigError: m or η out of range, a value twice, or no K.
    """
    if not folder_of(checkpoint).expanduser().exists():
        raise CheckpointError(f"checkpoint: no checkpoint {checkpoint!r}")
    for m in similarities or ():
        if not -1 <= m <= 1:
            raise ConfigError(f"similarities: {m:g} is not in [-1, 1]")
    if not shared_steps or min(shared_steps) < 0:
        raise ConfigError(f"shared_steps: numbers >= 0 are needed, got {list(shared_steps)}")
    for key, values in (("similarities", similarities or ()), ("shared_steps", shared_steps)):
        if len(set(values)) < len(values):
            raise ConfigError(f"{key}: {list(values)} has a value twice")
    if eta is not None and not 0 <= eta <= 1:
        raise ConfigError(f"eta: {eta:g} is not in [0, 1]")


def settings_of(
    net: IdentityControlNet, similarities: Sequence[float] | None, shared_steps: Sequence[int]
) -> tuple[list[Setting], list[Setting]]:
    """Those that differ in m, and those that differ in K.

    Args:
        net: The ControlNet.
        similarities: m, checked; None: −1, −0.5 … 1 where there is a dial. Without any noise
            shared.
        shared_steps: K, checked; each with the module's own m.

    Raises:
        ConfigError: There is no dial.
    """
    if similarities is not None and not net.has_dial:
        raise ConfigError(
            "similarities: this ControlNet has no dial (it was trained with "
            "model.similarity_weight=0). Leave the key out"
        )
    if similarities is None:
        similarities = (-1.0, -0.5, 0.0, 0.5, 1.0) if net.has_dial else ()
    own = net.similarity if net.has_dial else None
    dial = [Setting(float(m), 0) for m in sorted(similarities)]
    return dial, [Setting(own, k) for k in sorted(shared_steps)]


def prepare_noise(net: IdentityControlNet, most: int, eta: float | None) -> str | None:
    """Sees to it that the last K steps have noise that can be shared.

    Args:
        net: Its η is set, for all settings: only so can they be compared.
        most: The largest K.
        eta: Of DDIM, checked; None: the module's own, or 1 where that gives no noise and K > 0.

    Returns:
        What is to be said of it.

    Raises:
        ConfigError: K is more than there are steps, or the sampler never adds noise.
    """
    if eta is not None:
        net.eta = eta
    remark = None
    try:
        _try(net, most)
    except ConfigError:
        if eta is not None or net.eta > 0:
            raise
        own, net.eta = net.eta, 1.0
        _try(net, most)
        remark = (
            f"Sampled with eta=1 throughout: with the model's own eta={own:g} the sampler adds no "
            "noise that captures could share (K > 0)."
        )
    return remark


def _try(net: IdentityControlNet, most: int) -> None:
    """Raises what sampling would raise, before anything has been sampled."""
    sample_latents(
        deepcopy(net.pipeline.scheduler), lambda noisy, _: torch.zeros_like(noisy), (1, 1, 2, 2),
        torch.device("cpu"), net.num_inference_steps, NoiseSeeds([0], [0], most), net.eta,
    )  # fmt: skip


class Sampler:
    """Captures of palms, in batches of one palm's.

    Args:
        net: The ControlNet.
        pictures: [P, 3, S, S] uint8, the palms.
        names: [P], of them.
        prompts: Gone through again and again, as `CapturePlan` does it.
        captures: M of each palm.
        batch_size: Of them at once, at the most.
        seed: >= 0.
    """

    def __init__(
        self,
        net: IdentityControlNet,
        pictures: Tensor,
        names: Sequence[str],
        prompts: Sequence[str],
        captures: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.net = net
        self.batch_size = batch_size
        self.num_palms, self.captures = len(pictures), captures
        palms = [
            (name, lambda picture=picture: picture.permute(1, 2, 0).numpy())  # type: ignore[misc]
            for name, picture in zip(names, pictures, strict=True)
        ]
        self.plan = CapturePlan(palms, prompts, captures, captures, seed)
        self.palms = np.repeat(np.arange(self.num_palms), captures)

    def __call__(self, setting: Setting) -> Tensor:
        """`[P · M, 3, S, S]` uint8; seeds and prompts are those of any other setting."""
        parts = []
        places = range(self.num_palms)
        for place in progress_bar(places, f"sampling {setting}", self.num_palms):
            batch = self.plan[place]
            for start in range(0, self.captures, self.batch_size):
                part = slice(start, start + self.batch_size)
                parts.append(
                    self.net.sample(
                        batch["prompt"][part],
                        batch["seed"][part].tolist(),
                        batch["reference"][part],
                        batch["identity_seed"][part].tolist(),
                        setting.similarity,
                        setting.shared_steps,
                    )
                )
        return torch.cat(parts)


def run_config(checkpoint: str) -> dict[str, Any] | None:
    """The `config.yaml` of the run that a checkpoint lies in; None if there is none."""
    path = Path(checkpoint).expanduser().resolve().parent.parent / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {part: content[part]["init_args"] for part in ("model", "data")}
    except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
        return None
