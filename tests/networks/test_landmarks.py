"""Shapes, sizes, and reading maps to a fraction of a cell."""

from __future__ import annotations

import pytest
import torch

from palmforge.losses.landmarks import palm_targets
from palmforge.networks.landmarks import (
    DetectorOutput,
    PalmDetector,
    PalmLandmarks,
    detector_peaks,
    expected_points,
    peak_points,
)

TINY = {"widths": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "neck": 16}


def test_the_detector_takes_any_shape_of_multiples_of_32():
    output = PalmDetector(**TINY).eval()(torch.rand(2, 3, 96, 64))
    assert output.heat.shape == (2, 12, 8) and output.up.shape == (2, 2, 12, 8)
    with pytest.raises(ValueError, match="multiples of 32"):
        PalmDetector(**TINY)(torch.rand(1, 3, 90, 64))


def test_the_landmark_network_gives_a_map_for_each_point():
    output = PalmLandmarks(**TINY).eval()(torch.rand(2, 3, 96, 96))
    assert output.heat.shape == (2, 35, 24, 24)
    assert output.visible.shape == (2, 35) and output.present.shape == (2,)


def test_both_together_have_fewer_than_three_million_parameters():
    networks = (PalmDetector(depths=(1, 1, 1, 1)), PalmLandmarks(depths=(1, 2, 3, 1)))
    assert sum(p.numel() for n in networks for p in n.parameters()) < 3e6


def test_peaks_give_back_the_palms_that_were_painted():
    palms = torch.tensor(
        [[[21.0, 35.0, 24.0, 0.6, -0.8, 1.0, 1.0], [60.0, 13.0, 40.0, 0.0, 1.0, 0.0, 1.0]]]
    )
    truth = palm_targets(palms, 8, 10, stride=8)
    heat = truth.heat + torch.tensor([[0, 0, 0, 0, 0, 0, 0, 0.1, 0.1, 0]])  # the right one first
    output = DetectorOutput(
        8 * heat - 4, truth.offset, truth.log_side, 3 * truth.up, 20 * truth.left - 10
    )
    found = detector_peaks(output, num_peaks=2)[0]
    torch.testing.assert_close(found[:, :5], palms[0, [1, 0], :5])
    assert found[0, 5] < 0.01 < 0.99 < found[1, 5]


@pytest.mark.parametrize("read", [expected_points, lambda heat: peak_points(heat)[0]])
def test_a_gaussian_is_read_to_a_fraction_of_a_cell(read):
    cells = (torch.arange(40) + 0.5) * 4 - 0.5
    x, y = 61.3, 97.8
    heat = -((cells - x) ** 2 + (cells[:, None] - y) ** 2) / (2 * 4.8**2)
    torch.testing.assert_close(read(heat[None, None]), torch.tensor([[[x, y]]]), atol=0.05, rtol=0)


def test_a_second_lower_peak_does_not_pull_the_point():
    heat = torch.full((1, 1, 40, 40), -20.0)
    heat[0, 0, 10, 10], heat[0, 0, 30, 30] = 5.0, 4.0
    points, mass = peak_points(heat)
    torch.testing.assert_close(points, torch.tensor([[[41.5, 41.5]]]))
    assert 0.7 < mass < 0.75
    assert expected_points(heat)[0, 0, 0] > 60
