"""Figures: ROC, DET, distance histograms, montages. They take numbers and return a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from palmforge.metrics.identification import Cmc
from palmforge.metrics.open_set_identification import DirCurve
from palmforge.metrics.scores import Floats, Ints, ScoreCounts

# Okabe and Ito's colours: told apart by everybody, also in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_DET_TICKS = (1e-5, 1e-4, 1e-3, 1e-2, 5e-2, 0.1, 0.2, 0.4)


def roc_figure(scores: Mapping[str, ScoreCounts], max_points: int | None = None) -> Figure:
    """TAR over FAR, FAR logarithmic down to one impostor pair.

    Args:
        scores: The curves by name.
        max_points: Of a curve, at the most: it looks the same, and its SVG is small. None: all.
    """
    figure, axes = _new("FAR", "TAR")
    for (name, counts), colour in zip(scores.items(), _colours(len(scores)), strict=True):
        curve = counts.roc_curve()
        far, tar = curve.far[curve.far > 0], curve.tar[curve.far > 0]
        kept = _thinned(np.log10(far), tar, max_points)
        axes.plot(far[kept], tar[kept], color=colour, label=_with_eer(name, counts))
    axes.set_xscale("log")
    axes.set_xlim(right=1)
    axes.set_ylim(top=1.005)
    axes.legend(loc="lower right", fontsize=8)
    return figure


def det_figure(scores: Mapping[str, ScoreCounts], max_points: int | None = None) -> Figure:
    """FRR over FAR, both on a normal-deviate scale: Gaussian scores give a straight line.

    Args:
        scores: The curves by name.
        max_points: As of `roc_figure`.
    """
    from scipy.special import ndtri

    figure, axes = _new("FAR", "FRR")
    low, high = _DET_TICKS[0], _DET_TICKS[-1]
    for (name, counts), colour in zip(scores.items(), _colours(len(scores)), strict=True):
        curve = counts.det_curve()
        x, y = (ndtri(np.clip(rate, low / 2, 1 - low / 2)) for rate in (curve.far, curve.frr))
        kept = _thinned(x, y, max_points)
        axes.plot(x[kept], y[kept], color=colour, label=_with_eer(name, counts))
    axes.plot(ndtri([low, high]), ndtri([low, high]), color="0.7", linewidth=0.8, zorder=0)
    labels = [f"{100 * tick:g} %" for tick in _DET_TICKS]
    axes.set_xticks(ndtri(_DET_TICKS), labels, fontsize=8)
    axes.set_yticks(ndtri(_DET_TICKS), labels, fontsize=8)
    axes.set_xlim(*ndtri([low, high]))
    axes.set_ylim(*ndtri([low, high]))
    axes.legend(loc="upper right", fontsize=8)
    return figure


def cmc_figure(curves: Mapping[str, Cmc]) -> Figure:
    """Share of mated probes whose own identity is among the first k, over k."""
    figure, axes = _new("rank", "identification rate")
    for (name, curve), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        ranks = np.arange(1, curve.rates.size + 1)
        label = f"{name} (rank 1: {100 * curve.rates[0]:.2f} %)"
        axes.plot(ranks, curve.rates, color=colour, marker=".", label=label)
    axes.set_ylim(top=1.005)
    axes.legend(loc="lower right", fontsize=8)
    return figure


def dir_figure(curves: Mapping[str, DirCurve], max_points: int | None = 400) -> Figure:
    """Detection and identification rate over FPIR, FPIR logarithmic down to one probe."""
    figure, axes = _new("FPIR", "TPIR")
    for (name, curve), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        fpir, tpir = curve.fpir[curve.fpir > 0], curve.tpir[curve.fpir > 0]
        kept = _thinned(np.log10(fpir), tpir, max_points)
        axes.plot(fpir[kept], tpir[kept], color=colour, label=name)
    axes.set_xscale("log")
    axes.set_xlim(right=1)
    axes.set_ylim(top=1.005)
    axes.legend(loc="lower right", fontsize=8)
    return figure


def histogram_figure(counts: ScoreCounts, unit: str = "Hamming distance (bits)") -> Figure:
    """Genuine and impostor distances, each as a share of its own pairs, and the EER threshold."""
    figure, axes = _new(unit, "share of pairs")
    low, high = counts.values.min(), counts.values.max()
    if np.array_equal(counts.values, np.rint(counts.values)):
        width = -(-(high - low + 1) // 65)  # whole: else some bars would hold more bits than others
        edges = np.arange(low, high + width + 1, width) - 0.5
    else:
        edges = np.histogram_bin_edges([low, high], 65)
    for name, weights, colour in (
        ("genuine", counts.genuine, COLOURS[2]), ("impostor", counts.impostor, COLOURS[1])
    ):  # fmt: skip
        axes.hist(
            counts.values, edges.tolist(), weights=weights / max(1, weights.sum()), color=colour,
            alpha=0.6, label=f"{name} ({weights.sum():,} pairs)",
        )  # fmt: skip
    eer, threshold = counts.equal_error_rate()
    axes.axvline(threshold, color="0.3", linewidth=1, label=f"EER {100 * eer:.2f} %")
    axes.margins(y=0.22)  # room for the legend
    axes.legend(fontsize=8)
    return figure


def montage(images: np.ndarray, titles: Sequence[object], columns: int = 8) -> Figure:
    """Pictures `[N, H, W, 3]` uint8 in a grid, each with its title."""
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.1 * columns, 1.25 * rows))
    for position, (image, title) in enumerate(zip(images, titles, strict=True), start=1):
        axes = figure.add_subplot(rows, columns, position)
        axes.imshow(image)
        axes.set_title(str(title), fontsize=7, pad=2)
        axes.axis("off")
    figure.subplots_adjust(wspace=0.05, hspace=0.2)
    return figure


def _new(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 4.2))
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _thinned(x: Floats, y: Floats, max_points: int | None) -> Ints | slice:
    """Which points of a line to draw: the first and last of each of `max_points / 2` equal lengths.

    Both ends of a long step lie in different pieces, so every step that can be seen is kept.
    """
    if max_points is None or x.size <= max_points:
        return slice(None)
    steps = sum(np.abs(np.diff(values)) / (np.ptp(values) or 1.0) for values in (x, y))
    length = np.concatenate(([0.0], np.cumsum(steps)))
    pieces = max_points // 2
    piece = np.minimum((length / (length[-1] or 1.0) * pieces).astype(np.int64), pieces - 1)
    last = np.flatnonzero(np.diff(piece))
    return np.unique(np.concatenate(([0], last, last + 1, [x.size - 1])))


def _colours(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]


def _with_eer(name: str, counts: ScoreCounts) -> str:
    return f"{name} (EER {100 * counts.equal_error_rate()[0]:.2f} %)"
