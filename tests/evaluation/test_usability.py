"""Usability against hand-computed differences; hands that are lost, and which is which."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hand_photographs import SIZE, hand

from palmforge.data.deidentification.segmentation import everything, skeleton
from palmforge.errors import ConfigError
from palmforge.evaluation.usability import (
    Looked,
    look,
    matched,
    summarize,
    usability,
    usability_of,
)
from palmforge.localization.hand_points import keypoints14_from_21
from palmforge.localization.location import PalmLocation
from palmforge.localization.methods import load_localizer

IMAGE, POINTS = hand()


def _seen(left: float = 10, top: float = 20, side: float = 30) -> Looked:
    """A square of a hand in a photograph of 200 × 100."""
    points = left + np.zeros((21, 2))
    points[:, 1] = top
    points[1] += side
    mask = np.zeros((100, 200), bool)
    mask[int(top) : int(top + side), int(left) : int(left + side)] = True
    box = np.array([[left, top], [left + side, top + side]])
    quad = box[0] + side * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    return Looked(100, 200, box, points, None, quad, mask)


@dataclass(frozen=True)
class InSpace(PalmLocation):
    keypoints3d: np.ndarray | None = None


class Finds:
    """A localizer that gives what it was told."""

    def __init__(self, *palms: PalmLocation) -> None:
        self.palms = list(palms)

    def locate_all(self, image: np.ndarray) -> list[PalmLocation]:
        return self.palms


def _palm(points: np.ndarray = POINTS) -> PalmLocation:
    return PalmLocation(keypoints14_from_21(points), points, "R", 0.9)


def test_the_same_picture_is_as_usable_as_it_was():
    (one,) = look(IMAGE, Finds(_palm()), skeleton)
    found = usability(one, one)
    assert (found.hand_detection, found.keypoints_2d, found.roi_localization) == (0, 0, 0)
    assert found.hand_segmentation == 0 and found.keypoints_3d is None and not found.is_lost


def test_differences_are_shares_of_the_picture():
    found = usability(_seen(), _seen(left=14))  # four of 200 columns: 2 % in x, 0 % in y
    assert found.hand_detection == pytest.approx(1)
    assert found.keypoints_2d == pytest.approx(1)
    assert found.roi_localization == pytest.approx(1)
    assert found.hand_segmentation == pytest.approx(100 * 2 * 4 * 30 / 20_000)
    assert usability(_seen(), _seen(top=24)).keypoints_2d == pytest.approx(2)  # of 100 rows


def test_what_is_further_off_than_the_picture_is_100_percent_off():
    far = replace(_seen(), quad=_seen().quad + 1e6)
    assert usability(_seen(), far).roi_localization == 100


def test_points_in_space_are_compared_where_there_are_any():
    cube = np.zeros((21, 3))
    cube[0] = [2, 4, 8]
    one = replace(_seen(), points3d=cube)
    other = replace(_seen(), points3d=cube + np.array([0, 0, 2.4]))
    assert usability(one, other).keypoints_3d == pytest.approx(10)  # 0.3 of 8, one axis of three
    assert math.isnan(usability(one, _seen()).keypoints_3d or 0.0)
    points = np.zeros((21, 3))
    (seen,) = look(IMAGE, Finds(InSpace(**vars(_palm()), keypoints3d=points)), everything)
    assert seen.points3d is not None and seen.points3d.shape == (21, 3)


def test_a_lost_hand_is_counted_and_in_no_mean():
    found = usability(_seen(), None)
    assert found.is_lost and math.isnan(found.roi_localization) and found.keypoints_3d is None
    summary = summarize([found, usability(_seen(), _seen(left=14)), usability(_seen(), _seen())])
    assert summary.hands == 3 and summary.lost == pytest.approx(1 / 3)
    figure = summary.figures["keypoints_2d"]
    assert figure is not None and figure.mean == pytest.approx(0.5)
    assert figure.count == 2 and figure.left_out == 1
    assert summary.figures["keypoints_3d"] is None
    with pytest.raises(ValueError, match="no hand"):
        summarize([])


def test_an_roi_that_cannot_be_made_is_lost_alone():
    flat = np.tile(np.linspace(10, 90, 21)[:, None], (1, 2))
    (seen,) = look(IMAGE, Finds(_palm(flat)), everything)
    if np.isfinite(seen.quad).all():  # rounding may leave it a corner
        seen = replace(seen, quad=np.full((4, 2), np.nan))
    found = usability(look(IMAGE, Finds(_palm()), everything)[0], seen)
    assert math.isnan(found.roi_localization) and not found.is_lost


def test_each_hand_is_compared_with_the_nearest_and_no_two_with_one():
    left, right = _seen(left=10), _seen(left=120)
    moved, new = _seen(left=123), _seen(left=60, side=20)
    pairs = matched([left, right], [new, moved])
    assert pairs[0] == (left, None) and pairs[1] == (right, moved)
    close = _seen(left=12)
    assert [other for _, other in matched([left, close], [close, left])] == [left, close]
    assert [other for _, other in matched([left, close], [close])] == [None, close]
    assert [one.is_lost for one in usability_of([left, right], [moved])] == [True, False]
    assert usability_of([], [moved]) == []


def test_a_hand_seen_twice_in_a_row_keeps_its_mask_in_place():
    shown = np.zeros((SIZE + 30, SIZE + 50, 3), np.uint8)
    shown[30:, 50:] = IMAGE
    (one,) = look(IMAGE, Finds(_palm()), skeleton)
    (other,) = look(shown, Finds(_palm(POINTS + np.array([50, 30]))), skeleton)
    assert one.mask is not None and other.mask is not None and one.mask.any()
    inner = one.mask[:, : SIZE - 1], other.mask[30:, 50:][:, : SIZE - 1]
    assert np.mean(inner[0] != inner[1]) < 0.01


def test_a_localizer_of_14_points_says_nothing_of_masks():
    palm = replace(_palm(), keypoints21=None)
    (seen,) = look(IMAGE, Finds(palm), everything)
    assert seen.points.shape == (14, 2) and seen.mask is None
    assert usability(seen, seen).hand_segmentation is None
    assert usability(seen, None).hand_segmentation is None
    with pytest.raises(ValueError, match="14 points in the original, 21"):
        usability(seen, look(IMAGE, Finds(_palm()), everything)[0])


def test_a_hand_beside_the_picture_has_no_mask():
    (seen,) = look(IMAGE, Finds(_palm(POINTS + 5000)), everything)
    assert seen.mask is not None and not seen.mask.any()


def test_any_detector_of_21_points_will_do(tmp_path, monkeypatch):
    (tmp_path / "my_hand_detector.py").write_text(
        "import numpy as np\n"
        f"POINTS = np.array({POINTS.tolist()})\n"
        "def detect(image):\n"
        "    return [(POINTS, 'R', 0.7), (POINTS + 60, 'R', 0.8)] if image.any() else []\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    localizer = load_localizer("python:my_hand_detector:detect")
    localizer.palms_only = False
    seen = look(IMAGE, localizer, everything)
    assert len(seen) == 2
    np.testing.assert_allclose(seen[1].points, POINTS)
    found = usability_of(seen, look(np.zeros_like(IMAGE), localizer, everything))
    assert [one.is_lost for one in found] == [True, True]


def test_two_photographs_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="200 × 100 and 200 × 90"):
        usability(_seen(), replace(_seen(), height=90))


def test_a_segmenter_that_gives_no_mask_is_refused():
    with pytest.raises(ConfigError, match="segmenter: bool"):
        look(IMAGE, Finds(_palm()), lambda *_: np.ones((3, 3), bool))
