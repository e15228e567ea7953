"""The fixed Gabor filters are the paper's formula, and deaf to even grey."""

from __future__ import annotations

import math

import pytest
import torch

from palmforge.errors import ConfigError
from palmforge.networks.gabor import real_gabors


def test_values_by_hand():
    # omega = pi/2, kappa = 2, filter 0: the exponent is -(pi²/4)(4 x² + y²) / 32, the wave
    # cos(pi x / 2) - e^-2, the factor (pi/2) / (2 sqrt(2 pi)) = 0.313329.
    # (0, 0): 0.313329 · 1        · ( 1 - 0.135335) =  0.270924
    # (1, 0): 0.313329 · 0.734602 · ( 0 - 0.135335) = -0.031150      exp(-0.308425)
    # (2, 0): 0.313329 · 0.291213 · (-1 - 0.135335) = -0.103594      exp(-1.233701)
    # (0, 1): 0.313329 · 0.925794 · ( 1 - 0.135335) =  0.250820      exp(-0.077106)
    bank = real_gabors(6, 5, math.pi / 2, 2.0)[0, 0]
    assert bank[2, 2] - bank[2, 3] == pytest.approx(0.270924 + 0.031150, abs=1e-5)
    assert bank[2, 2] - bank[2, 4] == pytest.approx(0.270924 + 0.103594, abs=1e-5)
    assert bank[2, 2] - bank[3, 2] == pytest.approx(0.270924 - 0.250820, abs=1e-5)


def test_means_are_zero_and_each_is_the_same_upside_down():
    bank = real_gabors()
    assert bank.shape == (6, 1, 17, 17) and bank.dtype == torch.float32
    assert bank.sum((1, 2, 3)).abs().max() < 1e-6
    torch.testing.assert_close(bank.flip(2, 3), bank)


def test_filter_three_of_six_is_filter_zero_turned_by_a_right_angle():
    bank = real_gabors()
    torch.testing.assert_close(bank[3, 0], bank[0, 0].T, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    "wrong", [{"size": 16}, {"orientations": 0}, {"omega": 0.0}, {"kappa": -1}]
)
def test_impossible_filters_are_refused(wrong):
    with pytest.raises(ConfigError):
        real_gabors(**wrong)
