"""Fits the map from 21 to 14 points anew: `python -m palmforge.localization.fit_hand_points`.

To be run again whenever the anatomy of `palmforge.data.synthetic` changes. Half of the hands fit
the weights, the other half measures them.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from palmforge.data.atomic import write_aside
from palmforge.data.synthetic import PRESETS, render_palm
from palmforge.localization.hand_points import COEFFICIENTS, fit_weights, residuals

_SIZE = 384  # pixels; in small pictures the valleys between closed fingers are lost


def rendered_hands(
    num_hands: int, captures: int, preset: str, num_workers: int = 1, seed: int = 21
) -> tuple[np.ndarray, np.ndarray]:
    """Both sets of points of rendered hands.

    Args:
        num_hands: Identities.
        captures: Poses of each.
        preset: Of `render_palm`.
        num_workers: Processes.
        seed: Of the hands; not that of a data set which is measured on.

    Returns:
        [N, 21, 2] and [N, 14, 2] pixels, N = num_hands · captures.
    """
    work = partial(_points, captures, preset, seed)
    if num_workers <= 1:
        pairs = [pair for hand in map(work, range(num_hands)) for pair in hand]
    else:
        with ProcessPoolExecutor(num_workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
            pairs = [
                pair for hand in pool.map(work, range(num_hands), chunksize=8) for pair in hand
            ]
    points21, points14 = zip(*pairs, strict=True)
    return np.stack(points21), np.stack(points14)


def fit_hand_points(
    out: str = str(COEFFICIENTS),
    num_hands: int = 300,
    captures: int = 4,
    preset: str | None = None,
    noise: float = 0.02,
    num_workers: int = 1,
) -> None:
    """Fits, measures and writes the weights.

    Args:
        out: The JSON file.
        num_hands: Half fit, half measure.
        captures: Poses of each hand.
        preset: Of `render_palm`; null: `wild` where there is one, else `IN`.
        noise: Of a detector, in palm widths (`fit_weights`).
        num_workers: Processes.
    """
    preset = preset or ("wild" if "wild" in PRESETS else "IN")
    points21, points14 = rendered_hands(num_hands, captures, preset, num_workers)
    half = len(points21) // 2
    weights = fit_weights(points21[:half], points14[:half], noise)
    errors = 100 * residuals(weights, points21[half:], points14[half:])
    content = {
        "command": "python -m palmforge.localization.fit_hand_points",
        "hands": {"identities": num_hands, "captures": captures, "preset": preset, "noise": noise},
        "residual_percent_of_palm_width": {
            "mean": round(float(errors.mean()), 2),
            "median": round(float(np.median(errors)), 2),
            "95_percent_below": round(float(np.quantile(errors, 0.95)), 2),
            "by_point": [round(float(value), 2) for value in errors.mean(axis=0)],
        },
        "weights": _rounded(weights),
    }
    with write_aside(Path(out)) as aside:
        aside.write_text(_json(content), encoding="utf-8")
    print(f"{out}: {content['residual_percent_of_palm_width']}")


def _rounded(weights: np.ndarray) -> list[list[float]]:
    """To five digits, so that each row still sums to 1: the wrist takes what rounding leaves."""
    rows = np.round(weights, 5)
    rows[:, 0] += 1 - rows.sum(axis=1)
    return np.round(rows, 5).tolist()


def _json(content: dict) -> str:
    """One line a point."""
    rows = ",\n  ".join(json.dumps(row) for row in content["weights"])
    head = json.dumps({**content, "weights": []}, indent=1)
    return head.replace('"weights": []', f'"weights": [\n  {rows}\n ]') + "\n"


def _points(
    captures: int, preset: str, seed: int, identity: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    truths = [render_palm(identity, n, preset, _SIZE, seed)[1] for n in range(captures)]
    return [(truth.keypoints21, truth.keypoints14) for truth in truths]


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(fit_hand_points)
