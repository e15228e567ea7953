"""An augmented picture is a function of the ROI and the seed, and of nothing else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from pictures import noise

from palmforge.data.augmentation import RoiAugmentation

ROI = noise(80, 80, smooth=4)
PRESETS = ("mild", "strong")


@pytest.mark.parametrize("preset", PRESETS)
def test_the_seed_decides_whatever_came_before(preset) -> None:
    one, two = (RoiAugmentation(preset, True, 64) for _ in range(2))
    first = [one(ROI, seed) for seed in range(12)]
    np.random.seed(3)
    again = [two(ROI, seed) for seed in reversed(range(12))][::-1]
    np.testing.assert_array_equal(first, again)
    assert len({image.tobytes() for image in first}) == 12
    assert {(image.shape, image.dtype) for image in first} == {((64, 64, 3), np.dtype(np.uint8))}


def test_none_only_resizes() -> None:
    plain = RoiAugmentation("none", True, 64)
    expected = cv2.resize(ROI, (64, 64), interpolation=cv2.INTER_AREA)
    for seed in (0, 1):
        np.testing.assert_array_equal(plain(ROI, seed), expected)
    np.testing.assert_array_equal(RoiAugmentation("none", True, 80)(ROI, 5), ROI)
    assert not plain.is_random


def test_the_input_is_not_changed() -> None:
    roi = ROI.copy()
    for seed in range(20):
        RoiAugmentation("strong", True, 80)(roi, seed)
    np.testing.assert_array_equal(roi, ROI)


def _shift_of_lines(image: np.ndarray) -> float:
    """Pixels by which the picture seems to have moved against `ROI`."""
    grey = [cv2.GaussianBlur(i, (0, 0), 2).mean(axis=2).astype(np.float32) for i in (ROI, image)]
    grey = [(g - g.mean()) / g.std() for g in grey]
    flow = cv2.calcOpticalFlowFarneback(
        *(cv2.normalize(g, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U) for g in grey),
        None, 0.5, 3, 15, 5, 5, 1.1, 0,
    )  # fmt: skip
    return float(np.linalg.norm(flow[10:-10, 10:-10], axis=-1).mean())


@pytest.mark.parametrize("preset", PRESETS)
def test_without_geometry_lines_stay_where_they_are(preset) -> None:
    still = [_shift_of_lines(RoiAugmentation(preset, False, 80)(ROI, s)) for s in range(15)]
    moved = [_shift_of_lines(RoiAugmentation(preset, True, 80)(ROI, s)) for s in range(15)]
    assert np.mean(still) < 0.5
    assert np.mean(moved) > 4 * np.mean(still)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_happens_to_a_picture_is_drawn_one_by_one(preset) -> None:
    """Noise, blur, gamma and JPEG have one probability; with one seed they would all coincide."""
    augmentation = RoiAugmentation(preset, True, 80)
    done: list[str] = []
    for transform in augmentation._compose.transforms:
        name, apply = type(transform).__name__, transform.apply_with_params
        transform.apply_with_params = lambda *a, _name=name, _apply=apply, **k: (
            done.append(_name) or _apply(*a, **k)
        )
    rows = []
    for seed in range(200):
        done.clear()
        augmentation(ROI, seed)
        rows.append(
            [n in done for n in ("GaussNoise", "GaussianBlur", "RandomGamma", "ImageCompression")]
        )
    correlation = np.corrcoef(np.transpose(rows))
    assert np.abs(correlation - np.eye(4)).max() < 0.3


def test_fingerprints_tell_settings_apart_and_processes_not() -> None:
    settings = [("none", True, 64), ("mild", True, 64), ("strong", True, 64), ("strong", False, 64),
                ("strong", True, 80)]  # fmt: skip
    prints = [RoiAugmentation(*s).fingerprint for s in settings]
    assert len(set(prints)) == len(prints)
    assert prints == [RoiAugmentation(*s).fingerprint for s in settings]
    used = RoiAugmentation("strong", True, 64)
    used(ROI, 1)
    assert used.fingerprint == prints[2]
    assert RoiAugmentation("none", False, 64).fingerprint == prints[0]


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(ValueError, match="none, mild, strong, wild or wild_light, got 'hard'"):
        RoiAugmentation("hard", True, 64)  # type: ignore[arg-type]
