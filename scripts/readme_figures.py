#!/usr/bin/env python3
"""Draws the pictures of docs/quickstart.md, after `make quickstart`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import cv2
import numpy as np

from palmforge.callbacks.evaluation_report import RESULTS_NAME, read_results
from palmforge.commands.study import make_plan, read_study
from palmforge.data.roi import extract_roi, xjtu_roi_quad
from palmforge.data.synthetic import render_palm
from palmforge.plots import roc_figure

OUT = ROOT / "docs" / "images"
TILE = 200


def palms() -> np.ndarray:
    """Four palms, each under two phones' flash and natural light, with its key points and ROI."""
    rows = []
    for identity in (2, 5, 8, 13):
        pictures, crops = [], []
        for capture, preset in enumerate(("IF", "HN", "SF", "LN"), start=1):
            image, truth = render_palm(identity, capture, preset, 2 * TILE, seed=7)
            quad = xjtu_roi_quad(truth.keypoints14)
            crops.append(extract_roi(image, quad, TILE // 2))
            if capture == 1:
                image = _draw(image, truth.keypoints14, quad)
            pictures.append(cv2.resize(image, (TILE, TILE), interpolation=cv2.INTER_AREA))
        rows.append(np.hstack([*pictures, np.vstack(crops[:2]), np.vstack(crops[2:])]))
    return np.vstack(rows)


def _draw(image: np.ndarray, points: np.ndarray, quad: np.ndarray) -> np.ndarray:
    image = image.copy()
    cv2.polylines(image, [np.rint(quad).astype(np.int32)], True, (255, 255, 255), 2, cv2.LINE_AA)
    for x, y in np.rint(points).astype(int):
        cv2.circle(image, (int(x), int(y)), 4, (0, 114, 178), -1, cv2.LINE_AA)
    return image


def main() -> None:
    """Writes palms.jpg and quickstart_roc.png."""
    OUT.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 85]
    cv2.imwrite(str(OUT / "palms.jpg"), palms()[..., ::-1], quality)
    plan = make_plan(read_study(str(ROOT / "configs/study/quickstart.yaml")))
    curves = {
        f"{item.domain} {item.run}": read_results(item.version / RESULTS_NAME)[1]
        for item in plan
        if item.version is not None
    }
    if curves:
        figure = roc_figure(curves)
        figure.axes[0].set_title("Quickstart: DHN on synthetic palms", fontsize=10)
        figure.axes[0].legend(loc="upper left", fontsize=8)  # students lie to the right
        figure.savefig(OUT / "quickstart_roc.png", dpi=90, bbox_inches="tight")


if __name__ == "__main__":
    main()
