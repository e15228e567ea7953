"""A mean over samples, of which some come twice."""

from __future__ import annotations

import pytest
import torch

from palmforge.metrics.mean_by_index import MeanByIndex


def test_a_repeated_sample_counts_once_in_whatever_order():
    values, index = torch.tensor([1.0, 5.0, 3.0, 1.0]), torch.tensor([7, 2, 0, 7])
    metric = MeanByIndex()
    metric.update(values[:3], index[:3])
    metric.update(values[3:], index[3:])
    assert metric.compute() == 3.0
    back = MeanByIndex()
    back.update(values.flip(0), index.flip(0))
    assert torch.equal(back.compute(), metric.compute())


def test_it_begins_again_and_none_has_no_mean():
    metric = MeanByIndex()
    with pytest.warns(UserWarning, match="before the"):
        assert metric.compute().isnan()
    metric.update(torch.ones(2), torch.arange(2))
    metric.reset()
    metric.update(torch.full((1,), 4.0), torch.tensor([0]))
    assert metric.compute() == 4.0


def test_gradients_are_not_kept():
    metric = MeanByIndex()
    metric.update(torch.ones(2, requires_grad=True), torch.arange(2))
    assert not metric.compute().requires_grad
