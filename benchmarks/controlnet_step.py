"""Our ControlNet's step with kept latents and embeddings against the way of diffusers' script.

    python -m benchmarks controlnet_step
    python -m benchmarks.controlnet_step --gpu

`train_controlnet.py` reads a picture and its control from files, runs the autoencoder and the text
encoder in every step. Ours reads what these have said, and makes the control, a map of the palm's
lines, in the step. Both train the same ControlNet on the same batches in the same precision:
gradients pass the frozen UNet's decoder and are clipped, AdamW, no Trainer.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.controlnet_costs import (
    CHECKPOINTING,
    CONDITIONS,
    flops,
    parameters,
    saved_bytes,
    without_weights,
)
from benchmarks.diffusers_way import ControlFiles, ControlNetScriptStep
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
from palmforge.data.generation.captures import CapturePairs
from palmforge.modules.identity_controlnet import IdentityControlNet

CPU = Case(clip=1.0)
ON_GPU = replace(GPU, batch_size=32, clip=1.0)
SMOKE = {
    "CPU": replace(SMALLEST, clip=1.0),
    "stable_diffusion_15": SMALLEST.build,
    "CHECKPOINTING": {},
}


def run() -> dict[str, Any]:
    with one_thread():
        return measure(CPU)


def measure(case: Case) -> dict[str, Any]:
    """Claim, ratio and the rest, as `python -m benchmarks` shows them."""
    ways, losses = turns(case)
    parts = without_weights(case.build)
    real = parts if case.build is stable_diffusion_15 else without_weights(stable_diffusion_15)
    facts = found_facts(case, ways, losses, flops(parts, case.image_size))
    facts["parameters"] = parameters(parts)
    for size in (256, 512):
        facts[f"Stable Diffusion 1.5, {size} px, by FLOPs"] = str(flops(real, size))
    return {
        "claim": f"ControlNet step, latents and embeddings kept vs diffusers' script, "
        f"{case.image_size} px, batch {case.batch_size}, {case.dtype}, {case.device}",
        "ratio": ways["diffusers"].median / ways["ours"].median,
        "target": 1.25 if case.device == "cpu" else 1.4,
        "facts": {**facts, **activations(real, 512, torch.bfloat16)},
        "seconds": {name: way.median for name, way in ways.items()},
    }


@quiet()
def turns(case: Case) -> tuple[dict[str, Way], dict[str, list[float]]]:
    """Both ways after their turns, and the losses of their first steps, which are the same."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        module = controlnet(case, folder / "pipeline")
        data = pictures(case, folder, CapturePairs)
        files = ControlFiles(
            data, folder / "files", module.pipeline.tokenizer, case.image_size,
            lambda reference: module.conditions.control(reference.to(module.device)),
        )  # fmt: skip
        keep(data, module, folder / "kept")
        script = ControlNetScriptStep(module, case.dtype, case.autocast)
        ways = {
            "ours": Way(iter(batches(data, case)), our_loss(module, case)),
            "diffusers": Way(iter(batches(files, case)), script.loss, [script.vae, script.text]),
        }
        losses = compared(ways, module, case)
        alternate(ways, module, case)
    return ways, losses


def controlnet(case: Case, folder: Path) -> IdentityControlNet:
    """The module, its pipeline from a folder; what it says counts, as after some training."""
    module = IdentityControlNet(
        saved_pipeline(case, folder),
        image_size=case.image_size,
        conditions=CONDITIONS,
        min_snr_gamma=None,  # the script has none
        warmup_steps=0,
    )
    configured(module, case)
    network = module.controlnet  # which begins with zeros: losses would not see the control
    for layer in (network.controlnet_mid_block, *network.controlnet_down_blocks):
        layer.reset_parameters()
    torch.nn.init.normal_(network.controlnet_cond_embedding.conv_out.weight)
    return module


def activations(parts: dict[str, Any], image_size: int, dtype: torch.dtype) -> dict[str, str]:
    """Saved for the backward pass of Stable Diffusion 1.5, with each way of checkpointing."""
    found = {}
    for how, prepare in CHECKPOINTING.items():
        sample, once = saved_bytes(parts, image_size, dtype, prepare)
        found[f"saved activations, Stable Diffusion 1.5, {image_size} px, {dtype}, {how}"] = (
            f"{sample / 2**20:.0f} MiB a sample, and {once / 2**20:.0f} MiB of weights once"
        )
    return found


if __name__ == "__main__":
    run_alone("controlnet_step", run, measure, ON_GPU)
