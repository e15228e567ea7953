"""10,000 probes against 10,000 gallery images: every figure with intervals, its time and memory.

    python -m benchmarks evaluation

In a process of its own, so that its peak of memory is its own. Embeddings of 256 floats compared by
cosine, as `evaluate` compares them: EER, TAR at six FARs, rank 1, 1,000 resamples of identities.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

COUNT, IDENTITIES, DIM, RESAMPLES = 10_000, 1_000, 256, 1_000
SMOKE = {"COUNT": 40, "IDENTITIES": 10, "RESAMPLES": 10}

_SCRIPT = """
import json, resource, sys, time
import numpy as np, torch
from palmforge.metrics.comparison import Comparison
from palmforge.recognition.embedding import pairwise_distances

count, identities, dim, resamples = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
labels = np.tile(np.repeat(np.arange(identities), count // identities), 2)
noise = rng.standard_normal((2 * count, dim), np.float32)
centres = rng.standard_normal((identities, dim), np.float32)
templates = torch.from_numpy(centres[labels] + 2.2 * noise)
role = np.repeat([1, 2], count)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
figures = Comparison(
    templates, labels, role, lambda a, b: pairwise_distances(a, b, "cosine"),
    (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6), resamples,
).figures()
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([seconds, peak / 2**20, before / 2**20, figures["eer"]]))
"""


def run() -> dict[str, Any]:
    """Returns claim, ratio (of the time allowed), target, seconds and facts."""
    sizes = [str(number) for number in (COUNT, IDENTITIES, DIM, RESAMPLES)]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *sizes], capture_output=True, text=True, check=True
    )
    seconds, peak, before, eer = json.loads(done.stdout)
    return {
        "claim": f"{COUNT:,} probes × {COUNT:,} gallery images with intervals: 60 s over its time",
        "ratio": 60 / seconds,
        "target": 1,
        "facts": {
            "peak memory": f"{peak:.2f} GiB of the process, {before:.2f} before it began",
            "EER": f"{100 * eer:.2f} %",
        },
        "seconds": {"evaluation": seconds},
    }
