"""The geometry of the ROI, by hand and by what must not change it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pictures import RIGHT_HAND, noise

from palmforge.data.roi import extract_roi, quad_side, xjtu_roi_quad

CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)


def _square(x: float, y: float, side: float) -> np.ndarray:
    """The quad of `side` × `side` pixels whose top-left pixel is (x, y)."""
    return np.array([x, y]) - 0.5 + side * CORNERS


def _mirrored(points: np.ndarray, width: int) -> np.ndarray:
    return points * [-1, 1] + [width - 1, 0]


def test_quad_by_hand() -> None:
    points = np.zeros((14, 2))
    points[3], points[6], points[9] = (60, 10), (45, 8), (30, 10)  # index side on the right
    points[0], points[12], points[13] = (100, 50), (0, 50), (5, 80)  # L = 100, below
    # side 60, centre 40 below P6 = (45, 48)
    assert xjtu_roi_quad(points).tolist() == [[15, 18], [75, 18], [75, 78], [15, 78]]


def test_quad_of_the_mirrored_hand_runs_the_other_way_round() -> None:
    expected = _mirrored(xjtu_roi_quad(RIGHT_HAND), 240)
    np.testing.assert_allclose(xjtu_roi_quad(_mirrored(RIGHT_HAND, 240)), expected)


@pytest.mark.parametrize("degrees", [0, 30, 90, 180, 250])
@pytest.mark.parametrize("scale", [0.4, 1.0, 7.0])
def test_quad_follows_rotation_scale_and_shift(degrees, scale) -> None:
    turn = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    moved = xjtu_roi_quad(RIGHT_HAND @ matrix.T + [31.0, -12.0])
    np.testing.assert_allclose(moved, xjtu_roi_quad(RIGHT_HAND) @ matrix.T + [31.0, -12.0])


def test_fingers_are_up_and_the_index_side_is_right() -> None:
    for hand in (RIGHT_HAND, _mirrored(RIGHT_HAND, 240), -RIGHT_HAND, RIGHT_HAND[:, ::-1]):
        quad = xjtu_roi_quad(hand)
        to_crop = cv2.getPerspectiveTransform(np.float32(quad), np.float32(CORNERS))
        x, y = cv2.perspectiveTransform(hand[None], to_crop.astype(np.float64))[0].T
        assert (y[[3, 6, 9]] < 0.1).all()  # valleys at or above the upper edge
        assert y[13] > 0.5
        assert x[0] > x[3] > x[6] > x[9] > x[12]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[:13], "14 .* are needed"),
        (lambda p: np.where(np.arange(14)[:, None] == 5, np.nan, p), "finite"),
        (lambda p: np.zeros((14, 2)), "coincide"),
        (lambda p: np.stack([p[:, 0], np.zeros(14)], axis=1), "wrist side"),
    ],
)
def test_points_that_span_no_palm_are_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        xjtu_roi_quad(change(RIGHT_HAND))


def test_side_of_a_quad() -> None:
    assert quad_side(_square(3, 4, 17)) == 17


def test_the_whole_picture_at_its_own_size_is_itself() -> None:
    image = noise(48, 48, smooth=0)
    np.testing.assert_array_equal(extract_roi(image, _square(0, 0, 48), 48), image)


def test_a_square_of_whole_pixels_is_a_slice() -> None:
    image = noise(60, 80, smooth=0)
    np.testing.assert_array_equal(extract_roi(image, _square(11, 7, 40), 40), image[7:47, 11:51])


def test_crop_of_the_mirrored_picture_with_mirrored_points_is_the_same() -> None:
    image = noise(200, 240)
    crop = extract_roi(image, xjtu_roi_quad(RIGHT_HAND), 64)
    other = extract_roi(image[:, ::-1], xjtu_roi_quad(_mirrored(RIGHT_HAND, 240)), 64)
    np.testing.assert_allclose(crop.astype(int), other, atol=3)  # cv2 rounds to 1/32 pixel


def test_a_turned_quad_turns_the_crop() -> None:
    image = noise(64, 64, smooth=0)
    quad = np.roll(_square(0, 0, 64), 1, axis=0)  # the output's top-left is the bottom-left
    np.testing.assert_array_equal(extract_roi(image, quad, 64), np.rot90(image, -1))


@pytest.mark.parametrize("ratio", [2.0, 3.0, 4.0, 4.7])
def test_shrinking_by_two_and_more_leaves_no_checkerboard(ratio) -> None:
    board = (np.indices((400, 400)).sum(axis=0) % 2 * 255).astype(np.uint8)
    crop = extract_roi(board, _square(20.3, 20.7, 64 * ratio), 64)
    assert crop.std() < 0.1 * board.std()


@pytest.mark.parametrize("ratio", [1.2, 1.5, 1.9])
def test_shrinking_a_little_weakens_what_would_alias(ratio) -> None:
    board = (np.indices((400, 400)).sum(axis=0) % 2 * 255).astype(np.uint8)
    crop = extract_roi(board, _square(20.3, 20.7, 64 * ratio), 64)
    assert crop.std() < 0.33 * board.std()


def test_two_sizes_show_the_same_skin() -> None:
    image = noise(300, 300, smooth=8)
    quad = _square(40, 50, 192) @ np.array([[0.98, 0.17], [-0.17, 0.98]])
    large, small = extract_roi(image, quad, 96), extract_roi(image, quad, 32)
    means = cv2.resize(large, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(means.astype(int) - small).max() <= 3


def test_outside_is_black_and_grey_is_repeated() -> None:
    grey = np.full((40, 40), 200, np.uint8)
    crop = extract_roi(grey, _square(20, -20, 40), 40)
    assert crop.shape == (40, 40, 3)
    assert (crop[:20] == 0).all() and (crop[:, 20:] == 0).all()
    assert (crop[20:, :20] == 200).all()


@pytest.mark.parametrize(
    ("quad", "size", "message"),
    [
        (np.zeros((3, 2)), 8, "four finite"),
        (np.full((4, 2), np.inf), 8, "four finite"),
        (_square(0, 0, 8), 0, "must be positive"),
    ],
)
def test_bad_quads_and_sizes_are_refused(quad, size, message) -> None:
    with pytest.raises(ValueError, match=message):
        extract_roi(np.zeros((8, 8, 3), np.uint8), quad, size)
