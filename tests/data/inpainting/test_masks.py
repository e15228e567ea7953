"""What is hidden of a hand."""

from __future__ import annotations

import numpy as np
import pytest
from hand_photographs import SIZE, hand

from palmforge.data.deidentification.segmentation import palm_polygon
from palmforge.data.inpainting.masks import draw_mask, free_form_mask, palm_like_mask

POINTS = hand(0)[1]


def _draws(make, count=40):
    return [make(np.random.default_rng(n)) for n in range(count)]


def test_palm_like_masks_lie_on_the_palm_and_no_two_are_equal():
    palm = palm_polygon(POINTS, SIZE, SIZE)
    masks = _draws(lambda rng: palm_like_mask(POINTS, SIZE, rng))
    shares = [(mask & palm).sum() / palm.sum() for mask in masks]
    assert min(shares) > 0.4 and np.mean(shares) > 0.75
    sizes = [mask.sum() / palm.sum() for mask in masks]
    assert min(sizes) < 1 < max(sizes) < 4
    assert len({mask.tobytes() for mask in masks}) == len(masks)


def test_free_forms_are_boxes_and_polygons_near_the_hand():
    masks = _draws(lambda rng: free_form_mask(POINTS, SIZE, rng))
    boxes = 0
    for mask in masks:
        assert mask.any()
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes += mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
    assert 8 <= boxes <= 32


@pytest.mark.parametrize("free_form", [0.0, 1.0])
def test_a_mask_is_never_empty(free_form):
    for points in (POINTS + 10 * SIZE, np.tile(POINTS[:1], (21, 1))):
        for number in range(6):
            mask = draw_mask(points, SIZE, free_form, np.random.default_rng(number))
            assert mask.shape == (SIZE, SIZE) and mask.dtype == np.bool_ and mask.sum() >= 16


def test_the_share_of_free_forms_is_what_it_is_set_to():
    palm = palm_polygon(POINTS, SIZE, SIZE)

    def far(share):
        masks = _draws(lambda rng: draw_mask(POINTS, SIZE, share, rng))
        return sum((mask & palm).sum() < 0.4 * palm.sum() for mask in masks)

    assert far(0.0) == 0 < far(0.5) < far(1.0)
