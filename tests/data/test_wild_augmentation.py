"""Another capture of the same palm: of the seed alone, another frame and light, the same palm."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pictures import noise

from palmforge.data.augmentation import RoiAugmentation
from palmforge.data.wild_augmentation import _reframe, recapture

ROI = noise(144, 144, smooth=6)


def test_the_seed_decides_and_the_input_stays():
    before = ROI.copy()
    first = [recapture(ROI, seed, 128) for seed in range(40)]
    again = [recapture(ROI, seed, 128) for seed in reversed(range(40))][::-1]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(ROI, before)
    assert len({image.tobytes() for image in first}) == 40
    assert {(image.shape, image.dtype) for image in first} == {((128, 128, 3), np.dtype(np.uint8))}


@pytest.mark.parametrize("side", [64, 144, 400])
def test_sources_of_any_side(side):
    for seed in range(10):
        assert recapture(noise(side, side), seed, 96).shape == (96, 96, 3)


def _angle_and_scale(seed: int) -> tuple[float, float]:
    """Of the frame: pixels say where they came from, and an affine map is fitted to them."""
    ramp = np.arange(144, dtype=np.uint8) + 50
    places = np.dstack(
        [np.broadcast_to(ramp, (144, 144)), np.broadcast_to(ramp[:, None], (144, 144)),
         np.full((144, 144), 255, np.uint8)]
    )  # fmt: skip
    view = _reframe(places, np.random.default_rng(seed), 128)[24:-24, 24:-24].astype(float)
    y, x = np.mgrid[24:104, 24:104]
    grid = np.column_stack([x.ravel(), y.ravel(), np.ones(x.size)])
    matrix = np.linalg.lstsq(grid, view[..., :2].reshape(-1, 2), rcond=None)[0].T
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2]))) * 128 / 144
    return float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))), float(scale)


def test_frames_turn_and_grow_as_conventions_do():
    angles, scales = np.transpose([_angle_and_scale(seed) for seed in range(200)])
    assert 4 < angles.std() < 9 and 10 < np.abs(angles).max() < 22
    assert 0.75 < scales.min() < 0.88 and 1.14 < scales.max() < 1.3


def test_without_geometry_the_palm_stays_where_it_is():
    centre = np.full((144, 144, 3), 60, np.uint8)
    cv2.circle(centre, (72, 72), 20, (230, 230, 230), -1)
    kept = []
    for seed in range(60):
        grey = recapture(centre, seed, 128, geometric=False).mean(axis=2)
        inside, outside = np.median(grey[54:74, 54:74]), np.median(grey[20:108, [20, 107]])
        kept.append(inside > outside)
    assert np.mean(kept) > 0.85  # shadows and what covers it do the rest


def test_some_pictures_are_grey_soft_or_cut_at_a_corner():
    palm = noise(144, 144, smooth=3) // 2 + 70
    views = [recapture(palm, seed, 128) for seed in range(300)]
    grey = np.mean([np.ptp(view.astype(int), axis=2).mean() < 6 for view in views])
    assert 0.1 < grey < 0.5
    sharpness = [cv2.Laplacian(cv2.cvtColor(v, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var()
                 for v in views]  # fmt: skip
    assert np.percentile(sharpness, 95) > 20 * np.percentile(sharpness, 5)
    corners = [min(view[y, x].max() for y in (0, -1) for x in (0, -1)) for view in views]
    assert 0.05 < np.mean(np.array(corners) < 12) < 0.5


def test_it_is_the_preset_wild():
    wild, still = (RoiAugmentation("wild", geometric, 96) for geometric in (True, False))
    light = RoiAugmentation("wild_light", True, 96)
    np.testing.assert_array_equal(light(ROI, 5), recapture(ROI, 5, 96, strength=0.5))
    np.testing.assert_array_equal(wild(ROI, 5), recapture(ROI, 5, 96))
    np.testing.assert_array_equal(still(ROI, 5), recapture(ROI, 5, 96, geometric=False))
    np.testing.assert_array_equal(wild(ROI, 5, 0.2), recapture(ROI, 5, 96, strength=0.2))
    assert wild.is_random
    assert len({a.fingerprint for a in (wild, still, RoiAugmentation("strong", True, 96))}) == 3
