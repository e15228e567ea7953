"""The paper's locator on small rendered hands."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest

from palmforge.data.roi import xjtu_roi_quad
from palmforge.data.synthetic import render_palm
from palmforge.errors import ConfigError, DataError
from palmforge.localization.dlib_reference import DlibLocalizer, DlibSettings, PalmSample
from palmforge.localization.location import Localizer
from palmforge.metrics.localization import roi_iou

pytest.importorskip("dlib")

_QUICK = DlibSettings(trees_per_level=60, cascade_depth=8, oversampling=4, svm_epsilon=0.05)


def _sample(identity: int, seed: int) -> tuple[PalmSample, str]:
    image, truth = render_palm(identity, 0, "IN", 192, seed)
    return PalmSample(image, truth.keypoints14), truth.hand


@pytest.fixture(scope="module")
def locator() -> DlibLocalizer:
    return DlibLocalizer.fit((_sample(i, seed=5)[0] for i in range(60)), _QUICK)


def _turned(sample: PalmSample, degrees: float) -> PalmSample:
    size = len(sample.image)
    matrix = cv2.getRotationMatrix2D(((size - 1) / 2,) * 2, degrees, 0.8)
    image = cv2.warpAffine(sample.image, matrix, (size, size), borderMode=cv2.BORDER_REFLECT)
    return PalmSample(image, sample.keypoints14 @ matrix[:, :2].T + matrix[:, 2])


def test_hands_of_both_sides_are_found_at_any_angle(locator) -> None:
    assert isinstance(locator, Localizer)
    overlap = []
    for identity in range(8):
        sample, hand = _sample(identity, seed=6)
        turned = _turned(sample, 47.0 * identity)
        palm = locator.locate(turned.image)
        right = palm is not None and palm.handedness == hand
        overlap.append(roi_iou(palm.quad, xjtu_roi_quad(turned.keypoints14)) if right else 0.0)
    assert np.median(overlap) > 0.6, overlap


def test_no_palm_in_noise(locator) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (150, 200, 3)).astype(np.uint8)
    assert locator.locate_all(noise) == [] and locator.locate(noise) is None


def test_two_hands_are_two_palms(locator) -> None:
    first, second = (_sample(i, seed=6)[0].image for i in (0, 1))
    palms = locator.locate_all(np.concatenate([first, second], axis=1))
    assert len(palms) >= 2
    assert {palm.handedness for palm in palms[:2]} == {"L", "R"}
    assert palms[0].confidence >= palms[1].confidence > 0.5


def test_saved_and_loaded_it_answers_the_same(locator, tmp_path) -> None:
    locator.save(str(tmp_path / "model"))
    again = DlibLocalizer.load(str(tmp_path / "model"))
    assert again.settings == _QUICK
    image = _sample(1, seed=6)[0].image
    assert np.array_equal(locator.locate(image).keypoints14, again.locate(image).keypoints14)


def test_a_folder_without_a_locator_says_what_makes_one(tmp_path) -> None:
    with pytest.raises(DataError, match="locate fit"):
        DlibLocalizer.load(str(tmp_path))
    for name in ("detector.svm", "shape.dat"):
        (tmp_path / name).write_bytes(b"no model")
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(DataError, match="not a dlib locator"):
        DlibLocalizer.load(str(tmp_path))


def test_without_dlib_the_error_names_the_package(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(ConfigError, match="pip install dlib-bin"):
        DlibLocalizer.fit([])


def test_nothing_to_train_on() -> None:
    with pytest.raises(DataError, match="no picture"):
        DlibLocalizer.fit([])
