"""SSIM, MS-SSIM and PSNR against closed forms, in pictures of any size."""

from __future__ import annotations

import math

import pytest
import torch

from palmforge.metrics.image_quality import (
    SCALE_WEIGHTS,
    image_quality,
    mean_and_deviation,
    num_scales,
)


def _flat(level: int, height: int = 180, width: int = 190) -> torch.Tensor:
    return torch.full((3, height, width), level, dtype=torch.uint8)


def _noise(height: int = 64, width: int = 80) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, height, width), generator=draw, dtype=torch.uint8)


def test_equal_pictures_have_no_noise():
    found = image_quality(_noise(), _noise())
    assert found.psnr == math.inf
    assert found.ssim == pytest.approx(1, abs=1e-4)
    assert found.ms_ssim == pytest.approx(1, abs=1e-4)


def test_psnr_is_that_of_a_mean_squared_error():
    one, other = _noise(), _noise()
    changed = other[0, 0, :40].int()
    other[0, 0, :40] = torch.where(changed < 128, changed + 20, changed - 20).to(torch.uint8)
    wanted = 10 * math.log10(255**2 / (40 * 20**2 / one.numel()))
    assert image_quality(one, other).psnr == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(("side", "scales"), [(176, 5), (160, 4), (99, 4), (60, 3), (22, 2)])
def test_flat_pictures_differ_by_their_light_alone(side, scales):
    """Wang et al.: contrast and structure are 1; only the coarsest scale has a luminance term."""
    found = image_quality(_flat(100, side, side + 7), _flat(150, side, side + 7))
    a, b, c = 100 / 255, 150 / 255, 0.01**2
    light = (2 * a * b + c) / (a * a + b * b + c)
    assert found.scales == scales == num_scales(side, side + 7)
    assert found.ssim == pytest.approx(light, rel=1e-3)  # float32
    exponent = SCALE_WEIGHTS[scales - 1] / sum(SCALE_WEIGHTS[:scales])
    assert found.ms_ssim == pytest.approx(light**exponent, rel=1e-3)  # float32


def test_a_change_costs_and_more_of_it_costs_more():
    one = _noise(180, 180)
    little, much = one.clone(), one.clone()
    little[:, 80:90, 80:90] = 0
    much[:, 40:140, 40:140] = 0
    few, many = image_quality(one, little), image_quality(one, much)
    assert 1 > few.ssim > many.ssim and 1 > few.ms_ssim > many.ms_ssim
    assert few.psnr > many.psnr > 0


def test_in_the_smallest_pictures_there_is_only_psnr():
    found = image_quality(_flat(9, 10, 300), _flat(9, 10, 300))
    assert math.isnan(found.ssim) and math.isnan(found.ms_ssim) and found.scales == 0
    assert found.psnr == math.inf
    assert image_quality(_flat(9, 11, 11), _flat(9, 11, 11)).ms_ssim == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (_flat(1).float(), _flat(1)),
        (_flat(1), _flat(1)[None]),
        (_flat(1)[:1], _flat(1)[:1]),
        (_flat(1, 20, 20), _flat(1, 20, 21)),
        (_flat(1, 0, 20), _flat(1, 0, 20)),
    ],
)
def test_other_than_two_pictures_of_one_size_is_refused(one, other):
    with pytest.raises(ValueError, match="expected"):
        image_quality(one, other)


def test_a_mean_leaves_out_what_is_no_number_and_says_so():
    found = mean_and_deviation([1.0, 2.0, 3.0, math.inf, math.nan])
    assert (found.mean, found.deviation, found.count, found.left_out) == (2.0, 1.0, 3, 2)
    assert str(found) == "2.0000 ± 1.0000"
    assert math.isnan(mean_and_deviation([4.0]).deviation)
    nothing = mean_and_deviation([math.inf])
    assert math.isnan(nothing.mean) and nothing.count == 0 and nothing.left_out == 1
