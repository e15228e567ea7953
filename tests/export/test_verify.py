"""Bit flips and differences, counted."""

from __future__ import annotations

import numpy as np
import pytest

from palmforge.export.verify import agreement, error_rates


def test_bit_flips_are_counted_by_image():
    ours = np.zeros((3, 2), np.uint8)
    theirs = np.array([[0, 0], [1, 128], [3, 1]], np.uint8)
    assert agreement("code", theirs, ours) == {
        "bit_flips": 5, "bits": 48, "images_with_flips": 2, "most_flips_of_an_image": 3
    }  # fmt: skip
    with pytest.raises(ValueError, match="was exported"):
        agreement("code", theirs, ours[:2])


def test_points_are_compared_in_pixels_and_unsure_peaks_are_not():
    points = np.zeros((2, 35, 2), np.float32)
    moved = points.copy()
    moved[1, 4] = (3, 4)
    assert agreement("landmarks", moved, points)["largest_pixels"] == 5
    peaks = np.zeros((2, 8, 7), np.float32)
    peaks[0, 0, 6] = 0.9
    other = peaks.copy()
    other[:, 0, 0] = (1, 50)
    assert agreement("detector", other, peaks) == {"mean_pixels": 1.0, "largest_pixels": 1.0}


def test_error_rates_are_those_of_all_pairs():
    codes = np.array([[0], [0], [255], [255]], np.uint8)
    figures, compared = error_rates(codes, np.array([0, 0, 1, 1]), "hamming")
    assert figures["eer"] == 0 and compared.counts().num_impostor == 4
