"""The pictures of `generator measure`: distances, and the generated palms nearest to real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from palmforge.data.atomic import write_aside
from palmforge.data.records import PalmRecord
from palmforge.evaluation.generation import Embedded, Measures
from palmforge.metrics.embeddings import embedding_counts
from palmforge.metrics.scores import ScoreCounts
from palmforge.plots import COLOURS, montage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLOSEST = 5
_BINS = 50

Picture = Callable[[PalmRecord], np.ndarray]  # → [S, S, 3] uint8 RGB


def write_histogram(path: Path, found: Measures, generated: Embedded, training: Embedded) -> None:
    """Distances of all pairs, and to the nearest neighbour, with the threshold.

    Args:
        path: Of the PNG.
        found: What was measured.
        generated: The generated palms.
        training: The training palms.
    """
    from matplotlib.figure import Figure

    palms = generated.embeddings[generated.chosen]
    number = np.arange(len(palms))
    between = embedding_counts(
        palms, number, gallery=training.embeddings,
        gallery_labels=training.labels + len(palms), distance="cosine",
    )  # fmt: skip
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    pairs, nearest = figure.subplots(1, 2)
    _draw(pairs, "all pairs", found.threshold, {
        "generated – generated": _weighted(embedding_counts(palms, number, distance="cosine")),
        "generated – training": _weighted(between),
        "training, other palms": _weighted(found.impostors),
    })  # fmt: skip
    pairs.set_yscale("log")
    _draw(nearest, "nearest neighbour", found.threshold, {
        "generated → generated": _each(found.among_generated.distance.numpy()),
        "generated → training": _each(found.to_training.distance.numpy()),
        "training → other palms": _each(found.among_real.distance.numpy()),
    })  # fmt: skip
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=150)


def write_closest(
    path: Path,
    found: Measures,
    generated: Embedded,
    training: Embedded,
    picture_of: Picture,
    training_picture_of: Picture,
) -> list[dict[str, str | float]]:
    """The generated palms nearest to a training picture, above that picture.

    Args:
        path: Of the PNG.
        found: What was measured.
        generated: The generated palms.
        training: The training palms.
        picture_of: Reads a generated picture.
        training_picture_of: Reads a training picture.

    Returns:
        The pairs, nearest first: both paths and the distance.
    """
    chosen = generated.chosen
    order = found.to_training.distance.argsort(stable=True)[:CLOSEST].tolist()
    pairs = [
        (
            generated.records[chosen[row]],
            training.records[int(found.to_training.row[row])],
            float(found.to_training.distance[row]),
        )
        for row in order
    ]
    pictures = [picture_of(ours) for ours, _, _ in pairs]
    pictures += [training_picture_of(theirs) for _, theirs, _ in pairs]
    titles = [f"{_short(ours.identity)}: {distance:.3f}" for ours, _, distance in pairs]
    titles += [f"train: {_short(theirs.identity)}" for _, theirs, _ in pairs]
    figure = montage(np.stack(pictures), titles, columns=len(pairs))
    with write_aside(path) as aside:
        figure.savefig(aside, dpi=150, bbox_inches="tight")
    return [
        {"generated": ours.path, "training": theirs.path, "distance": distance}
        for ours, theirs, distance in pairs
    ]


def _draw(
    axes: Axes, title: str, threshold: float, sets: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    low = min(0.0, *(float(values.min()) for values, _ in sets.values()))
    high = max(threshold, *(float(values.max()) for values, _ in sets.values()))
    edges = np.linspace(low, high, _BINS + 1)
    for (name, (values, weights)), colour in zip(sets.items(), COLOURS, strict=False):
        heights, _ = np.histogram(values, edges, weights=weights)
        heights = np.where(heights > 0, heights, np.nan)  # nothing is not little, on a log axis
        axes.stairs(heights, edges, color=colour, linewidth=1.3, label=name)
    axes.axvline(threshold, color="0.3", linewidth=1, linestyle="--", label="match, at most")
    axes.set(xlabel="cosine distance", ylabel="share", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)


def _weighted(counts: ScoreCounts) -> tuple[np.ndarray, np.ndarray]:
    return counts.values, counts.impostor / max(1, counts.num_impostor)


def _each(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values, np.full(len(values), 1 / len(values))


def _short(name: str) -> str:
    return name if len(name) <= 12 else f"…{name[-11:]}"
