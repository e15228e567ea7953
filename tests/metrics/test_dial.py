"""What came of a request, its rank correlation, and how different captures look."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from palmforge.metrics.dial import achieved_by_asked, picture_spread, rank_correlation


def test_each_request_has_the_mean_and_spread_of_what_came_of_it():
    asked = [0.5, -1.0, 0.5, -1.0, 0.5]
    rows = achieved_by_asked(asked, torch.tensor([0.1, -0.4, 0.3, -0.4, 0.5]))
    assert [(row.asked, row.count) for row in rows] == [(-1.0, 2), (0.5, 3)]
    assert rows[0].mean == pytest.approx(-0.4) and rows[0].deviation == pytest.approx(0, abs=1e-9)
    assert rows[1].mean == pytest.approx(0.3) and rows[1].deviation == pytest.approx(0.2)
    assert rows[1].low == pytest.approx(0.12) and rows[1].high == pytest.approx(0.48)
    assert np.isnan(achieved_by_asked([1.0], [0.2])[0].deviation)


def _dial(noise: float, bias: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """20 palms × 5 m × 4 captures; palms differ by `bias`."""
    rng = np.random.default_rng(0)
    palms, asked, _ = (a.ravel() for a in np.meshgrid(range(20), np.linspace(-1, 1, 5), range(4)))
    own = bias * rng.standard_normal(20)
    return asked, asked / 2 + own[palms] + noise * rng.standard_normal(asked.size), palms


def test_rank_correlation_is_that_of_scipy_and_1_where_ranks_agree():
    asked, achieved, palms = _dial(0.5)
    found = rank_correlation(asked, achieved, palms, 200)
    assert found.value == pytest.approx(spearmanr(asked, achieved).statistic)
    assert found.low < found.value < found.high
    assert found == rank_correlation(asked, achieved, palms, 200)
    alone = rank_correlation(np.array([-1.0, 0.0, 1.0]), np.array([0.1, 0.2, 0.9]), np.arange(3), 0)
    assert alone.value == pytest.approx(1.0) and np.isnan(alone.low)


def test_palms_that_differ_widen_the_interval():
    widths = []
    for noise, bias in ((0.5, 0.0), (0.0, 0.5)):
        found = rank_correlation(*_dial(noise, bias), 300)
        widths.append(found.high - found.low)
    assert widths[1] > 1.5 * widths[0]


def test_a_dial_that_was_not_turned_has_no_correlation():
    for asked, achieved in (([0.5] * 4, [0.1, 0.2, 0.3, 0.4]), ([0.1, 0.2, 0.3, 0.4], [0.5] * 4)):
        assert np.isnan(rank_correlation(np.array(asked), np.array(achieved), np.arange(4)).value)


def test_pictures_are_as_far_apart_as_their_grey_levels():
    images = torch.zeros(5, 3, 2, 2, dtype=torch.uint8)
    images[1] = 255  # palm 0: pairs 255, 10 and 245 apart
    images[2] = 10
    images[4, 0] = 6  # palm 1: a third of the values is 6 apart
    spread = picture_spread(images, np.array([0, 0, 0, 1, 1]))
    assert spread == pytest.approx((170 + 2) / 2)
    assert picture_spread(images[2:4], np.array([0, 0])) == pytest.approx(10)
    assert np.isnan(picture_spread(images[:2], np.array([0, 1])))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="3 were asked for, 2 were achieved"):
        achieved_by_asked([0.0, 1.0, 1.0], [0.0, 0.5])
    with pytest.raises(ValueError, match="achieved: 1 of 2 distances are NaN"):
        achieved_by_asked([0.0, 1.0], [0.0, float("nan")])
    with pytest.raises(ValueError, match="2 captures, but palms of 3"):
        rank_correlation([0.0, 1.0], [0.0, 0.5], np.arange(3))
    with pytest.raises(ValueError, match="float32"):
        picture_spread(torch.zeros(2, 3, 4, 4), np.arange(2))
    with pytest.raises(ValueError, match=r"palms \[3\]"):
        picture_spread(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), np.arange(3))
