"""Hands out of photographs and back: nothing outside the mask changes, at any size."""

from __future__ import annotations

import numpy as np
import pytest
from hand_photographs import hand
from pictures import noise

from palmforge.data.deidentification.crops import (
    Box,
    crop_box,
    cut,
    feathered,
    hand_box,
    paste,
    resized,
    resized_mask,
)


def test_the_box_holds_the_hand_and_its_margin():
    points = hand()[1]
    box = hand_box(points, 0.1)
    low, high = points.min(0), points.max(0)
    assert (low >= [box.left, box.top]).all()
    assert (high <= np.array([box.left, box.top]) + box.side).all()
    assert box.side == np.ceil(1.2 * (high - low).max())
    assert hand_box(np.zeros((21, 2))).side == 8


def test_a_cut_is_the_pictures_pixels_and_its_border_goes_on():
    image = noise(20, 30)
    np.testing.assert_array_equal(cut(image, Box(5, 4, 9)), image[4:13, 5:14])
    beyond = cut(image, Box(-3, 15, 10))
    assert beyond.shape == (10, 10, 3)
    np.testing.assert_array_equal(beyond[:5, 3:], image[15:, :7])
    np.testing.assert_array_equal(beyond[9, 0], image[19, 0])
    assert Box(-3, 15, 10).is_cut(20, 30) and not Box(0, 0, 20).is_cut(20, 30)
    with pytest.raises(ValueError, match="beside a picture"):
        cut(image, Box(40, 0, 5))


@pytest.mark.parametrize("size", [7, 33, 100])
def test_no_masked_pixel_is_lost_at_another_size(size):
    mask = np.zeros((50, 50), bool)
    mask[11, 20] = mask[30:40, 5:9] = True
    small = resized_mask(mask, size)
    assert small.shape == (size, size)
    for y, x in np.argwhere(mask):
        assert small[int((y + 0.5) * size / 50), int((x + 0.5) * size / 50)]


def test_the_feather_lies_inside_and_not_along_the_pictures_border():
    mask = np.zeros((30, 30), bool)
    mask[:20, 5:25] = True
    weights = feathered(mask, 5)
    assert (weights[~mask] == 0).all() and (weights[mask] > 0).all()
    assert weights[0, 15] == 1 and weights[19, 15] < 0.3
    np.testing.assert_array_equal(feathered(mask, 0), mask)
    assert (feathered(np.ones((4, 4), bool), 9) == 1).all()


@pytest.mark.parametrize("box", [Box(10, 10, 40), Box(-15, -9, 60), Box(50, 20, 50)])
@pytest.mark.parametrize("size", [16, 64])
def test_only_what_is_masked_changes(box, size):
    image = noise(60, 80)
    before = image.copy()
    rows, columns = box.inside(60, 80)
    mask = np.zeros(image[rows, columns].shape[:2], bool)
    mask[4:-3, 5:-2] = True
    paste(image, np.full((size, size, 3), 255, np.uint8), box, mask, 3.0)
    changed = np.zeros((60, 80), bool)
    changed[rows, columns] = mask
    np.testing.assert_array_equal(image[~changed], before[~changed])
    assert (image[changed] != before[changed]).any(-1).mean() > 0.99
    y, x = np.argwhere(changed).mean(0).astype(int)
    assert (image[y, x] == 255).all()


def test_a_crop_that_is_put_back_lies_where_it_was():
    image, points = hand()[0].copy(), hand()[1]
    before, box = image.copy(), hand_box(points)
    rows, columns = box.inside(*image.shape[:2])
    mask = np.ones(image[rows, columns].shape[:2], bool)
    paste(image, resized(cut(image, box), 2 * box.side), box, mask, 0)
    moved = np.abs(np.roll(before, 1, 1).astype(int) - before).mean()
    assert np.abs(image.astype(int) - before).mean() < moved / 3


def test_fifty_megapixels_go_through():
    image = np.zeros((6000, 8400, 3), np.uint8)
    box = Box(5000, 2500, 3600)
    crop = resized(cut(image, box), 64)
    mask = np.zeros((3500, 3400), bool)
    mask[500:700, 500:700] = True
    paste(image, crop + 90, box, mask, 36)
    assert crop.shape == (64, 64, 3) and image[3100, 5600, 0] == 90
    assert np.count_nonzero(image[..., 0]) <= 200 * 200


def test_a_crop_around_the_palm_leaves_the_fingers_out():
    points = np.zeros((21, 2))
    palm = [0, 1, 2, 5, 9, 13, 17]
    points[palm] = [[50, 100], [20, 90], [10, 70], [20, 20], [40, 10], [60, 15], [80, 30]]
    points[[4, 8, 12, 16, 20]] = [[0, 40], [10, -80], [40, -100], [70, -90], [100, -40]]
    others = [n for n in range(21) if n not in palm and not points[n].any()]
    points[others] = [40, 50]
    box = crop_box(points, "palm", 0.0)
    assert (box.left, box.top, box.side) == (0, 10, 90)  # 70 × 90 about (45, 55)
    assert crop_box(points, "palm", 0.5).side == 180
    assert crop_box(points, "hand", 0.0) == hand_box(points, 0.0)
    assert hand_box(points, 0.0).side == 200
