"""All ratios, or those that are named; kept in results.json, and shown as a table."""

from __future__ import annotations

import argparse
import importlib
import platform
import traceback
from pathlib import Path
from typing import Any

import torch

from benchmarks.results import FILE, keep, read, table
from palmforge.errors import DataError

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


def main(arguments: list[str] | None = None) -> None:
    """Each module's `run()` gives claim, ratio, target, further ratios and seconds.

    Raises:
        SystemExit: 1 if one failed; the others ran, and their results are kept.
    """
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument(
        "--smoke", action="store_true", help="tiny sizes: whether they run; no number is kept"
    )
    parser.add_argument("--out", type=Path, default=FILE, help=f"default: {FILE.name} beside this")
    given = parser.parse_args(arguments)
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    out = None if given.smoke else given.out
    if out:
        try:
            read(out)  # whether it can be added to
        except DataError as error:
            raise SystemExit(str(error)) from None
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}")
    results, failed = {}, []
    for name in given.names or NAMES:
        try:
            results[name] = measured(name, given.smoke)
        except Exception:  # the others are not lost for one
            traceback.print_exc()
            failed.append(name)
            continue
        show(name, results[name])
        if out:
            keep(out, name, results[name])
    print("\n" + (f"{table(results)}\n\nkept in {out}" if out else "all sizes were tiny"))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def measured(name: str, smoke: bool = False) -> dict[str, Any]:
    """What the `run()` of a benchmark finds.

    Args:
        name: Of `NAMES`.
        smoke: With the sizes in its `SMOKE` in place of its constants.
    """
    module = importlib.import_module(f"benchmarks.{name}")
    usual = {key: getattr(module, key) for key in module.SMOKE} if smoke else {}
    try:
        for key in usual:
            setattr(module, key, module.SMOKE[key])
        return module.run()
    finally:
        for key, value in usual.items():
            setattr(module, key, value)


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
    main()
