"""Views of a picture at any scale."""

from __future__ import annotations

import numpy as np
import pytest
from pictures import noise

from palmforge.localization.pyramid import Pyramid


@pytest.mark.parametrize("scale", [1.7, 1.0, 0.4, 0.11])
def test_the_centre_of_mass_of_a_square_stays_where_the_matrix_puts_it(scale):
    image = np.zeros((301, 403, 3), np.uint8)
    image[100:140, 200:240] = 255
    matrix = np.array([[scale, 0, 3.0], [0, scale, 5.0], [0, 0, 1]])
    view = Pyramid(image).warp(matrix, int(410 * scale) + 9, int(310 * scale) + 9)[..., 0]
    rows, columns = np.indices(view.shape)
    centre = np.array([(columns * view).sum(), (rows * view).sum()]) / view.sum()
    np.testing.assert_allclose(centre, scale * np.array([219.5, 119.5]) + [3, 5], atol=0.1)


def test_small_views_are_averages():
    image = noise(512, 512, smooth=0)
    view = Pyramid(image).warp(np.diag([1 / 16, 1 / 16, 1.0]), 32, 32)[1:, 1:]
    assert view.std() < image.std() / 4
