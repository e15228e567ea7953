"""Masked, blurred and pixelated palms, and that nothing beside the palm changes."""

from __future__ import annotations

import numpy as np
import pytest
from hand_photographs import hand

from palmforge.data.deidentification.baselines import (
    BASELINES,
    STRENGTHS,
    conceal,
    palm_width,
)
from palmforge.data.deidentification.segmentation import palm_polygon
from palmforge.errors import ConfigError

IMAGE, POINTS = hand()
MASK = palm_polygon(POINTS, *IMAGE.shape[:2])


def _step(side: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Black beside white at column 20; a mask of 16 × 16, so a palm's width of 16 pixels."""
    image = np.zeros((side, side, 3), np.uint8)
    image[:, 20:] = 255
    mask = np.zeros((side, side), bool)
    mask[12:28, 12:28] = True
    return image, mask


@pytest.mark.parametrize("method", BASELINES)
def test_outside_the_palm_every_byte_stays(method):
    before = IMAGE.copy()
    found = conceal(IMAGE, MASK, method, 0.2)
    np.testing.assert_array_equal(found[~MASK], before[~MASK])
    np.testing.assert_array_equal(IMAGE, before)
    assert found.dtype == np.uint8 and (found[MASK] != before[MASK]).any()


def test_a_masked_palm_is_black():
    assert not conceal(IMAGE, MASK, "masking")[MASK].any()


def test_a_blur_is_a_gaussian_of_a_share_of_the_palms_width():
    image, mask = _step()
    assert palm_width(mask) == 16
    found = conceal(image, mask, "blurring", 2 / 16)[20, 12:28, 0] / 255
    edge = np.array([0.5 * (1 + _erf((x + 0.5 - 20) / (2 * 2**0.5))) for x in range(12, 28)])
    np.testing.assert_allclose(found, edge, atol=0.01)


def test_a_block_holds_the_mean_of_its_pixels():
    image, mask = _step()
    found = conceal(image, mask, "pixelating", 5 / 16)
    row = found[14, :, 0]  # blocks begin at the mask's corner, 12: 12–16, 17–21, 22–26, 27
    np.testing.assert_array_equal(row[12:17], 0)
    np.testing.assert_array_equal(row[17:22], 102)  # 2 of 5 columns are white
    np.testing.assert_array_equal(row[22:28], 255)
    assert (found[12:17, 17:22] == found[12, 17]).all()


def test_blocks_and_blurs_go_on_at_the_pictures_border():
    image = np.full((9, 11, 3), 77, np.uint8)
    mask = np.ones((9, 11), bool)
    for method in ("blurring", "pixelating"):
        np.testing.assert_array_equal(conceal(image, mask, method, 0.7), image)


@pytest.mark.parametrize("method", STRENGTHS)
def test_more_strength_takes_more_of_the_palm_away(method):
    def detail(strength: float | None) -> float:
        return float(conceal(IMAGE, MASK, method, strength)[MASK].std())

    assert detail(None) == detail(STRENGTHS[method])
    assert detail(0.5) < detail(0.1) < detail(None) < IMAGE[MASK].std()


def test_what_conceals_nothing_is_refused():
    for strength in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="above 0"):
            conceal(IMAGE, MASK, "blurring", strength)
    with pytest.raises(ConfigError, match="masking, blurring, pixelating"):
        conceal(IMAGE, MASK, "smearing")
    with pytest.raises(ValueError, match="empty"):
        conceal(IMAGE, np.zeros_like(MASK), "masking")


def test_other_shapes_and_types_are_refused():
    with pytest.raises(ValueError, match="mask"):
        conceal(IMAGE, MASK[1:], "masking")
    with pytest.raises(ValueError, match="mask"):
        conceal(IMAGE, MASK.astype(np.uint8), "masking")
    with pytest.raises(ValueError, match="image"):
        conceal(IMAGE[..., 0], MASK, "masking")


def _erf(x: float) -> float:
    import math

    return math.erf(x)
