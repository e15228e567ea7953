"""Exemplars of what is masked."""

from __future__ import annotations

import numpy as np
import pytest

from palmforge.data.inpainting.exemplars import draw_exemplar

INSIDE, OUTSIDE = (200, 40, 40), (0, 0, 255)


def _picture(left, top, right, bottom):
    image = np.full((60, 80, 3), OUTSIDE, np.uint8)
    image[top : bottom + 1, left : right + 1] = INSIDE
    return image


@pytest.mark.parametrize("box", [(20, 10, 50, 40), (0, 0, 79, 59), (70, 50, 79, 59), (5, 5, 6, 40)])
def test_it_shows_nothing_from_outside_the_bounds(box):
    image, bounds = _picture(*box), np.array([box[:2], box[2:]], float)
    for number in range(30):
        made = draw_exemplar(image, bounds, 24, np.random.default_rng(number))
        assert made.shape == (24, 24, 3) and made.dtype == np.uint8
        red, _, blue = made.reshape(-1, 3).astype(int).T
        assert (red > 120).all() and (blue < 90).all()


def test_it_is_another_one_each_time_and_of_many_sizes():
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 200, 0).repeat(3, 2)
    bounds = np.array([[10.0, 10.0], [189.0, 189.0]])
    made = [draw_exemplar(ramp, bounds, 16, np.random.default_rng(n)) for n in range(40)]
    assert len({m.tobytes() for m in made}) == 40
    spans = [float(m.max()) - float(m.min()) for m in made]
    assert min(spans) < 40 and max(spans) > 110
    assert {np.sign(float(m[:, -1].mean()) - float(m[:, 0].mean())) for m in made} == {-1.0, 1.0}


@pytest.mark.parametrize("bounds", [[[-50, -50], [-20, -20]], [[100, 10], [140, 30]]])
def test_bounds_beside_the_picture_are_moved_to_its_border(bounds):
    made = draw_exemplar(
        _picture(0, 0, 79, 59), np.array(bounds, float), 8, np.random.default_rng(0)
    )
    assert (made[..., 0] > 120).all()
