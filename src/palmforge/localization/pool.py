"""A localizer in each of several processes, and one job after another for them."""

from __future__ import annotations

import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import cv2

from palmforge.errors import DataError
from palmforge.localization.location import Localizer
from palmforge.localization.methods import load_localizer

Job = TypeVar("Job")
Result = TypeVar("Result")

_AHEAD = 8  # jobs in flight a process

_of_this_process: list[Localizer] = []


def map_with_localizer(
    work: Callable[[Localizer, Job], Result], jobs: Iterable[Job], method: str, num_workers: int
) -> Iterator[Result]:
    """`work(localizer, job)` of each job, in order, a few jobs ahead of who takes the results.

    Each process loads the localizer once and runs on one thread.

    Args:
        work: A function of a module (it is sent to other processes).
        jobs: Any number; not read far ahead.
        method: Of `load_localizer`.
        num_workers: Processes; 0 and 1 work in this one.

    Raises:
        DataError: If a process was killed.
    """
    if num_workers <= 1:
        localizer = load_localizer(method)
        for job in jobs:
            yield work(localizer, job)
        return
    if method.startswith("python:"):  # what is wrong with it is told here, not by a dead process
        load_localizer(method)
    # OpenCV's thread pool does not survive a fork: a child that uses it waits for ever.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    # CUDA does not survive one either.
    torch = sys.modules.get("torch")
    spawn = torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized()
    context = multiprocessing.get_context("spawn" if spawn else None)
    pool = ProcessPoolExecutor(num_workers, context, initializer=_start, initargs=(method,))
    try:
        waiting: deque[Future] = deque()
        for job in jobs:
            waiting.append(pool.submit(_work, work, job))
            if len(waiting) >= _AHEAD * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a process that looked for palms was killed, perhaps for its memory. Start again with "
            "a smaller --num_workers: what is done is kept"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        cv2.setNumThreads(threads)


def _start(method: str) -> None:
    cv2.setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    _of_this_process[:] = [load_localizer(method)]
    if "torch" in sys.modules:  # it may have come with the localizer
        sys.modules["torch"].set_num_threads(1)


def _work(work: Callable[[Localizer, Any], Any], job: Any) -> Any:
    return work(_of_this_process[0], job)
