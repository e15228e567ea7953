"""`python -m benchmarks`: all ratios. `python -m benchmarks NAME ...`: some."""

from __future__ import annotations

import importlib
import platform
import sys
from typing import Any

import torch

NAMES = (
    "hash_loss",
    "student_vs_teacher",
    "roi_cache",
    "feature_cache",
    "lora_step",
    "controlnet_step",
    "generation_cost",
    "deidentify",
    "packed_hamming",
    "recognition",
    "shifted_hamming",
    "renderer",
    "gallery",
    "evaluation",
)


def main(names: list[str]) -> None:
    """Each module's `run()` gives claim, ratio, target, further ratios and seconds."""
    if unknown := set(names) - set(NAMES):
        raise SystemExit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}")
    for name in names or NAMES:
        show(name, importlib.import_module(f"benchmarks.{name}").run())


def show(name: str, found: dict[str, Any]) -> None:
    """Prints what a `run()` found."""
    target = f" (target {found['target']:g})" if found.get("target") else ""
    print(f"\n{name}: {found['claim']}: {found['ratio']:.1f}{target}", flush=True)
    if "table" in found:
        print(found["table"])
    for what, ratio in found.get("ratios", {}).items():
        print(f"  {what}: {ratio:.1f}")
    for what, text in found.get("facts", {}).items():
        print(f"  {what}: {text}")
    for what, seconds in found["seconds"].items():
        print(f"  {what}: {1000 * seconds:.2f} ms")


if __name__ == "__main__":
    main(sys.argv[1:])
