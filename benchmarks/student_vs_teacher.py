"""One picture through the student and through the teacher.

    python -m benchmarks student_vs_teacher

Batch 1, CPU, one thread, eager, float32, 128 × 128; without classifier heads, as on the device.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.timing import one_thread, steady
from palmforge.networks.hashing import TinyHashing, VGG16Hashing

REPEATS = 50
SMOKE = {"REPEATS": 1}


def run() -> dict[str, Any]:
    networks = {"student": TinyHashing(128).eval(), "teacher": VGG16Hashing(128).eval()}
    picture = torch.rand(1, 3, 128, 128)
    with one_thread(), torch.inference_mode():
        seconds = {name: steady(partial(net, picture), REPEATS) for name, net in networks.items()}
    facts = {}
    for name, network in networks.items():
        count = sum(p.numel() for p in network.parameters())
        size = sum(p.numel() * p.element_size() for p in network.parameters())
        facts[name] = f"{count:,} parameters, {size:,} bytes ({size / 2**20:.2f} MiB)"
    return {
        "claim": "student vs teacher, one picture, CPU, 1 thread (the paper, on a GPU: 3.7)",
        "ratio": seconds["teacher"] / seconds["student"],
        "target": 100.0,
        "facts": facts,
        "seconds": seconds,
    }
