"""How well palms are found: point errors, ROI overlap, and what a wrong frame costs.

A ROI decides what a recogniser sees, so its overlap is the figure of merit. A ROI that is upside
down, or that takes a left hand for a right one, shows the recogniser another palm, however well it
covers the skin: its overlap counts as 0. So does that of a palm that was not found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

ROTATION_EDGES = (0, 15, 45, 90, 135, 180)  # degrees away from upright, either way
TILT_EDGES = (0, 10, 20, 30, 40, 90)  # degrees between the palm's normal and the optical axis
ROI_SIDE_EDGES = (0, 32, 64, 128, 256, 512, np.inf)  # pixels
PICTURE_SIZE_EDGES = (0, 128, 256, 512, 1024, 2048, np.inf)  # pixels, longer side


def palm_width(keypoints14: ArrayLike) -> np.ndarray:
    """L = |P0 P12| of `[..., 14, 2]` points, `[...]`: the unit of point errors.

    It is the L of Shao et al. 2020, §4.1: the ROI's side is 3/5 of it.
    """
    points = np.asarray(keypoints14, dtype=np.float64)
    return np.linalg.norm(points[..., 12, :] - points[..., 0, :], axis=-1)


def point_errors(predicted: ArrayLike, truth: ArrayLike, width: ArrayLike) -> np.ndarray:
    """Distance of each point from its true place, in palm widths.

    Args:
        predicted: `[N, K, 2]` pixels; NaN where nothing was found.
        truth: `[N, K, 2]` pixels.
        width: `[N]` true palm widths in pixels (`palm_width`).

    Returns:
        `[N, K]`; NaN where nothing was found.
    """
    difference = np.asarray(predicted, dtype=np.float64) - np.asarray(truth, dtype=np.float64)
    return np.linalg.norm(difference, axis=-1) / np.asarray(width, dtype=np.float64)[:, None]


def failure_rate(errors: ArrayLike, threshold: float = 0.10) -> float:
    """Share of pictures `[N]` whose mean error is above the threshold, or that have none (NaN)."""
    values = np.asarray(errors, dtype=np.float64)
    return float(np.mean(~(values <= threshold))) if values.size else float("nan")


def polygon_area(polygon: ArrayLike) -> float:
    """Signed area of a polygon `[M, 2]`: positive if it runs clockwise as seen (y down)."""
    x, y = np.asarray(polygon, dtype=np.float64).reshape(-1, 2).T
    return float(0.5 * (x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def intersection_area(first: ArrayLike, second: ArrayLike) -> float:
    """Area of the overlap of two convex polygons `[M, 2]`, exact (Sutherland and Hodgman)."""
    origin = np.asarray(second, dtype=np.float64).mean(axis=0)  # precision far from the corner
    inside = np.asarray(first, dtype=np.float64) - origin
    window = np.asarray(second, dtype=np.float64) - origin
    if polygon_area(window) < 0:
        window = window[::-1]
    for start, end in zip(window, np.roll(window, -1, axis=0), strict=True):
        edge = end - start
        side = edge[0] * (inside[:, 1] - start[1]) - edge[1] * (inside[:, 0] - start[0])
        following, next_side = np.roll(inside, -1, axis=0), np.roll(side, -1)
        kept = []
        for point, next_point, s, t in zip(inside, following, side, next_side, strict=True):
            if s >= 0:
                kept.append(point)
            if (s >= 0) != (t >= 0):
                kept.append(point + (next_point - point) * (s / (s - t)))
        if not kept:
            return 0.0
        inside = np.array(kept)
    return abs(polygon_area(inside))


def quad_iou(first: ArrayLike, second: ArrayLike) -> float:
    """Intersection over union of two convex quads `[4, 2]`, whichever way they run."""
    shared = intersection_area(first, second)
    union = abs(polygon_area(first)) + abs(polygon_area(second)) - shared
    return shared / union if union > 0 else 0.0


def up_direction(quad: ArrayLike) -> np.ndarray:
    """Unit vector `[2]` towards the fingers: from the quad's lower to its upper edge."""
    corners = np.asarray(quad, dtype=np.float64)
    up = corners[:2].mean(axis=0) - corners[2:].mean(axis=0)
    return up / max(float(np.linalg.norm(up)), 1e-12)


def rotation_of(quad: ArrayLike) -> float:
    """Degrees in (-180, 180] by which the fingers point away from up, clockwise positive."""
    x, y = up_direction(quad)
    return float(np.rad2deg(np.arctan2(x, -y)))


def is_flipped(predicted: ArrayLike, truth: ArrayLike) -> bool:
    """Whether a ROI quad is upside down: its fingers point more than 90 degrees from the true."""
    return bool(up_direction(predicted) @ up_direction(truth) < 0)


def is_mirrored(predicted: ArrayLike, truth: ArrayLike) -> bool:
    """Whether a ROI quad confuses left and right: it runs the other way round than the true."""
    return polygon_area(predicted) * polygon_area(truth) < 0


def roi_iou(predicted: ArrayLike | None, truth: ArrayLike) -> float:
    """Overlap of a ROI `[4, 2]` with the true one; 0 if not found, flipped or mirrored."""
    if predicted is None or is_flipped(predicted, truth) or is_mirrored(predicted, truth):
        return 0.0
    return quad_iou(predicted, truth)


@dataclass(frozen=True)
class LocalizationScores:
    """What became of N pictures with one known palm each.

    Attributes:
        found: [N] bool.
        iou: [N] overlap of the ROI; 0 if not found, upside down or left and right confused.
        flipped: [N] bool: found, but upside down.
        mirrored: [N] bool: found, but taken for the other hand.
        errors14: [N, 14] point errors in palm widths; NaN if not found.
        errors21: [N, 21] the same of the 21 hand points; NaN also where the method gives none.
        visible14: [N, 14] bool: which of the true points can be seen.
    """

    found: np.ndarray
    iou: np.ndarray
    flipped: np.ndarray
    mirrored: np.ndarray
    errors14: np.ndarray
    errors21: np.ndarray
    visible14: np.ndarray

    def __len__(self) -> int:
        return len(self.found)

    def subset(self, chosen: np.ndarray) -> LocalizationScores:
        """The pictures of a mask [N]."""
        return LocalizationScores(*(getattr(self, name)[chosen] for name in self.__annotations__))

    def summary(self) -> dict[str, float]:
        """The figures of a table's row.

        Returns:
            images; found, flipped, mirrored, iou_over_0.7: shares of all pictures; iou_median;
            nme, nme_visible: mean error of the 14 points (of those that can be seen) over pictures
            that were found and have the right frame; nme21; failure_10: share of all pictures with
            a mean error above 10 % of the palm's width, not found or in a wrong frame.
        """
        right = self.found & ~self.flipped & ~self.mirrored
        per_picture = np.where(right, self.errors14.mean(axis=1), np.nan)
        seen = np.where(self.visible14, self.errors14, np.nan)[right]
        return {
            "images": len(self),
            "found": _mean(self.found),
            "iou_median": float(np.median(self.iou)) if len(self) else float("nan"),
            "iou_over_0.7": _mean(self.iou > 0.7),
            "flipped": _mean(self.flipped),
            "mirrored": _mean(self.mirrored),
            "nme": _mean(per_picture),
            "nme_visible": _mean(seen),
            "nme21": _mean(self.errors21[right]),
            "failure_10": failure_rate(per_picture),
        }

    def by_point(self) -> np.ndarray:
        """[14] mean error of each point over pictures in the right frame, in palm widths."""
        right = self.found & ~self.flipped & ~self.mirrored
        return np.array([_mean(column) for column in self.errors14[right].T])


def score_palm(
    predicted_quad: ArrayLike | None,
    true_quad: ArrayLike,
    same_hand: bool = True,
) -> tuple[float, bool, bool]:
    """Overlap, upside down, left and right confused, of one picture.

    Args:
        predicted_quad: `[4, 2]`, or None if no palm was found.
        true_quad: `[4, 2]`.
        same_hand: Whether the hand that the method names is the true one.
    """
    if predicted_quad is None:
        return 0.0, False, False
    mirrored = is_mirrored(predicted_quad, true_quad) or not same_hand
    overlap = 0.0 if mirrored else roi_iou(predicted_quad, true_quad)
    return overlap, is_flipped(predicted_quad, true_quad), mirrored


def bin_labels(values: ArrayLike, edges: Sequence[float], unit: str = "") -> np.ndarray:
    """Names of the bins [N] that values fall into, such as `"15–45°"`; `""` for NaN.

    Bins take their lower edge, the last one both; values outside are in the first or last bin.
    """
    numbers = np.asarray(values, dtype=np.float64)
    names = [
        f"≥ {low:g}{unit}" if np.isinf(high) else f"{low:g}–{high:g}{unit}"
        for low, high in pairwise(edges)
    ]
    index = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(names) - 1)
    return np.where(np.isnan(numbers), "", np.array(names, dtype=object)[index])


def summarize(
    scores: LocalizationScores, groups: Mapping[str, ArrayLike]
) -> dict[str, dict[str, dict[str, float]]]:
    """Figures of all pictures and of each group.

    Args:
        scores: Of N pictures.
        groups: Name of a grouping (`"rotation"`) → label of each picture [N]; `""` is no group.

    Returns:
        Grouping → label → `LocalizationScores.summary`, labels in the order of their lower edge or
        by name; under `"all"` there is one label, `"all"`.
    """
    table = {"all": {"all": scores.summary()}}
    for grouping, labels in groups.items():
        names = np.asarray(labels, dtype=object)
        ordered = sorted({name for name in names if name}, key=_label_order)
        table[grouping] = {name: scores.subset(names == name).summary() for name in ordered}
    return table


def _label_order(label: str) -> tuple[float, str]:
    start = label.removeprefix("≥ ").split("–")[0].rstrip("°px ")
    try:
        return float(start), label
    except ValueError:
        return float("inf"), label


def _mean(values: np.ndarray) -> float:
    """Mean of what is not NaN; NaN if nothing is left."""
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[~np.isnan(numbers)]
    return float(numbers.mean()) if numbers.size else float("nan")
