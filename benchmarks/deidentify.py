r"""Palms repainted eight at a time, against the authors' way, one photograph after the other.

    python -m benchmarks deidentify
    python -m benchmarks.deidentify --device cuda --image_size 512 \
        --model Fantasy-Studio/Paint-by-Example

The same pictures, seeds and steps, and the same results but for the last digits; CPU time of one
thread, or wall time of a GPU.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.timing import alternate, one_thread
from palmforge.modules.exemplar_inpainting import PAPER, inpaint_with_exemplar
from palmforge.modules.paint_by_example import (
    PaintByExample,
    load_paint_by_example,
    tiny_paint_by_example,
)
from palmforge.networks.paint_by_example import TinyPaintByExample

HANDS, SIDE, STEPS, REPEATS = 8, 128, 10, 3
SMOKE = {"HANDS": 2, "SIDE": 64, "STEPS": 1, "REPEATS": 1}


def run() -> dict[str, Any]:
    with one_thread():
        torch.manual_seed(0)
        return measure(tiny_paint_by_example(TinyPaintByExample(), SIDE), SIDE, STEPS, "cpu")


def measure(model: PaintByExample, side: int, steps: int, device: str) -> dict[str, Any]:
    """Claim, ratio and the rest, as `python -m benchmarks` shows them."""
    model = model.to(device)
    settings = replace(PAPER, num_inference_steps=steps)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (HANDS, 3, side, side), generator=generator, dtype=torch.uint8)
    crops = torch.randint(0, 256, (HANDS, 2, 3, 128, 128), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(HANDS, 1, side, side, dtype=torch.bool)
    masks[..., side // 3 : side // 2, side // 3 : side // 2] = True
    seeds = list(range(HANDS))
    kept: dict[str, Tensor] = {}

    def done(rows: slice) -> Tensor:
        exemplars = model.embed(crops[rows])
        return inpaint_with_exemplar(
            model, images[rows], masks[rows], exemplars, seeds[rows], settings
        ).cpu()

    def together() -> None:
        kept["together"] = done(slice(0, HANDS))

    def one_by_one() -> None:
        kept["one by one"] = torch.cat([done(slice(row, row + 1)) for row in range(HANDS)])

    jobs = {"one by one": one_by_one, "together": together}
    clock = time.process_time if device == "cpu" else time.perf_counter
    seconds = alternate(jobs, REPEATS, clock)
    apart = float((kept["together"] - kept["one by one"]).abs().max())
    return {
        "claim": f"hands repainted, {HANDS} at once vs one by one, {side} px, {steps} steps, "
        f"{device}",
        "ratio": seconds["one by one"] / seconds["together"],
        "facts": {
            "hands a second": ", ".join(f"{k} {HANDS / s:.2f}" for k, s in seconds.items()),
            "largest difference": f"{255 * apart:.2f} grey levels",
        },
        "seconds": {name: value / HANDS for name, value in seconds.items()},
    }


def main() -> None:
    """By itself, for other models and devices."""
    from benchmarks.__main__ import show

    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="a Paint-by-Example")
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--num_inference_steps", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    model = load_paint_by_example(given.model)
    show("deidentify", measure(model, given.image_size, given.num_inference_steps, given.device))


if __name__ == "__main__":
    main()
