"""How the benchmarks measure."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def alternate(
    jobs: dict[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each job; the jobs take turns, so that a busy machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repeats + 1):
        for name, job in jobs.items():
            start = clock()
            job()
            if turn:  # the first is for warming up
                times[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def steady(job: Callable[[], object], repeats: int) -> float:
    """Median seconds of a job that is all that runs: with warm caches, as on a device."""
    times = []
    for _ in range(repeats + 5):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return statistics.median(times[5:])


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: on a shared machine two are no faster and far less steady."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
