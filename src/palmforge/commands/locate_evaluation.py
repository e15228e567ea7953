"""`locate evaluate`: locators against known key points."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from palmforge.data.atomic import write_aside
from palmforge.data.images import read_image
from palmforge.data.progress import progress_bar
from palmforge.data.roi import quad_side
from palmforge.errors import BadImage, ConfigError, DataError
from palmforge.evaluation.finite import finite
from palmforge.localization.location import Localizer, PalmLocation
from palmforge.localization.methods import localizer_identity
from palmforge.localization.pool import map_with_localizer
from palmforge.localization.truth import PalmTruth
from palmforge.metrics.localization import (
    PICTURE_SIZE_EDGES,
    ROI_SIDE_EDGES,
    ROTATION_EDGES,
    TILT_EDGES,
    LocalizationScores,
    bin_labels,
    palm_width,
    point_errors,
    rotation_of,
    score_palm,
    summarize,
)

_COLUMNS = {
    "images": ("images", "{:.0f}"),
    "found": ("found %", "{:.1%}"),
    "iou_median": ("IoU median", "{:.3f}"),
    "iou_over_0.7": ("IoU > 0.7 %", "{:.1%}"),
    "flipped": ("upside down %", "{:.1%}"),
    "mirrored": ("wrong hand %", "{:.1%}"),
    "nme": ("NME14 %", "{:.2%}"),
    "nme_visible": ("NME14 seen %", "{:.2%}"),
    "nme21": ("NME21 %", "{:.2%}"),
    "failure_10": ("failures %", "{:.1%}"),
}

Located = PalmLocation | None


def evaluate_methods(
    truths: Sequence[PalmTruth], methods: Sequence[str], num_workers: int
) -> dict[str, dict[str, Any]]:
    """Method → its figures: `groups` (see `summarize`), `by_point`, `weights` (its identity).

    Raises:
        ConfigError: If there is no method.
        DataError: If a picture cannot be read: a measurement is on all of them.
    """
    if not methods:
        raise ConfigError("methods: none given, for example --methods default,dlib:PATH")
    groups = _groups(truths)
    tables: dict[str, dict[str, Any]] = {}
    for method in methods:
        identity = localizer_identity(method)  # fails before the first method has run for an hour
        tables[method] = {"weights": identity}
    paths = [truth.path for truth in truths]
    for method in methods:
        found = map_with_localizer(_surest, paths, method, num_workers)
        palms = list(progress_bar(found, method, len(paths)))
        scores = score_palms(palms, truths)
        points = [round(value, 5) for value in scores.by_point().tolist()]
        tables[method] |= {"groups": summarize(scores, groups), "by_point": points}
    return tables


def score_palms(palms: Sequence[Located], truths: Sequence[PalmTruth]) -> LocalizationScores:
    """Compares the palm found in each picture, if any, with the true one."""
    true14 = np.stack([truth.keypoints14 for truth in truths])
    width = palm_width(true14)
    nothing14, nothing21 = np.full((14, 2), np.nan), np.full((21, 2), np.nan)
    found14 = np.stack([nothing14 if palm is None else palm.keypoints14 for palm in palms])
    pairs21 = [
        (nothing21, nothing21)
        if palm is None or palm.keypoints21 is None or truth.keypoints21 is None
        else (palm.keypoints21, truth.keypoints21)
        for palm, truth in zip(palms, truths, strict=True)
    ]
    verdicts = [
        score_palm(
            None if palm is None else palm.quad,
            truth.quad,
            palm is None or palm.handedness == truth.handedness,
        )
        for palm, truth in zip(palms, truths, strict=True)
    ]
    overlap, flipped, mirrored = zip(*verdicts, strict=True)
    return LocalizationScores(
        found=np.array([palm is not None for palm in palms]),
        iou=np.array(overlap),
        flipped=np.array(flipped),
        mirrored=np.array(mirrored),
        errors14=point_errors(found14, true14, width),
        errors21=point_errors(
            np.stack([found for found, _ in pairs21]),
            np.stack([true for _, true in pairs21]),
            width,
        ),
        visible14=np.stack([truth.visible14 for truth in truths]),
    )


def write_evaluation(out: Path, root: str, images: int, tables: dict[str, dict[str, Any]]) -> str:
    """Writes `evaluation.json` and `evaluation.md`; returns the latter."""
    with write_aside(out / "evaluation.json") as aside:
        content = finite({"root": root, "images": images, "methods": tables})
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = [
        f"# Locators on {root} ({images} pictures)",
        "",
        "IoU: overlap of the ROI with the true one, 0 if no palm was found, upside down, or of the "
        "wrong hand. NME: mean point error in palm widths (P0–P12) where the frame is right. "
        "Failures: NME above 10 %, or no right frame.",
    ]
    first = next(iter(tables.values()))["groups"]
    for grouping, labels in first.items():
        lines += ["", f"## {grouping}", "", _header(grouping)]
        for label in labels:
            for method, table in tables.items():
                row = table["groups"][grouping][label]
                cells = [form.format(row[key]) for key, (_, form) in _COLUMNS.items()]
                cells = ["–" if "nan" in cell else cell.removesuffix("%") for cell in cells]
                lines.append("| " + " | ".join([label, method, *cells]) + " |")
    lines += ["", "## Error of each point, % of the palm's width", ""]
    lines += ["| method | " + " | ".join(f"P{i}" for i in range(14)) + " |", "|---" * 15 + "|"]
    for method, table in tables.items():
        cells = [f"{100 * value:.1f}" for value in table["by_point"]]
        lines.append("| " + " | ".join([method, *cells]) + " |")
    text = "\n".join(lines) + "\n"
    with write_aside(out / "evaluation.md") as aside:
        aside.write_text(text, encoding="utf-8")
    return text


def _surest(localizer: Localizer, path: str) -> Located:
    try:
        image, _ = read_image(path)
    except BadImage as bad:
        raise DataError(f"{bad}. A picture to measure on must be readable") from bad
    for palm in localizer.locate_all(image):
        try:
            _ = palm.quad
        except ValueError:  # points that span no palm
            continue
        return palm
    return None


def _groups(truths: Sequence[PalmTruth]) -> dict[str, np.ndarray]:
    quads = [truth.quad for truth in truths]
    columns = {
        "rotation": bin_labels([abs(rotation_of(quad)) for quad in quads], ROTATION_EDGES, "°"),
        "tilt": bin_labels([truth.tilt for truth in truths], TILT_EDGES, "°"),
        "ROI side": bin_labels([quad_side(quad) for quad in quads], ROI_SIDE_EDGES, " px"),
        "picture size": bin_labels([t.size for t in truths], PICTURE_SIZE_EDGES, " px"),
        "preset": np.array([truth.preset for truth in truths], dtype=object),
        "hand": np.array([truth.handedness for truth in truths], dtype=object),
    }
    return {name: labels for name, labels in columns.items() if any(labels)}


def _header(grouping: str) -> str:
    names = [grouping, "method", *(title for title, _ in _COLUMNS.values())]
    return "| " + " | ".join(names) + " |\n|---|---" + "|---:" * len(_COLUMNS) + "|"
