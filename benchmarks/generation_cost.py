"""What a picture costs: two stages (a new palm, then captures of it) against one.

    python -m benchmarks generation_cost

One stage is a class-conditional model of the same size: the same UNet with an embedding for each
palm, the same autoencoder, words, sampler, steps and batch. Its weights are random, and cost the
same. It knows the palms that it was trained on, and makes no new ones. Stage 1 is paid once a palm,
stage 2 once a capture; one runs after the other, so memory is that of the larger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.controlnet_costs import without_weights
from benchmarks.step_costs import (
    counted,
    latent_side,
    latents_and_words,
    num_weights,
    stable_diffusion_15,
)
from benchmarks.timing import alternate, one_thread
from benchmarks.training_ways import quiet, small
from palmforge.data.generation.prompts import DEFAULT_TEMPLATES, draw_prompts
from palmforge.modules.identity_controlnet import IdentityControlNet
from palmforge.modules.identity_generator import IdentityGenerator
from palmforge.modules.sampling import NoiseSeeds, guided, sample_latents
from palmforge.modules.stable_diffusion import EMBEDDED

ONE, FIRST = "one stage, a class a palm", "stage 1, a new palm"
SECOND, APART = "stage 2, a capture", "stage 2, guided by the palm apart"


@dataclass(frozen=True)
class Case:
    """What is measured; the numbers are those of `identity_controlnet_tiny.yaml`.

    Attributes:
        pretrained: The base of all.
        image_size: Its pictures' side in pixels.
        num_inference_steps: Of each sampling.
        words: Guidance scale of the words, and of the class.
        palm: Guidance scale of the palm, where it has its own.
        batch_size: Pictures at once.
        num_classes: Palms that the one stage knows.
        captures: M, of each palm.
        rounds: Turns; one more is left out.
    """

    pretrained: str = EMBEDDED
    image_size: int = 64
    num_inference_steps: int = 30
    words: float = 2.0
    palm: float = 1.5
    batch_size: int = 4
    num_classes: int = 1000
    captures: tuple[int, ...] = (1, 10)
    rounds: int = 3


@dataclass(frozen=True)
class Way:
    """One way to sample.

    Attributes:
        module: Has `num_inference_steps`.
        sample: Count → pictures `[N, 3, S, S]` uint8.
        num_weights: Of all networks that take part.
    """

    module: Any
    sample: Callable[[int], Tensor]
    num_weights: int


@dataclass(frozen=True)
class Cost:
    """Of a picture.

    Attributes:
        seconds: CPU time.
        flops: Floating-point operations.
        num_weights: Parameters.
        memory: Most bytes of tensors at once, weights included, for a whole batch.
    """

    seconds: float
    flops: float
    num_weights: int
    memory: int


class OneStage:
    """A class-conditional latent diffusion model: a UNet told which palm, and the words.

    Args:
        base: Of whose pipeline it has autoencoder, words and sampler, and the UNet's sizes.
        num_classes: Palms; one class more is that of none.
    """

    def __init__(self, base: IdentityControlNet, num_classes: int) -> None:
        self.base, self.nobody = base, num_classes
        self.num_inference_steps = base.num_inference_steps
        unet = base.pipeline.unet
        config = {**unet.config, "num_class_embeds": num_classes + 1}
        self.unet = type(unet).from_config(config).eval()

    @torch.no_grad()
    def sample(self, prompts: list[str], seeds: list[int], classes: Tensor) -> Tensor:
        """Captures of palms, `[N, 3, S, S]` uint8."""
        encoders, device = self.base.encoders, self.base.device
        told = encoders.prompts(prompts, device), classes
        nothing = (
            encoders.prompts([""] * len(prompts), device),
            torch.full_like(classes, self.nobody),
        )

        def predict(noisy: Tensor, t: Tensor, which: str) -> Tensor:
            words, labels = told if which == "both" else nothing
            steps = t.expand(len(noisy))
            return self.unet(noisy, steps, words["prompt_embeds"], class_labels=labels).sample

        latents = sample_latents(
            self.base.pipeline.scheduler, guided(predict, self.base.guidance_scale, 1.0),
            encoders.latent_shape(len(prompts)), device, self.num_inference_steps,
            NoiseSeeds(seeds, seeds),
        )  # fmt: skip
        return (encoders.pictures(latents).clamp(0, 1) * 255).round().to(torch.uint8).cpu()


CASE = Case()
SMOKE = {
    "CASE": Case(num_inference_steps=2, batch_size=1, rounds=1, captures=(1, 2)),
    "stable_diffusion_15": small,
}


def run() -> dict[str, Any]:
    with one_thread():
        return measure(CASE)


def measure(case: Case) -> dict[str, Any]:
    """Claim, ratio and the rest, as `python -m benchmarks` shows them."""
    found = costs(case)
    most = f"two stages, {case.captures[-1]} captures a palm"
    unet, controlnet = passes()
    return {
        "claim": f"a picture by {most} vs {ONE}, CPU time, {case.image_size} px, "
        f"{case.num_inference_steps} steps, batch {case.batch_size}",
        "ratio": found[most].seconds / found[ONE].seconds,
        "table": table(found),
        "facts": {
            "a pass of Stable Diffusion 1.5, 512 px": f"UNet {unet / 1e9:.0f} GFLOP, ControlNet "
            f"{controlnet / 1e9:.0f}: a capture by FLOPs {1 + controlnet / unet:.2f} of one stage, "
            f"{1.5 * (1 + controlnet / unet):.2f} where the palm is guided apart"
        },
        "seconds": {name: cost.seconds for name, cost in found.items()},
    }


@quiet()
def costs(case: Case) -> dict[str, Cost]:
    """Of a picture, for each way; of two stages what follows from theirs."""
    torch.manual_seed(0)
    found = {}
    ways = made(case)
    jobs = {name: lambda way=way: way.sample(case.batch_size) for name, way in ways.items()}
    seconds = alternate(jobs, case.rounds, time.process_time)
    for name, way in ways.items():
        one, two = (flops(way, steps) for steps in (1, 2))
        total = one + (case.num_inference_steps - 1) * (two - one)
        memory = 4 * way.num_weights + peak_bytes(way, case.batch_size)
        found[name] = Cost(seconds[name] / case.batch_size, total, way.num_weights, memory)
    lora = sum(p.numel() for p in ways[FIRST].module.parameters() if p.requires_grad)
    for stage, kind in ((SECOND, ""), (APART, ", guided by the palm apart")):
        for count in case.captures:
            captures = f"{count} capture{'s' if count > 1 else ''}"
            together = _together(found[FIRST], found[stage], count, lora)
            found[f"two stages, {captures} a palm{kind}"] = together
    return found


def made(case: Case) -> dict[str, Way]:
    """The ways to sample, on one base."""
    own = {
        "image_size": case.image_size, "num_inference_steps": case.num_inference_steps,
        "guidance_scale": case.words,
    }  # fmt: skip
    first = IdentityGenerator(case.pretrained, **own)
    second = IdentityControlNet(case.pretrained, conditions=("lines", "reference"), **own)
    for module in (first, second):
        module.configure_model()
    one = OneStage(second, case.num_classes)
    prompts = draw_prompts(case.batch_size, DEFAULT_TEMPLATES, seed=0)
    seeds = list(range(case.batch_size))
    palms = first.sample(prompts, seeds)

    def capture(count: int, scale: float) -> Tensor:
        second.control_guidance_scale = scale
        return second.sample(prompts[:count], seeds[:count], palms[:count])

    encoders = num_weights(first.pipeline.vae) + num_weights(first.pipeline.text_encoder)
    captured = num_weights(second) + encoders
    return {
        ONE: Way(
            one,
            lambda count: one.sample(prompts[:count], seeds[:count], torch.arange(count)),
            num_weights(one.unet) + encoders,
        ),
        FIRST: Way(
            first,
            lambda count: first.sample(prompts[:count], seeds[:count]),
            num_weights(first) + encoders,
        ),
        SECOND: Way(second, lambda count: capture(count, 1.0), captured),
        APART: Way(second, lambda count: capture(count, case.palm), captured),
    }


def flops(way: Way, steps: int) -> int:
    """Of one picture, in so many steps."""
    with _steps(way.module, steps):
        return counted(lambda: way.sample(1))


def peak_bytes(way: Way, count: int) -> int:
    """Most that its tensors have at once beside the weights; a third step needs no more."""
    with (
        _steps(way.module, 2),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled,
    ):
        way.sample(count)
    events = profiled.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    now = most = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def passes() -> tuple[int, int]:
    """Operations of UNet and ControlNet of Stable Diffusion 1.5 at 512 px, once each."""
    parts = without_weights(stable_diffusion_15)
    unet, controlnet = parts["unet"], parts["controlnet"]
    with torch.device("meta"), torch.no_grad():
        told = latents_and_words(unet, latent_side(parts, 512), 77)
        control = torch.empty(1, parts["conditions"].num_channels, 512, 512)
        return counted(lambda: unet(*told)), counted(lambda: controlnet(*told, control))


def table(found: dict[str, Cost]) -> str:
    """In Markdown."""
    one = found[ONE]
    lines = [
        "| a picture by | CPU time | vs one stage | GFLOP | vs one stage | weights | memory |",
        "|:---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, cost in found.items():
        lines.append(
            f"| {name} | {1000 * cost.seconds:.0f} ms | {cost.seconds / one.seconds:.2f} "
            f"| {cost.flops / 1e9:.1f} | {cost.flops / one.flops:.2f} "
            f"| {cost.num_weights / 1e6:.2f} M | {cost.memory / 2**20:.1f} MiB |"
        )
    return "\n".join(lines)


def _together(first: Cost, second: Cost, captures: int, lora: int) -> Cost:
    return Cost(
        first.seconds / captures + second.seconds,
        first.flops / captures + second.flops,
        second.num_weights + lora,
        max(first.memory, second.memory),
    )


@contextmanager
def _steps(module: Any, steps: int) -> Iterator[None]:
    before = module.num_inference_steps
    module.num_inference_steps = steps
    try:
        yield
    finally:
        module.num_inference_steps = before
