"""Error versus discard: what is left of the errors when the poorest pictures are refused.

Grother & Tabassi, "Performance of biometric quality measures", TPAMI 2007; ISO/IEC 29794-1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from palmforge.metrics.comparison import Comparison, Distance, tar_key
from palmforge.metrics.embeddings import PairDistance


def error_versus_discard(
    templates: Tensor,
    labels: NDArray[np.integer],
    quality: Tensor,
    distance: Distance | PairDistance,
    shares: Sequence[float] = (0.0, 0.005, 0.01, 0.02, 0.05),
    far: float = 1e-3,
) -> list[dict[str, float]]:
    """All pairs of what is left, for each share of pictures that is refused.

    Args:
        templates: `[N, …]`.
        labels: `[N]`, the identities.
        quality: `[N]`, the higher the better; it knows nothing of the labels.
        distance: As in `Comparison`.
        shares: Of the pictures, the poorest, that are refused; rounded down to whole pictures.
        far: False accept rate for `tar@far=…`.

    Returns:
        For each share: `share`, `min_quality` (of the poorest that is left), `num_images`, `eer`,
        `tar@far=…`, and `generalized_tar@far=…`: accepted pairs over all genuine pairs that there
        were, so that a refused picture counts as a false reject (ISO/IEC 19795-1). NaN or left out
        where the pairs that remain do not tell.

    Raises:
        ValueError: Lengths that differ, a share outside [0, 1), or a quality that is NaN.
    """
    if not len(templates) == len(labels) == len(quality):
        raise ValueError(f"{len(templates)} templates, {len(labels)} labels, {len(quality)} values")
    if not all(0 <= share < 1 for share in shares):
        raise ValueError(f"shares must lie in [0, 1): {list(shares)}")
    values = quality.detach().cpu().numpy()
    if np.isnan(values).any():
        raise ValueError("a quality is NaN")
    key = tar_key(far)
    order = np.argsort(values, kind="stable")
    num_genuine = _num_genuine(labels)
    rows = []
    for share in shares:
        kept = np.sort(order[int(share * len(order)) :])
        chosen = templates[from_numpy(kept).to(templates.device)]
        figures = Comparison(chosen, labels[kept], distance=distance, fars=(far,)).figures()
        row = {
            "share": share,
            "min_quality": float(values[kept].min(initial=np.inf)),
            "num_images": float(len(kept)),
            "eer": figures["eer"],
        }
        if key in figures:
            row[key] = figures[key]
            row[f"generalized_{key}"] = figures[key] * figures["num_genuine"] / num_genuine
        rows.append(row)
    return rows


def _num_genuine(labels: NDArray[np.integer]) -> float:
    counts = np.unique(labels, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1) / 2).sum())
