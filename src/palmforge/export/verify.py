"""Does the file say what the network says? And what did int8 cost?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from palmforge.export.exportable import Role
from palmforge.metrics.comparison import Comparison, Distance

_SURE = 0.5  # score of a peak that the localizer does not look twice at


def agreement(role: Role, theirs: NDArray[Any], ours: NDArray[Any]) -> dict[str, float]:
    """How far an exported file's first output is from PyTorch's.

    Args:
        role: What the output is.
        theirs: Of the file.
        ours: Of PyTorch, the same shape.

    Returns:
        Codes: `bit_flips` of `bits`, `images_with_flips`, `most_flips_of_an_image`. Embeddings:
        `largest_difference` and `mean_cosine_distance`. Landmarks and peaks: `mean_pixels` and
        `largest_pixels` between points, or between the centres of the surest peaks.

    Raises:
        ValueError: Shapes differ.
    """
    if theirs.shape != ours.shape:
        raise ValueError(f"{theirs.shape} was exported, PyTorch gives {ours.shape}")
    if role == "code":
        flips = np.bitwise_count(theirs ^ ours).sum(1)
        return {
            "bit_flips": int(flips.sum()),
            "bits": 8 * ours.size,
            "images_with_flips": int((flips > 0).sum()),
            "most_flips_of_an_image": int(flips.max()),
        }
    if role == "embedding":
        return {
            "largest_difference": float(np.abs(theirs - ours).max()),
            "mean_cosine_distance": float(np.maximum(0, 1 - (theirs * ours).sum(1)).mean()),
        }
    if role == "detector":  # a palm that is hardly there may come second elsewhere
        sure = ours[:, 0, 6] > min(_SURE, ours[:, 0, 6].max() / 2)
        theirs, ours = theirs[sure, 0, :2], ours[sure, 0, :2]
    apart = np.linalg.norm(theirs - ours, axis=-1)
    return {"mean_pixels": float(apart.mean()), "largest_pixels": float(apart.max())}


def error_rates(
    templates: NDArray[Any], labels: NDArray[np.int64], distance: Distance, intervals: int = 0
) -> tuple[dict[str, float], Comparison]:
    """EER, TARs and so on of all pairs, as `Comparison` gives them, and that itself."""
    compared = Comparison(
        torch.from_numpy(templates), labels, distance=distance, fars=(1e-1, 1e-2, 1e-3),
        intervals=intervals,
    )  # fmt: skip
    return compared.figures(), compared
