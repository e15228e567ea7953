"""1:N search: recall@1, probes a second, building time and size of flat, IVF and HNSW galleries.

    python -m benchmarks gallery                                  # 100,000 codes, a minute
    python -m benchmarks.gallery --size 1000000 [--kinds ivf] [--codes latent]     # the table

128 bits, one image an identity, one thread. Two kinds of codes, because what an approximate index
can do hangs on them: `independent` bits, the hardest case, of which nothing can be known before a
code is looked at; and `latent`, signs of random projections of 64 numbers, whose bits go together
as those of trained codes do. A probe is a noisy view of an enrolled palm and differs in a tenth of
its bits. recall@1: share of probes whose answer is as near as the exact nearest; rank 1: share
whose answer is the right palm. Seconds are the processor's, not the clock's: others may be at work.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np

from palmforge.metrics.hamming import hamming_distances, pack_codes
from palmforge.search import Gallery, IndexSettings

SIZE, BITS, PROBES, FLIPPED, LATENT, CHUNK = 100_000, 128, 1_000, 0.1, 64, 100_000
SMOKE = {"SIZE": 10_000, "PROBES": 100}
EFFORTS: dict[str, dict[str, tuple[int, ...]]] = {
    "flat": {},
    "ivf": {"nprobe": (1, 8, 32, 128)},
    "hnsw": {"ef_search": (16, 64, 256)},
}
_LOADS = """
import os, sys
from pathlib import Path
import numpy as np
from palmforge.search import Gallery

def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

probe = np.zeros((1, 16), np.uint8)
Gallery.build(probe, ["warm"]).search(probe)
before = rss()
gallery = Gallery.load(sys.argv[1])
gallery.search(probe)
print(rss() - before, flush=True)
os._exit(0)  # what native threads do as Python ends is no part of this
"""
COLUMNS = ("codes", "index", "recall@1", "rank 1", "probes/s", "built in s", "index MB", "RSS MB")


def run() -> dict[str, Any]:
    """Returns claim, ratio and rows as facts, for `python -m benchmarks`."""
    rows = [row for kind in EFFORTS for row in measure("latent", kind, SIZE)]
    rate = {row["index"]: row["probes/s"] for row in rows}
    facts = {
        row["index"]: ", ".join(f"{name} {_shown(row[name])}" for name in COLUMNS[2:])
        for row in rows
    }
    return {
        "claim": f"{SIZE:,} codes of {BITS} bits, probes a second: IVF, nprobe 128, vs flat",
        "ratio": rate["ivf, nprobe 128"] / rate["flat"],
        "facts": facts,
        "seconds": {f"one probe, {name}": 1 / value for name, value in rate.items()},
    }


def measure(codes: str, kind: str, size: int) -> Iterator[dict[str, Any]]:
    """A row for each effort of an index."""
    faiss.omp_set_num_threads(1)
    enrolled, probes, palms = make_codes(codes, size)
    names = np.char.add("palm_", np.arange(size).astype(str))
    start = time.process_time()
    built = Gallery.build(enrolled, names, IndexSettings(kind))  # type: ignore[arg-type]
    seconds = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        built.save(folder)
        gallery, grown = Gallery.load(folder), memory_of(folder)
    for row in searched(gallery, enrolled, probes, names[palms]):
        sizes = {"index MB": gallery.index_bytes / 1e6, "RSS MB": grown / 1e6}
        yield {"codes": codes, **row, "built in s": seconds, **sizes}


def searched(
    gallery: Gallery, enrolled: np.ndarray, probes: np.ndarray, own: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Recall, rank 1 and speed of a gallery at each effort of its kind."""
    faiss.omp_set_num_threads(1)
    exact = np.concatenate([hamming_distances(p, enrolled).min(1) for p in np.split(probes, 100)])
    kind = gallery.settings.kind
    for name, value in [(n, v) for n, values in EFFORTS[kind].items() for v in values] or [("", 0)]:
        if name:
            gallery.tune(**{name: value})
        hits = gallery.search(probes)
        seconds = []
        for _ in range(3):
            start = time.process_time()
            gallery.search(probes)
            seconds.append(time.process_time() - start)
        yield {
            "index": f"{kind}, {name} {value}" if name else kind,
            "recall@1": float((hits.distances[:, 0] == exact).mean()),
            "rank 1": float((hits.identities[:, 0] == own).mean()),
            "probes/s": len(probes) / statistics.median(seconds),
        }


def make_codes(codes: str, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Packed codes [size, 16], probes [1000, 16] and whose they are [1000], from one seed."""
    rng = np.random.default_rng(0)
    palms = rng.integers(0, size, PROBES)
    if codes == "independent":
        enrolled = rng.integers(0, 256, (size, BITS // 8), dtype=np.uint8)
        flips = np.packbits(rng.random((PROBES, BITS)) < FLIPPED, axis=1)
        return enrolled, enrolled[palms] ^ flips, palms
    mixing = rng.normal(size=(LATENT, BITS)).astype(np.float32)
    latent = rng.normal(size=(size, LATENT)).astype(np.float32)
    chunks = [pack_codes(latent[i : i + CHUNK] @ mixing) for i in range(0, size, CHUNK)]
    # A bit flips with the angle between two views: angle / pi = FLIPPED.
    noise = np.tan(np.pi * FLIPPED) * rng.normal(size=(PROBES, LATENT)).astype(np.float32)
    views = ((latent[palms] + noise) @ mixing).astype(np.float32)
    return np.concatenate(chunks), pack_codes(views), palms


def memory_of(folder: str) -> int:
    """Bytes by which a process grows that loads the gallery and searches it once."""
    # A process of its own: this one has freed memory to spare.
    done = subprocess.run(
        [sys.executable, "-c", _LOADS, folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"loading a gallery ended with {done.returncode}: {done.stderr}")
    return int(done.stdout)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.3f}" if value <= 1 else f"{value:,.0f}"


def main() -> None:
    """Prints rows of a Markdown table as they are measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--kinds", nargs="+", default=list(EFFORTS))
    parser.add_argument("--codes", nargs="+", default=["independent", "latent"])
    given = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |\n|---|---" + "|---:" * 6 + "|", flush=True)
    for codes in given.codes:
        for kind in given.kinds:
            for row in measure(codes, kind, given.size):
                print("| " + " | ".join(_shown(row[name]) for name in COLUMNS) + " |", flush=True)


if __name__ == "__main__":
    main()
