"""Speed of the synthetic world on one core, JPEG files included.

    python -m benchmarks renderer

Whole hands of 512 px under the `wild` preset, and ROIs of 128 px rendered directly, against cutting
them out of such a hand. Twenty captures share the painting of an identity, as in a data set.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2

from palmforge.data.roi import extract_roi
from palmforge.data.synthetic import render_palm, render_roi
from palmforge.data.synthetic.camera import encode_jpeg, get_preset
from palmforge.data.synthetic.dataset import start_worker

IDENTITIES, CAPTURES = 5, 20
SMOKE = {"IDENTITIES": 1, "CAPTURES": 1}


def run() -> dict[str, Any]:
    """Returns claim, ratio, target, seconds a picture and pictures a second."""
    threads = cv2.getNumThreads()
    start_worker()  # as `data synthesize --workers` does in each of its processes
    wild = get_preset("wild")
    jobs: dict[str, Callable[[int, int], object]] = {
        "hand, 512 px": lambda i, c: encode_jpeg(render_palm(i, c, "wild", 512, 0)[0], wild),
        "ROI, 128 px": lambda i, c: encode_jpeg(render_roi(i, c, "wild", 128, 0, 1.0)[0], wild),
        "ROI cut from a hand": lambda i, c: _cut(i, c),
    }
    seconds = {name: _each(job) for name, job in jobs.items()}
    cv2.setNumThreads(threads)
    return {
        "claim": "ROIs rendered directly vs cut from whole hands, wild, one core",
        "ratio": seconds["ROI cut from a hand"] / seconds["ROI, 128 px"],
        "target": 5.0,
        "seconds": seconds,
        "facts": {
            "hands of 512 px a second (target 12)": round(1 / seconds["hand, 512 px"], 1),
            "ROIs of 128 px a second (target 100)": round(1 / seconds["ROI, 128 px"], 1),
            "hours for a million ROIs on 16 cores": round(
                1e6 * seconds["ROI, 128 px"] / 16 / 3600, 2
            ),
        },
    }


def _each(job: Callable[[int, int], object]) -> float:
    """Mean seconds a picture, painting of the identities included."""
    job(99, 0)
    start = time.perf_counter()
    for identity in range(IDENTITIES):
        for capture in range(CAPTURES):
            job(identity, capture)
    return (time.perf_counter() - start) / (IDENTITIES * CAPTURES)


def _cut(identity: int, capture: int) -> object:
    image, truth = render_palm(identity, capture, "wild", 512, 0)
    return extract_roi(image, truth.quad, 128)
