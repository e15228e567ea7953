"""Ranks against plain Python; ties, probes without gallery, leave-one-out in blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palmforge.metrics.identification import (
    cmc,
    cmc_from_ranks,
    leave_one_out_cmc,
    rank1_accuracy,
    ranks,
    ranks_in_blocks,
)

RNG = np.random.default_rng(11)


def _brute_force(distances, probe_labels, gallery_labels, alone=False) -> list[int]:
    found = []
    for i, label in enumerate(probe_labels):
        nearest: dict[int, float] = {}
        for j, other in enumerate(gallery_labels):
            if not (alone and i == j):
                nearest[other] = min(nearest.get(other, np.inf), distances[i][j])
        rank = sum(d <= nearest[label] for d in nearest.values()) if label in nearest else 0
        found.append(rank)
    return found


def test_hand_computed_ranks() -> None:
    distances = [[1, 5, 9], [4, 4, 9], [7, 3, 2], [1, 2, 3]]
    found = ranks(distances, [0, 0, 0, 8], [0, 1, 2])
    assert found.tolist() == [1, 2, 3, 0]  # the second is tied with an impostor
    curve = cmc(distances, [0, 0, 0, 8], [0, 1, 2], max_rank=4)
    assert curve.rates == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert (curve.num_probes, curve.num_excluded) == (3, 1)
    assert rank1_accuracy(torch.tensor(distances), [0, 0, 0, 8], [0, 1, 2]) == pytest.approx(1 / 3)


def test_equal_distances_are_no_success() -> None:
    assert rank1_accuracy(np.zeros((4, 4)), np.arange(4), np.arange(4)) == 0.0


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("block", [1, 50, 10**6])
def test_blocks_and_types_equal_brute_force(kind, block) -> None:
    distances = RNG.integers(0, 12, (40, 40)).astype(kind)
    probes, gallery = RNG.integers(0, 12, 40), RNG.integers(2, 14, 40)
    found = ranks_in_blocks(lambda a, b: distances[a:b], probes, gallery, block)
    assert found.tolist() == _brute_force(distances, probes, gallery)
    alone = ranks_in_blocks(lambda a, b: distances[a:b], probes, None, block)
    assert alone.tolist() == _brute_force(distances, probes, probes, alone=True)
    ordered = np.sort(probes)
    alone = ranks_in_blocks(lambda a, b: distances[a:b], ordered, None, block)
    assert alone.tolist() == _brute_force(distances, ordered, ordered, alone=True)


def test_leave_one_out_excludes_identities_with_one_item() -> None:
    points = np.array([0.0, 0.1, 5.0, 5.2, 9.0])
    curve = leave_one_out_cmc(
        lambda a, b: np.abs(points[a:b, None] - points), np.array([0, 0, 1, 1, 2]), max_rank=2
    )
    assert curve.rates.tolist() == [1.0, 1.0]
    assert (curve.num_probes, curve.num_excluded) == (4, 1)


def test_cmc_ascends_to_one_whatever_its_length() -> None:
    distances = RNG.normal(size=(50, 30))
    labels, gallery = RNG.integers(0, 10, 50), np.repeat(np.arange(10), 3)
    rates = cmc(distances, labels, gallery, max_rank=25).rates
    assert np.all(np.diff(rates) >= 0) and rates[9:].tolist() == [1.0] * 16
    assert cmc(distances, labels, gallery, max_rank=3).rates.tolist() == rates[:3].tolist()
    shuffled = RNG.permutation(30)
    again = cmc(np.exp(distances[:, shuffled]), labels, gallery[shuffled], max_rank=25).rates
    assert again.tolist() == rates.tolist()


def test_errors() -> None:
    with pytest.raises(ValueError, match="none of 2 probes"):
        cmc(np.zeros((2, 3)), [7, 8], [0, 1, 2])
    with pytest.raises(ValueError, match="NaN or infinite"):
        ranks([[np.nan, 1.0]], [0], [0, 1])
    with pytest.raises(ValueError, match="do not fit"):
        ranks(np.zeros((2, 2)), [0], [0, 1])
    with pytest.raises(ValueError, match="empty"):
        ranks(np.zeros((1, 0)), [0], np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="max_rank"):
        cmc_from_ranks(np.array([1]), 0)
