"""21 points of any detector → 14 points, hand and ROI."""

from __future__ import annotations

import json

import numpy as np
import pytest

from palmforge.localization.fit_hand_points import fit_hand_points, rendered_hands
from palmforge.localization.hand_points import (
    COEFFICIENTS,
    HandPointsLocalizer,
    fit_weights,
    keypoints14_from_21,
    residuals,
    shows_palm,
)
from palmforge.localization.location import Localizer
from palmforge.metrics.localization import roi_iou


@pytest.fixture(scope="module")
def hands() -> tuple[np.ndarray, np.ndarray]:
    """21 and 14 points of a dozen rendered hands."""
    return rendered_hands(12, 1, "IN", seed=3)


def _hand_of(index: int) -> str:
    return "LR"[index % 2]  # as the renderer counts


def test_the_shipped_weights_are_those_of_the_anatomy(hands) -> None:
    points21, points14 = hands
    weights = np.array(json.loads(COEFFICIENTS.read_text())["weights"])
    assert weights.sum(axis=1) == pytest.approx(1)
    assert np.median(residuals(weights, points21, points14)) < 0.03  # of the palm's width


def test_a_new_fit_is_written_with_its_residuals(tmp_path) -> None:
    fit_hand_points(str(tmp_path / "w.json"), num_hands=24, captures=1, preset="IN")
    content = json.loads((tmp_path / "w.json").read_text())
    assert np.array(content["weights"]).shape == (14, 21)
    assert content["residual_percent_of_palm_width"]["median"] < 5


def test_weights_that_exist_are_found() -> None:
    rng = np.random.default_rng(0)
    points21 = rng.normal(size=(400, 21, 2))
    true = np.zeros((14, 21))
    true[np.arange(14), [0, 1, 2, 5, 6, 9, 10, 13, 14, 17, 18, 0, 1, 2]] = 1
    points14 = true @ points21
    assert np.allclose(fit_weights(points21, points14, noise=1e-6), true, atol=1e-3)


def test_moving_turning_mirroring_and_shearing_the_hand_moves_the_points_along(hands) -> None:
    points = hands[0][0]
    affine, shift = np.array([[-0.3, 0.8], [0.5, 0.9]]), np.array([100.0, -7.0])
    assert np.allclose(
        keypoints14_from_21(points @ affine + shift), keypoints14_from_21(points) @ affine + shift
    )


def test_the_roi_is_near_the_true_one_for_both_hands(hands) -> None:
    from palmforge.data.roi import xjtu_roi_quad

    for index, (points21, points14) in enumerate(zip(*hands, strict=True)):
        localizer = HandPointsLocalizer(lambda _, p=points21, i=index: [(p, _hand_of(i), 0.8)])
        assert isinstance(localizer, Localizer)
        palm = localizer.locate(np.zeros((8, 8, 3), np.uint8))
        assert palm is not None and palm.handedness == _hand_of(index) and palm.confidence == 0.8
        assert roi_iou(palm.quad, xjtu_roi_quad(points14)) > 0.75


def test_a_back_of_a_hand_is_no_palm(hands) -> None:
    points = hands[0][1]  # a right hand
    assert shows_palm(points, "R") and not shows_palm(points, "L")
    assert not shows_palm(points * [-1, 1], "R")
    image = np.zeros((8, 8, 3), np.uint8)
    assert HandPointsLocalizer(lambda _: [(points, "L", 1.0)]).locate(image) is None
    trusting_points = HandPointsLocalizer(lambda _: [(points, "L", 1.0)], palms_only=False)
    palm = trusting_points.locate(image)
    assert palm is not None and palm.handedness == "R"


def test_the_surest_hand_comes_first(hands) -> None:
    found = [(hands[0][1], "R", 0.3), (hands[0][3], "R", 0.9)]
    palms = HandPointsLocalizer(lambda _: found).locate_all(np.zeros((8, 8, 3), np.uint8))
    assert [palm.confidence for palm in palms] == [0.9, 0.3]


def test_other_than_21_points_are_refused() -> None:
    with pytest.raises(ValueError, match="21"):
        keypoints14_from_21(np.zeros((14, 2)))
