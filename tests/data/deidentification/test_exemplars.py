"""fROI, mROI and sROI by hand."""

from __future__ import annotations

import numpy as np
import pytest

from palmforge.data.deidentification.exemplars import (
    check_exemplars,
    cut_exemplars,
    exemplar_square,
)
from palmforge.errors import ConfigError

POINTS = np.full((21, 2), 500.0)  # finger tips are not asked
POINTS[[0, 1, 2, 5, 9, 13, 17]] = [
    [40, 90], [60, 80], [60, 60], [60, 30], [50, 10], [40, 10], [20, 30],
]  # fmt: skip


@pytest.mark.parametrize(("exemplar", "side"), [("f", 80), ("m", 40), ("s", 8)])
def test_squares_have_their_share_about_the_middle(exemplar, side):
    square = exemplar_square(POINTS, exemplar)
    np.testing.assert_allclose(square.mean(0), [40, 50])
    np.testing.assert_allclose(square[0], [40 - side / 2, 50 - side / 2])
    np.testing.assert_allclose(square[2], [40 + side / 2, 50 + side / 2])


def test_crops_show_what_lies_in_the_squares():
    image = np.zeros((120, 120, 3), np.uint8)
    image[46:55, 36:45] = 200  # sROI
    small, whole = cut_exemplars(image, POINTS, ["s", "f"], 32)
    assert small.shape == (32, 32, 3) and (small == 200).all()
    assert whole[16, 16, 0] == 200 and whole[4, 4, 0] == 0


@pytest.mark.parametrize("wrong", [[], ["x"], ["s", "s"]])
def test_what_is_no_choice_is_refused(wrong):
    with pytest.raises(ConfigError, match=r"data\.exemplars"):
        check_exemplars(wrong)
    check_exemplars(["f", "s"])
