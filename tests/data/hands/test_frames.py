"""The square of a palm, and the way to a crop."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import RIGHT_HAND

from palmforge.data.hands.frames import crop_matrix, frame_of_points, transform
from palmforge.data.roi import xjtu_roi_quad

MIRROR = np.array([-1.0, 1.0])


@pytest.mark.parametrize("points", [RIGHT_HAND, RIGHT_HAND * MIRROR + [240, 0]])
def test_the_quad_of_a_frame_is_the_roi_of_its_points(points):
    np.testing.assert_allclose(frame_of_points(points).quad, xjtu_roi_quad(points))


def test_which_hand_it_is_follows_from_the_points_at_any_rotation():
    for degrees in range(0, 360, 30):
        turn = np.deg2rad(degrees)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        assert not frame_of_points(RIGHT_HAND @ rotation.T).left
        assert frame_of_points((RIGHT_HAND * MIRROR) @ rotation.T).left


def test_every_palm_comes_out_upright_with_the_index_side_on_the_right():
    turn = np.deg2rad(130)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    for points in (RIGHT_HAND, RIGHT_HAND * MIRROR, 3 * RIGHT_HAND @ rotation.T):
        crop = transform(crop_matrix(frame_of_points(points), 160), points)
        assert crop[3, 0] > crop[9, 0]  # index valley right of the little finger's
        assert crop[13, 1] > crop[6, 1]  # wrist side below
        quad = xjtu_roi_quad(crop)
        np.testing.assert_allclose(np.linalg.norm(quad[1] - quad[0]), 160 / 4.2, rtol=1e-6)


def test_points_in_a_heap_are_refused():
    with pytest.raises(ValueError, match="coincide"):
        frame_of_points(np.ones((14, 2)))
