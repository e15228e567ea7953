"""Drawings of a test of de-identification: distances (paper 001, Fig. 5), and hands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from palmforge.evaluation.deidentification_findings import Diversity
from palmforge.evaluation.identity_pictures import identity_montage
from palmforge.metrics.scores import Floats

_AMPLIFIED = 4  # a difference of 64 grey levels is white
_BINS = 60


def diversity_figure(found: Diversity) -> Figure:
    """Densities of the four kinds of distances, in the paper's colours."""
    figure = Figure(figsize=(5.6, 3.6))
    axes = figure.add_subplot()
    kinds: dict[str, tuple[str, Floats]] = {
        "genuine": ("tab:red", found.genuine),
        "impostor": ("tab:blue", found.impostor),
        "original and de-identified": ("black", found.to_source),
        "two variants of a photograph": ("tab:green", found.among),
    }
    every = np.concatenate([values for _, values in kinds.values()])
    edges = np.histogram_bin_edges(every, _BINS)
    for name, (colour, values) in kinds.items():
        density, _ = np.histogram(values, edges, density=True)
        axes.stairs(density, edges, color=colour, label=name, linewidth=1.3)
    axes.set_xlabel(f"distance, {found.recogniser}")
    axes.set_ylabel("density")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def hands_montage(
    shown: Sequence[tuple[str, np.ndarray, Mapping[str, np.ndarray]]], methods: Sequence[str]
) -> Image.Image:
    """A row a photograph: the original, the first method, what it changed, the other methods.

    Args:
        shown: (source, original, method → concealed), `[S, S, 3]` uint8.
        methods: Which, the first one first.
    """
    originals = np.stack([original for _, original, _ in shown])
    rows = []
    for _, original, made in shown:
        first = made[methods[0]]
        apart = np.abs(first.astype(np.int16) - original) * _AMPLIFIED
        difference = np.minimum(apart, 255).astype(np.uint8)
        rows.append(np.stack([first, difference, *(made[method] for method in methods[1:])]))
    columns = [methods[0], f"difference × {_AMPLIFIED}", *methods[1:]]
    return identity_montage(originals, np.stack(rows), columns, "original")
