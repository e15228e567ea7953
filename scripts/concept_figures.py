#!/usr/bin/env python3
"""Draws the pictures of docs/concepts.md, one of them the README's.

Palms are rendered or the embedded generator's; scores are computed on rendered palms.
`python scripts/concept_figures.py`: a minute.
"""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Polygon, Rectangle
from PIL import Image

from palmforge import recognition
from palmforge.data.deidentification.segmentation import palm_polygon
from palmforge.data.roi import extract_roi
from palmforge.data.synthetic import render_palm, render_roi

OUT = ROOT / "docs" / "images"
SEED = 7
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#555555"
TEACHER, STUDENT = 65_578_944, 243_424  # parameters: python -m benchmarks student_vs_teacher


def save(figure: Figure, name: str, colours: int = 256) -> None:
    """As a JPEG, or as a PNG of few colours: a third of the size."""
    buffer = BytesIO()
    figure.savefig(buffer, dpi=110, facecolor="white", format="png")
    picture = Image.open(buffer).convert("RGB")
    if name.endswith(".jpg"):
        picture.save(OUT / name, quality=88)
    else:
        picture = picture.quantize(colours, method=Image.Quantize.MEDIANCUT)
        picture.save(OUT / name, optimize=True)
    print(name, picture.size, (OUT / name).stat().st_size // 1024, "KiB")


def board(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty page whose units are inches."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def put(axes: Axes, image: np.ndarray, x: float, y: float, side: float) -> None:
    """A square picture with its lower left corner at (x, y)."""
    axes.imshow(image, extent=(x, x + side, y, y + side), interpolation="lanczos", zorder=2)
    axes.set(xlim=axes.figure.get_size_inches()[0] * np.array([0, 1]))
    axes.set(ylim=axes.figure.get_size_inches()[1] * np.array([0, 1]), aspect="auto")


def arrow(axes: Axes, start: tuple, end: tuple, bend: float = 0.0, colour: str = GREY) -> None:
    """From one point to another."""
    style = f"arc3,rad={bend}"
    axes.add_patch(
        FancyArrowPatch(
            start, end, connectionstyle=style, arrowstyle="-|>", mutation_scale=18, lw=2,
            color=colour, zorder=3,
        )
    )  # fmt: skip


def box(axes: Axes, x: float, y: float, width: float, height: float, colour: str = GREY) -> None:
    """A rounded frame."""
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.1", lw=1.2,
            edgecolor=colour, facecolor="#f7f7f7", zorder=1,
        )
    )  # fmt: skip


def generated(count: int) -> list[np.ndarray]:
    """Palms of the embedded generator, out of docs/images/generated.jpg."""
    sheet = np.asarray(Image.open(OUT / "generated.jpg").convert("RGB"))
    columns, rows = (12, 158, 305, 452, 598, 745, 891, 1038), (51, 255, 459)
    corners = [(y, x) for y in rows for x in columns]
    # Those whose lines are seen at thumbnail size.
    return [sheet[y : y + 138, x : x + 138] for y, x in (corners[i] for i in (6, 1, 8, 4)[:count])]


def scores(recogniser: str, palms: int = 40, captures: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Genuine and impostor distances of rendered `wild` palms."""
    rois = [
        render_roi(palm, capture, "wild", 128, SEED, frame_error=1.0)[0]
        for palm in range(palms)
        for capture in range(captures)
    ]
    model = recognition.load(recogniser)
    templates = model.embed(torch.from_numpy(np.stack(rois)).permute(0, 3, 1, 2))
    distances = model.distance(templates, templates).numpy()
    label = np.repeat(np.arange(palms), captures)
    rows, columns = np.triu_indices(len(label), 1)
    same = label[rows] == label[columns]
    return distances[rows, columns][same], distances[rows, columns][~same]


def equal_error(genuine: np.ndarray, impostor: np.ndarray) -> tuple[float, float]:
    """Where FAR and FRR meet: the threshold and their mean there."""
    steps = np.unique(np.concatenate([genuine, impostor]))
    frr = 1 - np.searchsorted(np.sort(genuine), steps, side="right") / len(genuine)
    far = np.searchsorted(np.sort(impostor), steps, side="right") / len(impostor)
    best = int(np.abs(far - frr).argmin())
    return float(steps[best]), float(far[best] + frr[best]) / 2


def histogram(axes: Axes, genuine: np.ndarray, impostor: np.ndarray, threshold: float) -> None:
    """Both kinds of pairs, with what the threshold gets wrong shaded."""
    edges = np.linspace(0, max(impostor.max(), genuine.max()), 61)
    for values, colour, wrong in (
        (genuine, BLUE, lambda x: x > threshold),
        (impostor, ORANGE, lambda x: x <= threshold),
    ):
        heights, _ = np.histogram(values, edges, density=True)
        centres = (edges[1:] + edges[:-1]) / 2
        axes.step(edges[:-1], heights, where="post", color=colour, lw=1.6)
        axes.fill_between(edges[:-1], heights, step="post", color=colour, alpha=0.15)
        shade = np.where(wrong(centres), heights, 0)
        axes.fill_between(edges[:-1], shade, step="post", color=colour, alpha=0.65, lw=0)
    axes.axvline(threshold, color="black", lw=1.2, ls="--")
    axes.spines[["top", "right"]].set_visible(False)


def score_figure(genuine: np.ndarray, impostor: np.ndarray) -> Figure:
    """Picture 5: genuine and impostor distances, and the threshold of the EER."""
    threshold, eer = equal_error(genuine, impostor)
    figure = Figure(figsize=(8, 3.6))
    axes = figure.add_axes((0.08, 0.16, 0.89, 0.72))
    histogram(axes, genuine, impostor, threshold)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, top * 1.12)
    axes.set_xlabel("cosine distance of two captures (synthetic-only, rendered “wild” palms)")
    axes.set_ylabel("density")
    axes.set_yticks([])
    text = {"ha": "center", "va": "center", "fontsize": 10}
    axes.text(0.53, top * 0.82, "genuine:\nthe same palm", color=BLUE, **text)
    axes.text(1.34, top * 0.6, "impostor:\ntwo palms", color=ORANGE, **text)
    axes.set_title(f"threshold at the EER: FAR = FRR = {100 * eer:.1f} %", fontsize=11)
    axes.text(threshold - 0.01, top * 1.04, "accepted ←", ha="right", fontsize=9)
    axes.text(threshold + 0.01, top * 1.04, "→ rejected", ha="left", fontsize=9)
    return figure


def roi_figure() -> Figure:
    """Picture 2: a photograph, its key points and quadrilateral, and the ROI."""
    figure, axes = board(10, 4.2)
    image, truth = render_palm(5, 1, "IF", 800, SEED)
    left, top, side = 160, 220, 460  # of the photograph: the palm
    put(axes, image, 0.1, 0.35, 3.7)
    put(axes, image[top : top + side, left : left + side], 4.0, 0.35, 3.7)
    scale = 3.7 / side
    offset = np.array([4.0 - scale * left, 0.35 + 3.7 + scale * top])
    points = truth.keypoints14 * [scale, -scale] + offset
    corners = truth.quad * [scale, -scale] + offset
    axes.add_patch(Polygon(corners, fill=False, edgecolor="white", lw=2.4, zorder=4))
    axes.scatter(*points.T, s=42, color=BLUE, edgecolor="white", lw=1.0, zorder=5)
    for name in (0, 3, 6, 9, 12):
        shift = {0: (13, -4), 3: (15, -5), 6: (0, -15), 9: (-15, -5), 12: (-16, -4)}[name]
        axes.annotate(
            f"P{name}", points[name], xytext=shift, textcoords="offset points", color="white",
            fontsize=9, fontweight="bold", ha="center", zorder=6,
        )  # fmt: skip
    arrow(axes, (7.75, 2.2), (8.1, 2.2))
    put(axes, extract_roi(image, truth.quad, 256), 8.15, 1.32, 1.75)
    for x, words in ((1.95, "a photograph (rendered)"), (5.85, "14 key points, the ROI's frame")):
        axes.text(x, 0.12, words, ha="center", fontsize=10)
    axes.text(9.02, 1.2, "the ROI: fingers up,\nindex side on the right", ha="center", va="top")
    return figure


def teacher_student_figure() -> Figure:
    """Picture 4: what the student hears from the teacher."""
    figure, axes = board(10, 3.7)
    put(axes, render_roi(5, 1, "IF", 192, SEED)[0], 0.15, 1.1, 1.5)
    axes.text(0.9, 0.88, "one ROI", ha="center", va="top", fontsize=10)
    side = 1.35  # areas of the squares are as the numbers of parameters
    small = side * (STUDENT / TEACHER) ** 0.5
    box(axes, 2.35, 2.0, 2.6, 1.55, BLUE)
    axes.add_patch(Rectangle((2.45, 2.1), side, side, color=BLUE, zorder=2))
    axes.text(3.9, 2.78, f"teacher\nVGG-16\n{TEACHER / 1e6:.1f} M", va="center", fontsize=10)
    box(axes, 2.35, 0.15, 2.6, 1.35, ORANGE)
    axes.add_patch(Rectangle((3.1, 0.78), small, small, color=ORANGE, zorder=2))
    axes.text(3.9, 0.82, f"student\n5 layers\n{STUDENT / 1e6:.2f} M", va="center", fontsize=10)
    arrow(axes, (1.72, 2.0), (2.3, 2.7))
    arrow(axes, (1.72, 1.7), (2.3, 0.95))
    drawn = np.random.default_rng(SEED)
    theirs = drawn.integers(0, 2, 32)
    ours = np.where(drawn.random(32) < 0.12, 1 - theirs, theirs)
    for y, code, colour, owner in ((2.7, theirs, BLUE, "teacher"), (0.75, ours, ORANGE, "student")):
        arrow(axes, (5.0, y + 0.12), (5.45, y + 0.12))
        for place, bit in enumerate(code):
            face = colour if bit else "white"
            spot = Rectangle((5.5 + 0.075 * place, y), 0.075, 0.25, fc=face, ec=colour, lw=0.5)
            axes.add_patch(spot)
        axes.text(5.5, y + 0.31, f"the {owner}'s 128 bits (a part, schematic)", fontsize=9)
        axes.text(5.5, y - 0.24, "and which identity it takes the palm for", fontsize=9)
    arrow(axes, (6.7, 2.35), (6.7, 1.4), 0.0, GREEN)
    told = "be like these: α · distance of the bits,\nβ · soft targets (Shao et al. 2020, Eq. 8)"
    axes.text(6.9, 1.87, told, va="center", fontsize=9, color=GREEN)
    return figure


STATIONS = (
    ("generate", "palms that nobody has"),
    ("train", "a recogniser on them"),
    ("distil", "it for a phone"),
    ("measure", "on people it never saw"),
    ("de-identify", "photographs; attack them"),
)


def loop_figure(genuine: np.ndarray, impostor: np.ndarray, threshold: float) -> Figure:
    """Picture 1: the loop."""
    figure, axes = board(11, 3.5)
    width, gap = 1.85, 0.36
    lefts = [0.15 + i * (width + gap) for i in range(5)]
    for number, (left, (name, words)) in enumerate(zip(lefts, STATIONS, strict=True)):
        box(axes, left, 0.75, width, 2.6)
        axes.text(left + width / 2, 3.1, name, ha="center", fontsize=13, fontweight="bold")
        axes.text(left + width / 2, 0.86, words, ha="center", fontsize=8.5, color=GREY)
        if number:
            arrow(axes, (left - gap + 0.02, 2.05), (left - 0.02, 2.05))
    inside = 1.65
    xs = [left + (width - inside) / 2 for left in lefts]
    half = inside / 2 - 0.03
    for place, tile in enumerate(generated(4)):
        row, column = divmod(place, 2)
        put(axes, tile, xs[0] + column * (half + 0.06), 1.2 + row * (half + 0.06), half)
    for place, preset in enumerate(("IF", "HN", "SF", "LN")):
        row, column = divmod(place, 2)
        roi = render_roi(5, place + 1, preset, 128, SEED)[0]
        put(axes, roi, xs[1] + column * (half + 0.06), 1.2 + row * (half + 0.06), half)
    _sizes(axes, xs[2], inside)
    inset = figure.add_axes((xs[3] / 11, 1.25 / 3.5, inside / 11, 1.6 / 3.5))
    histogram(inset, genuine, impostor, threshold)
    inset.set(xticks=[], yticks=[])
    inset.patch.set_alpha(0)
    inset.spines[["left"]].set_visible(False)
    put(axes, _concealed(), xs[4], 1.2, inside)
    _way_back(axes, lefts[4] + width / 2, lefts[0] + width / 2)
    return figure


def _sizes(axes: Axes, x: float, inside: float) -> None:
    """Teacher and student as squares whose areas are as their parameters."""
    side = 1.2
    axes.add_patch(Rectangle((x, 1.55), side, side, color=BLUE, zorder=2))
    small = side * (STUDENT / TEACHER) ** 0.5
    axes.add_patch(Rectangle((x + inside - 0.25, 1.55), small, small, color=ORANGE, zorder=2))
    axes.text(x + side / 2, 1.3, f"{TEACHER / 1e6:.1f} M", ha="center", fontsize=9, color=BLUE)
    tail = {"ha": "center", "fontsize": 9, "color": ORANGE}
    axes.text(x + inside - 0.18, 1.3, f"{STUDENT / 1e6:.2f} M", **tail)


def _concealed() -> np.ndarray:
    """A rendered hand with what would be repainted painted over."""
    image, truth = render_palm(8, 1, "IF", 512, SEED)
    palm = palm_polygon(truth.keypoints21, *image.shape[:2])
    lit = image.astype(np.float32)
    rows, columns = np.indices(palm.shape)
    stripe = ((rows + columns) // 14) % 2 == 0
    lit[palm] = 0.35 * lit[palm] + 0.65 * np.array([0, 158, 115])
    lit[palm & stripe] = 0.75 * lit[palm & stripe] + 0.25 * 255
    return lit.astype(np.uint8)


def _way_back(axes: Axes, start: float, end: float) -> None:
    """Along the bottom, from the last station to the first."""
    y = 0.36
    axes.plot([start, start, end], [0.72, y, y], color=GREY, lw=2, solid_joinstyle="round")
    arrow(axes, (end, y - 0.01), (end, 0.74))
    axes.text(
        (start + end) / 2, y, "  what is still missed says what to generate next  ", ha="center",
        va="center", fontsize=9, color=GREY, bbox={"fc": "white", "ec": "none", "pad": 1},
    )  # fmt: skip


def main() -> None:
    """Writes loop.png, roi.jpg, teacher_student.png and scores.png to docs/images."""
    genuine, impostor = scores("synthetic-only")
    save(loop_figure(genuine, impostor, equal_error(genuine, impostor)[0]), "loop.png")
    save(roi_figure(), "roi.jpg")
    save(teacher_student_figure(), "teacher_student.png", 64)
    save(score_figure(genuine, impostor), "scores.png", 64)


if __name__ == "__main__":
    main()
