"""How long one picture takes, on this machine's processor and one thread."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

_ROUNDS = 300
_SECONDS = 6.0  # after which no new round begins
_LEAST_ROUNDS = 20


def latencies(
    ways: Mapping[str, Callable[[], object]], rounds: int = _ROUNDS
) -> dict[str, dict[str, float]]:
    """Milliseconds of each way to run one picture: `median`, `p95`, and of how many `runs`.

    The ways take turns, so that what else the machine does falls on all of them.

    Args:
        ways: Name → runs one picture.
        rounds: At most; fewer where they are slow.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    took: dict[str, list[float]] = {name: [] for name in ways}
    try:
        for run in ways.values():  # memory is planned at the first
            run()
            run()
        begun = time.perf_counter()
        for done in range(rounds):
            if done >= _LEAST_ROUNDS and time.perf_counter() - begun > _SECONDS:
                break
            for name, run in ways.items():
                start = time.perf_counter()
                run()
                took[name].append(1e3 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(threads)
    return {
        name: {
            "median": float(np.median(times)),
            "p95": float(np.percentile(times, 95)),
            "runs": len(times),
        }
        for name, times in took.items()
    }


def processor() -> str:
    """The name of this processor."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
