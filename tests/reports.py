"""A report with every kind of block, from drawn scores and rendered noise."""

from __future__ import annotations

import math

import numpy as np

from palmforge.metrics.scores import ScoreCounts
from palmforge.plots import det_figure, histogram_figure, roc_figure
from palmforge.report import (
    Block,
    Details,
    Heading,
    HeatMap,
    Pair,
    PairList,
    Paragraph,
    Plot,
    Rate,
    Report,
    Table,
)

DOMAINS = ["IF", "IN", "HF", "HN", "LF", "LN", "MF", "MN", "SF", "SN"]
CONFIG = "seed_everything: 1\nmodel:\n  class_path: HashingStudent\n  init_args: {num_bits: 128}\n"
PROVENANCE = {
    "command": ["train.py", "evaluate", "--data.root=/data/XJTU UP"],
    "revision": "0123456789abcdef0123456789abcdef01234567+changes",
    "gpu": None,
    "packages": {"torch": "2.11.0", "numpy": "2.1.0"},
}


def scores(separation: float, seed: int, pairs: int = 20_000) -> ScoreCounts:
    """Cosine distances, ten impostor pairs for a genuine one."""
    rng = np.random.default_rng(seed)
    genuine = rng.normal(1 - separation, 0.1, pairs // 10)
    return ScoreCounts.from_scores(genuine, rng.normal(1, 0.08, pairs))


def palm(seed: int, size: int = 160) -> np.ndarray:
    """[size, size, 3] uint8: soft stripes on skin, no one's hand."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    lines = sum(
        np.exp(-(((y - a - b * x - 0.3 * x**2) / 0.012) ** 2))
        for a, b in rng.uniform([0.0, -0.6], [0.9, 0.6], (5, 2))
    )
    shade = 200 - 90 * np.clip(lines, 0, 1) - 40 * (x - 0.5) ** 2 + rng.normal(0, 3, x.shape)
    return np.clip(shade[..., None] * [1.0, 0.78, 0.68], 0, 255).astype(np.uint8)


def example_report(pictures: bool = True, pairs: int = 20_000) -> Report:
    """As an evaluation would make it; the numbers mean nothing."""
    names = {"teacher": 0.55, "student": 0.4, "distilled": 0.5}
    found = {name: scores(apart, seed, pairs) for seed, (name, apart) in enumerate(names.items())}
    blocks: list[Block] = [
        Paragraph(
            "Verification of all probe images against all gallery images, and identification of "
            "each probe among the enrolled."
        ),
        Heading("Verification"),
        _rates(found),
        Plot("DET", det_figure(found, max_points=400), "FRR over FAR on normal-deviate scales."),
        Plot("ROC", roc_figure(found, max_points=400), "TAR over FAR, FAR logarithmic."),
        Heading("Distances", level=3),
        *(
            Plot(f"Distances of {n}", histogram_figure(found[n], "cosine distance"))
            for n in ("teacher", "student")
        ),
        Heading("Across domains"),
        _domains(),
    ]
    if pictures:
        kinds = ("Worst genuine pairs", "Best impostor pairs")
        blocks += [Heading("Pairs"), *(_pairs(kind, seed) for seed, kind in enumerate(kinds))]
    notes = [Paragraph("Pictures without a palm count as failures to acquire."), _wide()]
    blocks += [Heading("By domain"), Details("All domains and rates", notes)]
    return Report("XJTU-UP, open set", "Drawn scores: an example.", blocks, PROVENANCE, CONFIG)


def _rates(found: dict[str, ScoreCounts]) -> Table:
    rows = []
    for name, counts in found.items():
        eer = counts.equal_error_rate()[0]
        interval = Rate(eer, 0.9 * eer, 1.12 * eer)
        tar = counts.tar_at_far(1e-3)
        rows.append(
            [name, interval, Rate(tar, tar - 0.01, min(1, tar + 0.01)), None,
             counts.decidability(), counts.num_genuine, counts.num_impostor]
        )  # fmt: skip
    columns = ["run", "EER", "TAR at FAR 10⁻³", "TAR at FAR 10⁻⁵", "d′", "genuine", "impostor"]
    return Table("Error rates", columns, rows, "–: too few impostor pairs for this FAR.")


def _domains() -> HeatMap:
    rng = np.random.default_rng(3)
    values = rng.gamma(2, 2, (len(DOMAINS), len(DOMAINS)))
    np.fill_diagonal(values, rng.uniform(0.1, 1, len(DOMAINS)))
    values[2, 4] = math.nan
    return HeatMap(
        "EER in %, domain against domain", DOMAINS, DOMAINS, values.tolist(),
        corner="enrolled ↓ probed →", note="Trained on IF alone.",
    )  # fmt: skip


def _pairs(title: str, seed: int) -> PairList:
    pairs = [
        Pair(palm(10 * seed + i), palm(10 * seed + i + 50), f"{i:03d}_left, distance 0.{87 - i}")
        for i in range(6)
    ]
    return PairList(title, pairs, limit=4)


def _wide() -> Table:
    rng = np.random.default_rng(5)
    rows = [
        [name, *(Rate(x, 0.9 * x, 1.1 * x) for x in rng.uniform(0, 0.2, 8))] for name in DOMAINS
    ]
    columns = ["domain", *(f"{run} {rate}" for run in "abcd" for rate in ("EER", "FRR"))]
    return Table("Every domain", columns, rows)
