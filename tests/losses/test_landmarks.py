"""The detector's truth on a map, and losses that are least at the truth."""

from __future__ import annotations

import math

import pytest
import torch

from palmforge.losses.landmarks import (
    centre_focal_loss,
    heat_map_loss,
    known_cross_entropy,
    palm_regression_losses,
    palm_targets,
    point_loss,
)

# x, y, side, up, left, there
PALMS = torch.tensor([[[21.0, 35.0, 24.0, 0.6, -0.8, 1.0, 1.0], [0.0] * 7]])


def test_targets_say_where_how_large_and_which_way():
    truth = palm_targets(PALMS, 8, 10, stride=8)
    row, column = divmod(int(truth.heat[0].argmax()), 10)
    assert (row, column) == (4, 2) and truth.heat[0, 4, 2] == 1
    assert (truth.heat == 1).sum() == 1
    centre = (torch.tensor([column, row]) + 0.5 + truth.offset[0, :, row, column]) * 8 - 0.5
    torch.testing.assert_close(centre, torch.tensor([21.0, 35.0]))
    assert truth.log_side[0, row, column].item() == pytest.approx(math.log(3))
    torch.testing.assert_close(truth.up[0, :, row, column], torch.tensor([0.6, -0.8]))
    assert truth.left[0, row, column] == 1 and truth.weight[0, 0, 9] == 0


def test_a_picture_without_a_palm_has_no_heat_and_no_weight():
    truth = palm_targets(torch.zeros(2, 3, 7), 4, 4, stride=8)
    assert truth.heat.abs().sum() == 0 and truth.weight.sum() == 0
    said = palm_regression_losses(
        torch.randn(2, 2, 4, 4), torch.randn(2, 4, 4), torch.randn(2, 2, 4, 4),
        torch.randn(2, 4, 4), truth,
    )  # fmt: skip
    assert all(value == 0 for value in said.values())


def test_each_cell_belongs_to_the_palm_that_is_strongest_in_it():
    palms = torch.tensor([[[11.5, 11.5, 16, 0, -1, 0, 1], [51.5, 51.5, 32, 1, 0, 1, 1.0]]])
    truth = palm_targets(palms, 8, 8, stride=8)
    assert (truth.heat == 1).sum() == 2
    assert truth.left[0, 1, 1] == 0 and truth.left[0, 6, 6] == 1


def test_focal_loss_is_small_at_the_truth_and_finite_far_from_it():
    heat = palm_targets(PALMS, 8, 10, stride=8).heat
    at_truth = centre_focal_loss(torch.where(heat == 1, 9.0, -9.0), heat)
    wrong = centre_focal_loss(torch.where(heat == 1, -90.0, 90.0), heat)
    assert at_truth < 1e-3 < wrong and torch.isfinite(wrong)


def test_regression_losses_vanish_at_the_truth():
    truth = palm_targets(PALMS, 8, 10, stride=8)
    said = palm_regression_losses(
        truth.offset, truth.log_side, truth.up, 40 * truth.left - 20, truth
    )
    assert all(value < 1e-6 for value in said.values())


def test_heat_map_loss_is_least_for_the_gaussian_at_the_point():
    points, weight = torch.tensor([[[13.0, 22.0]]]), torch.ones(1, 1)

    def gaussian(x, y):
        cells = (torch.arange(12) + 0.5) * 4 - 0.5
        return (-((cells - x) ** 2 + (cells[:, None] - y) ** 2) / (2 * (4 * 1.2) ** 2))[None, None]

    best = heat_map_loss(gaussian(13, 22), points, weight, stride=4)
    for x, y in ((15, 22), (13, 19), (22, 13)):
        assert heat_map_loss(gaussian(x, y), points, weight, stride=4) > best
    assert heat_map_loss(gaussian(22, 13), points, 0 * weight, stride=4) == 0


def test_points_of_no_weight_do_not_count():
    points = torch.zeros(1, 2, 2)
    far = torch.tensor([[[3.0, 4.0], [500.0, 500.0]]])
    assert point_loss(far, points, torch.tensor([[1.0, 0.0]]), unit=7.0) == 1.0


def test_what_is_unknown_does_not_count():
    logits = torch.tensor([0.0, 50.0, -50.0])
    truth = torch.tensor([1.0, -1.0, -1.0])
    assert known_cross_entropy(logits, truth).item() == pytest.approx(math.log(2))
