"""Our LoRA step with kept latents and embeddings against the way of diffusers' script.

    python -m benchmarks lora_step
    python -m benchmarks.lora_step --gpu

`train_text_to_image_lora.py` reads a picture's file, runs the autoencoder and the text encoder in
every step. Both ways train the same LoRA on the same batches in the same precision: AdamW, no
clipping (theirs clips nothing: its iterator of parameters is exhausted), no Trainer.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.diffusers_way import PictureFiles, ScriptStep
from benchmarks.lora_checkpoint import checkpoint, one_step_trainer
from benchmarks.lora_costs import (
    CHECKPOINTING,
    checkpoint_bytes,
    flops,
    parameters,
    saved_bytes,
    stable_diffusion_15,
    without_weights,
)
from benchmarks.timing import one_thread
from palmforge.data.augmentation import RoiAugmentation
from palmforge.data.dataset import PalmDataset
from palmforge.data.generation.prompted import PromptedDataset
from palmforge.data.generation.prompts import DEFAULT_TEMPLATES, draw_prompts
from palmforge.data.layouts import scan
from palmforge.data.roi_cache import RoiCache, RoiSettings
from palmforge.data.synthetic import SyntheticPalms
from palmforge.data.tensor_shards import TensorShards
from palmforge.modules.identity_generator import IdentityGenerator
from palmforge.networks.stable_diffusion import TinyStableDiffusion, tiny_components

# A UNet that a CPU can train. Its latents have a quarter of the picture's side, so at 128 pixels it
# works on 32 x 32 as Stable Diffusion 1.5 does at 256; the autoencoder costs 0.75 of its step and
# the text encoder 0.036, as there.
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

    def autocast(self) -> Any:
        """What the UNet runs in."""
        return torch.autocast(self.device, torch.bfloat16, self.dtype == torch.bfloat16)


GPU = Case(
    stable_diffusion_15, 256, 64, "cuda", torch.bfloat16, tolerance=0.05, rounds=5, steps=40,
    settle=20, num_workers=6, num_images=256,
)  # fmt: skip


@dataclass
class Way:
    """One of the two.

    Attributes:
        batches: As many as there are steps.
        loss: (batch, seeds of its noise or None) → loss.
        frozen: Networks that it needs beside the UNet.
        seconds: Of a step, for each turn.
        peak: Most memory on the GPU, in bytes.
    """

    batches: Iterator[dict[str, Any]]
    loss: Callable[[dict[str, Any], Tensor | None], Tensor]
    frozen: list[torch.nn.Module] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    peak: int = 0


def run() -> dict[str, Any]:
    with one_thread():
        return measure(Case())


def measure(case: Case) -> dict[str, Any]:
    """Claim, ratio and the rest, as `python -m benchmarks` shows them."""
    _quieten()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        module = generator(case, folder / "pipeline")
        data = pictures(case, folder)
        files = PictureFiles(data, folder / "files", module.pipeline.tokenizer, case.image_size)
        keep(data, module, folder / "kept")
        script = ScriptStep(module, case.dtype, case.autocast)
        ways = {
            "ours": Way(iter(batches(data, case)), lambda batch, _: _ours(module, batch, case)),
            "diffusers": Way(iter(batches(files, case)), script.loss, [script.vae, script.text]),
        }
        losses = compared(ways, module, case)
        alternate(ways, module, case)
        facts, loader = _facts(case, ways, losses), batches(data, case)
        facts["checkpoint"] = checkpoint(module, loader, case.device, case.dtype, folder)
    seconds = {name: statistics.median(way.seconds) for name, way in ways.items()}
    return {
        "claim": f"LoRA step, latents and embeddings kept vs diffusers' script, "
        f"{case.image_size} px, batch {case.batch_size}, {case.dtype}, {case.device}",
        "ratio": seconds["diffusers"] / seconds["ours"],
        "target": 1.4 if case.device == "cpu" else 1.5,
        "facts": facts,
        "seconds": seconds,
    }


def generator(case: Case, folder: Path) -> IdentityGenerator:
    """The module, its pipeline from a folder as any Stable Diffusion comes."""
    from diffusers import StableDiffusionPipeline

    checker = {"safety_checker": None, "requires_safety_checker": False}
    pipeline = StableDiffusionPipeline(**case.build(), feature_extractor=None, **checker)
    pipeline.to(case.dtype).save_pretrained(folder)
    module = IdentityGenerator(
        str(folder),
        image_size=case.image_size,
        min_snr_gamma=None,  # the script without --snr_gamma
        warmup_steps=0,
    )
    module.trainer = one_step_trainer(
        case.device, case.dtype
    )  # whose precision frozen weights take
    module.configure_model()
    module.trainer = None  # the loop is ours
    return module.to(case.device).train()


def pictures(case: Case, folder: Path) -> PromptedDataset:
    """Rendered palms of the size to train at, with prompts."""
    root = str(folder / "palms")
    SyntheticPalms(case.num_images, 1, ("IF",), case.image_size, what="rois").write(root, 1)
    records = scan(root).records
    cache = RoiCache(str(folder / "cache"), RoiSettings(case.image_size, "whole"))
    cache.fill(records)
    labels = {record.identity: 0 for record in records}
    plain = RoiAugmentation("none", True, case.image_size)
    prompts = draw_prompts(len(records), DEFAULT_TEMPLATES, seed=0)
    return PromptedDataset(PalmDataset(records, labels, cache, plain, ["IF"]), prompts)


def keep(data: PromptedDataset, module: IdentityGenerator, folder: Path) -> None:
    """Fills both caches, as the callback `CacheLatents` does; encoders leave the GPU."""
    latents = TensorShards(folder / "latents", "benchmark")
    for row in data.all_views():
        latents.add(
            [data.palms.key(row)], module.encoders.images(data[row]["image"][None], module.device)
        )
    words = TensorShards(folder / "words", "benchmark")
    for prompt in data.all_prompts():
        words.add([prompt], module.encoders.prompts([prompt], module.device))
    data.latents, data.embeddings = latents, words
    module.encoders.release()


def batches(dataset: Any, case: Case) -> DataLoader:
    """The same (row, seed) items for whoever asks."""
    total = CHECKED + (case.rounds + 1) * (case.steps + case.settle)
    drawn = torch.Generator().manual_seed(1)
    rows = torch.randint(case.num_images, (total, case.batch_size), generator=drawn).tolist()
    items = [
        [(row, place * case.batch_size + slot) for slot, row in enumerate(batch)]
        for place, batch in enumerate(rows)
    ]
    return DataLoader(
        dataset,
        batch_sampler=items,
        num_workers=case.num_workers,
        pin_memory=case.device == "cuda",
    )


def compared(ways: dict[str, Way], module: Any, case: Case) -> dict[str, list[float]]:
    """Losses of both over the same first steps from the same weights, with the same noise.

    Raises:
        AssertionError: If they differ by more than rounding.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
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
    optimizer = module.optimizer([p for p in module.parameters() if p.requires_grad])
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


def _step(way: Way, module: Any, case: Case, optimizer: Any, seeded: bool = False) -> Tensor:
    batch = next(way.batches)
    seeds = batch["seed"] if seeded else None
    batch = module.transfer_batch_to_device(batch, torch.device(case.device), 0)
    loss = way.loss(batch, seeds)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def _ours(module: IdentityGenerator, batch: dict[str, Any], case: Case) -> Tensor:
    with case.autocast():
        return module.training_step(batch, 0)


def _move(way: Way, device: str) -> None:
    for network in way.frozen:
        network.to(device)


def _synchronized(clock: Callable[[], float], on_gpu: bool) -> float:
    if on_gpu:
        torch.cuda.synchronize()
    return clock()


def _facts(case: Case, ways: dict[str, Way], losses: dict[str, list[float]]) -> dict[str, str]:
    parts = without_weights(case.build)
    real = parts if case.build is stable_diffusion_15 else without_weights(stable_diffusion_15)
    found = flops(parts, case.image_size)
    seconds = {name: statistics.median(way.seconds) for name, way in ways.items()}
    facts = {
        "measured": f"{seconds['diffusers'] / seconds['ours']:.2f}",
        "by FLOPs": str(found),
        "parameters": parameters(parts),
    }
    for size in (128, 256, 512):
        facts[f"Stable Diffusion 1.5, {size} px, by FLOPs"] = str(flops(real, size))
    for name, values in losses.items():
        facts[f"losses, {name}"] = " ".join(f"{value:.6f}" for value in values)
    for dtype in (torch.bfloat16, torch.float32):
        facts[f"saved activations a sample, Stable Diffusion 1.5, 512 px, {dtype}"] = ", ".join(
            f"{how} {saved_bytes(real, 512, dtype, prepare) / 2**20:.0f} MiB"
            for how, prepare in CHECKPOINTING.items()
        )
    facts["checkpoint by shapes"] = (
        f"{checkpoint_bytes(parts) / 1e6:.1f} MB, of Stable Diffusion 1.5 "
        f"{checkpoint_bytes(real) / 1e6:.1f} MB"
    )
    done = {"ours": found.unet, "diffusers": found.vae + found.words + found.unet}
    peak = _peak_flops() if case.device == "cuda" else None
    for name, way in ways.items():
        rate = case.batch_size / seconds[name]
        facts[name] = f"{1 / seconds[name]:.2f} steps/s, {rate * done[name] / 1e9:.0f} GFLOP/s"
        if case.device == "cuda":
            facts[name] += f", {way.peak / 2**30:.1f} GiB"
        if peak:
            facts[name] += (
                f", MFU {rate * found.unet / peak:.1%}, with its encoders "
                f"{rate * done[name] / peak:.1%}"
            )
    return facts


def _quieten() -> None:
    """Progress of loading, and Lightning's advice, are not what is read here."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
        library.set_verbosity_error()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning.*")


def _peak_flops() -> float | None:
    name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAK.items() if part in name), None)


def main() -> None:
    """On a CPU as `python -m benchmarks` does, or on a GPU."""
    from benchmarks.__main__ import show

    parser = argparse.ArgumentParser()
    parser.add_argument("--gpu", action="store_true", help="Stable Diffusion 1.5, 256 px, bf16")
    parser.add_argument("--batch_size", type=int, default=GPU.batch_size, help="on the GPU")
    given = parser.parse_args()
    on_gpu = replace(GPU, batch_size=given.batch_size)
    show("lora_step", measure(on_gpu) if given.gpu else run())


if __name__ == "__main__":
    main()
