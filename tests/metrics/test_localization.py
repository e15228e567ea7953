"""Point errors, overlap, wrong frames, groups."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from palmforge.metrics.localization import (
    LocalizationScores,
    bin_labels,
    failure_rate,
    intersection_area,
    is_flipped,
    is_mirrored,
    palm_width,
    point_errors,
    quad_iou,
    roi_iou,
    rotation_of,
    score_palm,
    summarize,
)

HALF = np.array([0.5, 0.0])
UNIT = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])


def _turned(quad: np.ndarray, degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return (quad - quad.mean(0)) @ np.array([[c, s], [-s, c]]) + quad.mean(0)


def test_overlap_of_shifted_squares() -> None:
    assert quad_iou(UNIT, UNIT) == pytest.approx(1)
    assert quad_iou(UNIT, UNIT + HALF) == pytest.approx(1 / 3)
    assert quad_iou(UNIT, UNIT + 4001) == 0
    assert quad_iou(UNIT + 4000, UNIT + 4000 + HALF) == pytest.approx(1 / 3)


def test_overlap_of_a_square_turned_by_45_degrees() -> None:
    octagon = 2 * (np.sqrt(2) - 1)  # of the unit square
    assert intersection_area(UNIT, _turned(UNIT, 45)) == pytest.approx(octagon)


def test_overlap_agrees_with_opencv() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        quads = [_turned(UNIT * rng.uniform(0.5, 2, 2), rng.uniform(0, 360)) for _ in range(2)]
        first, second = (q + rng.uniform(-0.5, 0.5, 2) for q in quads)
        area, _ = cv2.intersectConvexConvex(first.astype(np.float32), second.astype(np.float32))
        assert intersection_area(first, second) == pytest.approx(area, abs=1e-5)


def test_overlap_does_not_ask_which_way_a_quad_runs() -> None:
    assert quad_iou(UNIT[[1, 0, 3, 2]], UNIT + HALF) == pytest.approx(1 / 3)


def test_upside_down_is_a_failure() -> None:
    assert not is_flipped(_turned(UNIT, 89), UNIT) and is_flipped(_turned(UNIT, 91), UNIT)
    assert roi_iou(_turned(UNIT, 180), UNIT) == 0
    assert score_palm(_turned(UNIT, 180), UNIT) == (0.0, True, False)


def test_left_and_right_confused_is_a_failure() -> None:
    mirrored = UNIT[[1, 0, 3, 2]]
    assert is_mirrored(mirrored, UNIT) and not is_mirrored(_turned(UNIT, 180), UNIT)
    assert roi_iou(mirrored, UNIT) == 0
    assert score_palm(UNIT, UNIT, same_hand=False) == (0.0, False, True)


@pytest.mark.parametrize("degrees", [0, 30, -120, 179])
def test_rotation_is_clockwise_from_upright(degrees) -> None:
    assert rotation_of(_turned(UNIT, degrees)) == pytest.approx(degrees)
    assert rotation_of(_turned(UNIT[[1, 0, 3, 2]], degrees)) == pytest.approx(degrees)


def test_errors_are_in_palm_widths() -> None:
    truth = np.zeros((2, 14, 2))
    truth[:, 12, 0] = [50, 100]
    predicted = truth + np.array([3, 4])
    predicted[1] = np.nan
    errors = point_errors(predicted, truth, palm_width(truth))
    assert np.allclose(errors[0], 0.1) and np.isnan(errors[1]).all()
    assert failure_rate(errors.mean(axis=1), threshold=0.11) == 0.5
    assert failure_rate(errors.mean(axis=1), threshold=0.09) == 1


def test_bins_and_groups() -> None:
    labels = bin_labels([0, 14.9, 15, 180, np.nan], (0, 15, 45, 180), "°")
    assert list(labels) == ["0–15°", "0–15°", "15–45°", "45–180°", ""]
    assert list(bin_labels([600], (0, 512, np.inf), " px")) == ["≥ 512 px"]
    n = 4
    scores = LocalizationScores(
        found=np.array([True, True, True, False]),
        iou=np.array([0.9, 0.6, 0.0, 0.0]),
        flipped=np.array([False, False, True, False]),
        mirrored=np.zeros(n, bool),
        errors14=np.array([[0.02] * 14, [0.2] * 14, [1.0] * 14, [np.nan] * 14]),
        errors21=np.full((n, 21), np.nan),
        visible14=np.ones((n, 14), bool),
    )
    table = summarize(scores, {"rotation": ["0–15°", "0–15°", "15–45°", ""]})
    whole = table["all"]["all"]
    assert whole["images"] == 4 and whole["found"] == 0.75 and whole["iou_over_0.7"] == 0.25
    assert whole["iou_median"] == pytest.approx(0.3)
    assert whole["nme"] == pytest.approx(0.11) and whole["failure_10"] == 0.75
    assert np.isnan(whole["nme21"])
    assert list(table["rotation"]) == ["0–15°", "15–45°"]
    assert table["rotation"]["15–45°"]["flipped"] == 1
    assert scores.by_point() == pytest.approx(np.full(14, 0.11))
