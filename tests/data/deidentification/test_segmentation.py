"""The palm's mask: the paper's polygon, and what a segmentation may take from it."""

from __future__ import annotations

import numpy as np
import pytest
from hand_photographs import hand

from palmforge.data.deidentification.segmentation import (
    SEGMENTERS,
    everything,
    grabcut,
    load_segmenter,
    palm_mask,
    palm_polygon,
    without_gaps,
)
from palmforge.errors import ConfigError

IMAGE, POINTS = hand()
POLYGON = palm_polygon(POINTS, *IMAGE.shape[:2])


def _square() -> np.ndarray:
    """Points whose palm is the square from 10 to 30."""
    points = np.full((21, 2), 20.0)
    points[[0, 1, 2, 5, 9, 13, 17]] = [
        [10, 30], [30, 30], [30, 25], [30, 10], [25, 10], [15, 10], [10, 10],
    ]  # fmt: skip
    return points


def test_the_polygon_is_that_of_the_seven_points():
    found = palm_polygon(_square(), 50, 40)
    assert found.shape == (50, 40) and found.dtype == bool
    wanted = np.zeros((50, 40), bool)
    wanted[10:31, 10:31] = True
    np.testing.assert_array_equal(found, wanted)


def test_the_authors_polygon_leaves_the_thumbs_root_out():
    found = palm_polygon(_square(), 50, 40, thumb_root=False)
    assert not found[29, 29] and found[20, 20]
    assert found.sum() < palm_polygon(_square(), 50, 40).sum()


def test_it_grows_on_all_sides_and_is_cut_by_the_picture():
    found = palm_polygon(_square(), 50, 32, grow=4)
    assert found[7, 20] and found[33, 20] and found[20, 31] and not found[2, 20]
    assert not palm_polygon(_square() + 500, 50, 40).any()


def test_the_mask_is_polygon_and_hand():
    half = np.zeros(IMAGE.shape[:2], bool)
    columns = np.flatnonzero(POLYGON.any(0))
    half[:, : columns[int(0.7 * len(columns))]] = True
    found = palm_mask(IMAGE, POINTS, lambda image, points: half)
    np.testing.assert_array_equal(found, POLYGON & half)


def test_gaps_in_a_hand_are_palm_as_well():
    hand_with_gap = np.ones(IMAGE.shape[:2], bool)
    y, x = np.argwhere(POLYGON).mean(0).astype(int)
    hand_with_gap[y - 3 : y + 4, x - 3 : x + 4] = False
    assert palm_mask(IMAGE, POINTS, lambda *_: hand_with_gap)[y, x]
    ring = np.zeros((9, 9), bool)
    ring[2:7, 2:7] = True
    ring[4, 4] = False
    assert without_gaps(ring).sum() == 25


def test_a_segmentation_that_loses_the_palm_is_not_believed():
    nothing = np.zeros(IMAGE.shape[:2], bool)
    np.testing.assert_array_equal(palm_mask(IMAGE, POINTS, lambda *_: nothing), POLYGON)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenter_finds_the_palm_and_gives_the_same_twice(name):
    segment = load_segmenter(name)
    found = segment(IMAGE, POINTS)
    assert found.shape == IMAGE.shape[:2] and found.dtype == bool
    assert (found & POLYGON).sum() > 0.95 * POLYGON.sum()
    np.testing.assert_array_equal(found, segment(IMAGE, POINTS))


def test_grabcut_tells_a_hand_from_what_is_far_from_it():
    found = grabcut(IMAGE, POINTS)
    assert found.mean() < 0.6 and not found[:8, :8].any()
    assert grabcut(np.full((30, 30, 3), 9, np.uint8), np.full((21, 2), 900.0)).shape == (30, 30)


def test_one_of_your_own_is_taken_by_its_place():
    place = f"python:{everything.__module__}:everything"
    assert load_segmenter(place) is everything


@pytest.mark.parametrize("name", ["sam", "python:no_such_module:f", "python:math:pi", "python:"])
def test_one_that_is_none_is_refused(name):
    with pytest.raises(ConfigError, match=r"data\.segmenter"):
        load_segmenter(name)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ConfigError, match="expected, got"):
        palm_mask(IMAGE, POINTS, lambda *_: np.ones((3, 3), bool))
