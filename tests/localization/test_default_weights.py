"""The weights that come with the package find palms that they have never seen."""

from __future__ import annotations

import numpy as np
import pytest

from palmforge.data.roi import xjtu_roi_quad
from palmforge.data.synthetic import render_palm
from palmforge.localization.localizer import PalmLocalizer
from palmforge.localization.weights import ASSETS
from palmforge.metrics.localization import roi_iou

WEIGHTS = ASSETS / "palm_localizer" / "model.safetensors"
pytestmark = pytest.mark.skipif(not WEIGHTS.is_file(), reason="weights are not trained yet")


@pytest.fixture(scope="module")
def localizer():
    return PalmLocalizer.from_pretrained()


def test_they_are_small(localizer):
    networks = (localizer.weights.detector, localizer.weights.landmarks)
    assert sum(p.numel() for network in networks for p in network.parameters()) <= 3_000_000
    assert WEIGHTS.stat().st_size <= 12 * 2**20


def test_palms_are_found_whichever_way_they_are_turned(localizer):
    overlaps = []
    for identity in range(12):
        image, truth = render_palm(identity, 1, "wild", 256, seed=990_017)
        quad = xjtu_roi_quad(truth.keypoints14)
        turns = identity % 4
        for _ in range(turns):  # a quarter turn against the clock: (x, y) → (y, 255 − x)
            quad = np.stack([quad[:, 1], 255 - quad[:, 0]], axis=1)
        palm = localizer.locate(np.ascontiguousarray(np.rot90(image, turns)))
        overlaps.append(0.0 if palm is None else roi_iou(palm.quad, quad))
        if palm is not None and overlaps[-1] > 0.5:
            assert palm.handedness == truth.hand
    assert np.median(overlaps) > 0.8 and np.mean(np.array(overlaps) > 0.7) >= 0.75


def test_a_blank_wall_has_no_palm(localizer):
    assert localizer.locate(np.full((480, 640, 3), 190, np.uint8)) is None
