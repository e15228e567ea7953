"""Two ways of one training step, in turns: the same networks, batches and optimizer; no Trainer."""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.step_costs import Flops, stable_diffusion_15
from palmforge.networks.stable_diffusion import TinyStableDiffusion, tiny_components

# A UNet that a CPU can train. Its latents have a quarter of the picture's side, so at 128 pixels it
# works on 32 x 32 as Stable Diffusion 1.5 does at 256; the autoencoder costs 0.75 of a LoRA step
# and the text encoder 0.036, as there.
SMALL = TinyStableDiffusion(
    latent_channels=4,
    vae_channels=(72, 128, 128),
    unet_channels=(64, 128, 192),
    text_dim=192,
    text_layers=5,
    max_tokens=77,
    prediction_type="epsilon",
    beta_schedule="scaled_linear",
)
PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12}  # dense bf16 FLOP/s
CHECKED = 6  # steps whose losses are compared


def small() -> dict[str, Any]:
    """A small stack in the proportions of Stable Diffusion 1.5 at 256 pixels."""
    return tiny_components(SMALL, 128, ["a left palm"])


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        build: Makes the parts of a pipeline.
        image_size: Side of the pictures in pixels.
        batch_size: Pictures a step.
        device: `cpu` or `cuda`.
        dtype: float32; or bfloat16: frozen weights in it, and autocast.
        tolerance: Of losses, as a share of them.
        rounds: Of turns; one more is left out.
        steps: Measured in a turn.
        settle: Steps before them, left out: workers have batches ready from the other's turn.
        num_workers: DataLoader processes of each.
        num_images: Pictures.
        clip: Norm that gradients are clipped to; None: they are not.
    """

    build: Callable[[], dict[str, Any]] = small
    image_size: int = 128
    batch_size: int = 4
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    tolerance: float = 1e-4
    rounds: int = 10
    steps: int = 2
    settle: int = 0
    num_workers: int = 0
    num_images: int = 32
    clip: float | None = None

    def autocast(self) -> Any:
        """What the UNet runs in."""
        return torch.autocast(self.device, torch.bfloat16, self.dtype == torch.bfloat16)


GPU = Case(
    stable_diffusion_15, 256, 64, "cuda", torch.bfloat16, tolerance=0.05, rounds=5, steps=40,
    settle=20, num_workers=6, num_images=256,
)  # fmt: skip


def _smallest() -> dict[str, Any]:
    sizes = replace(
        SMALL, vae_channels=(8, 8, 16), unet_channels=(16, 32), text_dim=32, text_layers=1
    )
    return tiny_components(sizes, 32, ["a left palm"])


SMALLEST = Case(_smallest, image_size=32, batch_size=2, rounds=1, steps=1, num_images=3)


@dataclass
class Way:
    """One of the two.

    Attributes:
        batches: As many as there are steps.
        loss: (batch, seeds of its noise or None) → loss.
        frozen: Networks that it needs beside those of the module.
        seconds: Of a step, for each turn.
        peak: Most memory on the GPU, in bytes.
    """

    batches: Iterator[dict[str, Any]]
    loss: Callable[[dict[str, Any], Tensor | None], Tensor]
    frozen: list[torch.nn.Module] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peak: int = 0

    @property
    def median(self) -> float:
        """Seconds of a step."""
        return statistics.median(self.seconds)


def our_loss(module: Any, case: Case) -> Callable[[dict[str, Any], Tensor | None], Tensor]:
    """The module's training step: all that is random about a batch comes with it."""

    def loss(batch: dict[str, Any], _: Tensor | None) -> Tensor:
        with case.autocast():
            return module.training_step(batch, 0)

    return loss


def compared(ways: dict[str, Way], module: Any, case: Case) -> dict[str, list[float]]:
    """Losses of both over the same first steps from the same weights, with the same noise.

    Raises:
        AssertionError: If they differ by more than rounding.
    """
    trained = _trained(module)
    start = [parameter.detach().clone() for parameter in trained]
    found: dict[str, list[float]] = {}
    for name, way in ways.items():
        for parameter, value in zip(trained, start, strict=True):
            parameter.data.copy_(value)
        _move(way, case.device)
        optimizer = module.optimizer(trained)
        found[name] = [
            _step(way, module, case, optimizer, seeded=True).item() for _ in range(CHECKED)
        ]
        _move(way, "cpu")
    pairs = zip(found["ours"], found["diffusers"], strict=True)
    worst = max(abs(ours - theirs) / theirs for ours, theirs in pairs)
    assert worst < case.tolerance, f"losses differ by {worst:.1e}: {found}"
    return found


def alternate(ways: dict[str, Way], module: Any, case: Case) -> None:
    """Turns of steps; seconds are of CPU time, on a GPU of the clock."""
    on_gpu = case.device == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    optimizer = module.optimizer(_trained(module))
    for turn in range(case.rounds + 1):
        for way in ways.values():
            _move(way, case.device)
            if on_gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            for place in range(case.settle + case.steps):
                if place == case.settle:
                    start = _synchronized(clock, on_gpu)
                _step(way, module, case, optimizer)
            seconds = (_synchronized(clock, on_gpu) - start) / case.steps
            if turn:
                way.seconds.append(seconds)
            way.peak = torch.cuda.max_memory_allocated() if on_gpu else 0
            _move(way, "cpu")


def found_facts(
    case: Case, ways: dict[str, Way], losses: dict[str, list[float]], flops: Flops
) -> dict[str, str]:
    """Ratio, losses, and the rates of both.

    Args:
        case: What was measured.
        ways: After `alternate`.
        losses: Of `compared`.
        flops: Of a sample.
    """
    facts = {
        "measured": f"{ways['diffusers'].median / ways['ours'].median:.2f}",
        "by FLOPs": str(flops),
    }
    for name, values in losses.items():
        facts[f"losses, {name}"] = " ".join(f"{value:.6f}" for value in values)
    done = {"ours": flops.ours, "diffusers": flops.theirs}
    peak = _peak_flops() if case.device == "cuda" else None
    for name, way in ways.items():
        rate = case.batch_size / way.median
        facts[name] = f"{1 / way.median:.2f} steps/s, {rate * done[name] / 1e9:.0f} GFLOP/s"
        if case.device == "cuda":
            facts[name] += f", {way.peak / 2**30:.1f} GiB"
        if peak:
            facts[name] += (
                f", MFU {rate * flops.needed / peak:.1%}, with all that it does "
                f"{rate * done[name] / peak:.1%}"
            )
    return facts


@contextmanager
def quiet() -> Iterator[None]:
    """Without progress of loading and Lightning's advice; as it was afterwards."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    lightning, libraries = (
        logging.getLogger("lightning.pytorch"),
        (diffusers_logging, transformers_logging),
    )
    told = lightning.level, [library.get_verbosity() for library in libraries]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning.*")
        lightning.setLevel(logging.ERROR)
        for library in libraries:
            library.disable_progress_bar()
            library.set_verbosity_error()
        try:
            yield
        finally:
            lightning.setLevel(told[0])
            for library, verbosity in zip(libraries, told[1], strict=True):
                library.enable_progress_bar()
                library.set_verbosity(verbosity)


def run_alone(
    name: str,
    run: Callable[[], dict[str, Any]],
    measure: Callable[[Case], dict[str, Any]],
    on_gpu: Case,
) -> None:
    """A benchmark by itself: on a CPU as `python -m benchmarks` does, or with `--gpu`.

    Args:
        name: Of the benchmark.
        run: On the CPU.
        measure: Of a case.
        on_gpu: The case, but for `--batch_size`.
    """
    from benchmarks.__main__ import show

    parser = argparse.ArgumentParser()
    parser.add_argument("--gpu", action="store_true", help="Stable Diffusion 1.5, 256 px, bf16")
    parser.add_argument("--batch_size", type=int, default=on_gpu.batch_size, help="on the GPU")
    given = parser.parse_args()
    case = replace(on_gpu, batch_size=given.batch_size)
    show(name, measure(case) if given.gpu else run())


def _trained(module: Any) -> list[torch.nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _step(way: Way, module: Any, case: Case, optimizer: Any, seeded: bool = False) -> Tensor:
    batch = next(way.batches)
    seeds = batch["seed"] if seeded else None
    batch = module.transfer_batch_to_device(batch, torch.device(case.device), 0)
    loss = way.loss(batch, seeds)
    loss.backward()
    if case.clip is not None:
        torch.nn.utils.clip_grad_norm_(_trained(module), case.clip)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def _move(way: Way, device: str) -> None:
    for network in way.frozen:
        network.to(device)


def _synchronized(clock: Callable[[], float], on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    return clock()


def _peak_flops() -> float | None:
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAK.items() if part in name), None)
