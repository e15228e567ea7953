#!/usr/bin/env python3
"""Draws the pictures of docs/synthetic_world.md: `python scripts/synthetic_world_figures.py`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import cv2
import numpy as np

from palmforge.data.roi import extract_roi
from palmforge.data.synthetic import XJTU_PRESETS, render_palm, render_roi

OUT = ROOT / "docs" / "images" / "world"
SEED = 77
TILE = 168


def small(image: np.ndarray, side: int = TILE) -> np.ndarray:
    """A tile [side, side, 3]."""
    way = cv2.INTER_AREA if side < len(image) else cv2.INTER_NEAREST
    return cv2.resize(image, (side, side), interpolation=way)


def grid(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    """Tiles in rows."""
    rows = [np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)]
    return np.vstack(rows)


def identities_by_captures() -> np.ndarray:
    """Six palms, seven wild captures each."""
    pairs = [(identity, capture) for identity in range(20, 26) for capture in range(1, 8)]
    return grid([small(render_palm(i, c, "wild", 320, SEED)[0]) for i, c in pairs], 7)


def domains() -> np.ndarray:
    """One palm under the ten presets of XJTU-UP, whole and as a ROI."""
    whole, crops = [], []
    for code in XJTU_PRESETS:
        image, truth = render_palm(9, 1, code, 384, SEED)
        tile = small(image, 132).copy()
        cv2.putText(tile, code, (5, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1)
        whole.append(tile)
        crops.append(extract_roi(image, truth.quad, 132))
    return np.vstack([np.hstack(whole), np.hstack(crops)])


def points() -> np.ndarray:
    """The 14 points (blue; red where hidden), the 21 (yellow) and the ROI, drawn."""
    tiles = []
    for identity, capture in ((30, 1), (31, 4), (33, 2), (34, 3), (36, 1), (37, 6)):
        image, truth = render_palm(identity, capture, "wild", 448, SEED)
        image = image.copy()
        cv2.polylines(image, [np.rint(truth.quad).astype(int)], True, (255, 255, 255), 2)
        for spots, visible, colour in (
            (truth.keypoints21, truth.visible21, (255, 210, 60)),
            (truth.keypoints14, truth.visible14, (40, 130, 255)),
        ):
            for (x, y), seen in zip(np.rint(spots).astype(int), visible, strict=True):
                shade = colour if seen else (230, 40, 40)
                cv2.circle(image, (int(x), int(y)), 4, shade, -1, cv2.LINE_AA)
        tiles.append(small(image, 2 * TILE))
    return grid(tiles, 3)


def resolutions() -> np.ndarray:
    """Three palms in good light at 60, 128 and 300 pixels a ROI, all enlarged to one size."""
    tiles = []
    for identity in (9, 12, 15, 18):
        image, truth = render_palm(identity, 2, "IF", 1108, SEED)
        for side in (60, 128, 300):
            crop = extract_roi(image, truth.quad, side)
            tiles.append(cv2.resize(crop, (220, 220), interpolation=cv2.INTER_CUBIC))
    return np.hstack([np.vstack(tiles[k::3]) for k in range(3)])


def rois() -> np.ndarray:
    """ROIs rendered directly: eight palms, eleven wild captures each, the frame a little off."""
    pairs = [(identity, capture) for identity in range(40, 48) for capture in range(11)]
    return grid([small(render_roi(i, c, "wild", 128, SEED, 1.0)[0], 108) for i, c in pairs], 11)


def failures() -> np.ndarray:
    """Pictures in which something gives the renderer away."""
    chosen = FAILURES
    return grid([small(render_palm(i, c, "wild", 400, SEED)[0], TILE + 30) for i, c in chosen], 6)


# Picked by eye from 96 pictures; docs/synthetic_world.md says what is wrong with them.
FAILURES = [(63, 7), (66, 4), (60, 1), (70, 4), (61, 7), (62, 7)]


def main() -> None:
    """Writes docs/images/world/*.jpg."""
    cv2.setNumThreads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    for draw in (identities_by_captures, domains, points, resolutions, rois, failures):
        path = OUT / f"{draw.__name__}.jpg"
        quality = 88
        while True:
            cv2.imwrite(str(path), draw()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
            if path.stat().st_size < 290_000:
                break
            quality -= 8
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
