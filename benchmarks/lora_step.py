"""Our LoRA step with kept latents and embeddings against the way of diffusers' script.

    python -m benchmarks lora_step
    python -m benchmarks.lora_step --gpu

`train_text_to_image_lora.py` reads a picture's file, runs the autoencoder and the text encoder in
every step. Both ways train the same LoRA on the same batches in the same precision: AdamW, no
clipping (theirs clips nothing: its iterator of parameters is exhausted), no Trainer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.diffusers_way import PictureFiles, ScriptStep
from benchmarks.lora_checkpoint import checkpoint
from benchmarks.lora_costs import (
    CHECKPOINTING,
    checkpoint_bytes,
    flops,
    parameters,
    saved_bytes,
    without_weights,
)
from benchmarks.step_costs import stable_diffusion_15
from benchmarks.timing import one_thread
from benchmarks.training_palms import batches, configured, keep, pictures, saved_pipeline
from benchmarks.training_ways import (
    GPU,
    SMALLEST,
    Case,
    Way,
    alternate,
    compared,
    found_facts,
    our_loss,
    quiet,
    run_alone,
)
from palmforge.data.generation.prompted import PromptedDataset
from palmforge.modules.identity_generator import IdentityGenerator

CPU = Case()
SMOKE = {"CPU": SMALLEST, "stable_diffusion_15": SMALLEST.build, "CHECKPOINTING": {}}


def run() -> dict[str, Any]:
    with one_thread():
        return measure(CPU)


@quiet()
def measure(case: Case) -> dict[str, Any]:
    """Claim, ratio and the rest, as `python -m benchmarks` shows them."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        module = generator(case, folder / "pipeline")
        data = pictures(case, folder, PromptedDataset)
        files = PictureFiles(data, folder / "files", module.pipeline.tokenizer, case.image_size)
        keep(data, module, folder / "kept")
        script = ScriptStep(module, case.dtype, case.autocast)
        ways = {
            "ours": Way(iter(batches(data, case)), our_loss(module, case)),
            "diffusers": Way(iter(batches(files, case)), script.loss, [script.vae, script.text]),
        }
        losses = compared(ways, module, case)
        alternate(ways, module, case)
        facts, loader = _facts(case, ways, losses), batches(data, case)
        facts["checkpoint"] = checkpoint(module, loader, case.device, case.dtype, folder)
    return {
        "claim": f"LoRA step, latents and embeddings kept vs diffusers' script, "
        f"{case.image_size} px, batch {case.batch_size}, {case.dtype}, {case.device}",
        "ratio": ways["diffusers"].median / ways["ours"].median,
        "target": 1.4 if case.device == "cpu" else 1.5,
        "facts": facts,
        "seconds": {name: way.median for name, way in ways.items()},
    }


def generator(case: Case, folder: Path) -> IdentityGenerator:
    """The module, its pipeline from a folder."""
    module = IdentityGenerator(
        saved_pipeline(case, folder),
        image_size=case.image_size,
        min_snr_gamma=None,  # the script without --snr_gamma
        warmup_steps=0,
    )
    return configured(module, case)


def _facts(case: Case, ways: dict[str, Way], losses: dict[str, list[float]]) -> dict[str, str]:
    parts = without_weights(case.build)
    real = parts if case.build is stable_diffusion_15 else without_weights(stable_diffusion_15)
    facts = found_facts(case, ways, losses, flops(parts, case.image_size))
    facts["parameters"] = parameters(parts)
    for size in (128, 256, 512):
        facts[f"Stable Diffusion 1.5, {size} px, by FLOPs"] = str(flops(real, size))
    for dtype in (torch.bfloat16, torch.float32):
        facts[f"saved activations a sample, Stable Diffusion 1.5, 512 px, {dtype}"] = ", ".join(
            f"{how} {saved_bytes(real, 512, dtype, prepare) / 2**20:.0f} MiB"
            for how, prepare in CHECKPOINTING.items()
        )
    facts["checkpoint by shapes"] = (
        f"{checkpoint_bytes(parts) / 1e6:.1f} MB, of Stable Diffusion 1.5 "
        f"{checkpoint_bytes(real) / 1e6:.1f} MB"
    )
    return facts


if __name__ == "__main__":
    run_alone("lora_step", run, measure, GPU)
