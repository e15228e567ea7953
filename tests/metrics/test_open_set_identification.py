"""FPIR, TPIR and DIR by hand, against plain Python, with ties, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palmforge.metrics.open_set_identification import (
    cmc,
    dir_curve,
    fpir_at,
    fpir_refusal,
    fpir_threshold,
    tpir_at,
    tpir_at_fpir,
)

RNG = np.random.default_rng(5)
STRANGERS = [30, 34, 34, 41]


def _random(kind: type = float, probes: int = 60, strangers: int = 40):
    mated = RNG.integers(0, 40, probes).astype(kind)
    nonmated = RNG.integers(15, 60, strangers).astype(kind)
    return mated, RNG.integers(1, 5, probes), nonmated


def _best_tpir(mated, ranks, nonmated, fpir, rank) -> float:
    """The highest share over all thresholds that keep the FPIR, one after another."""
    best = 0.0
    for threshold in [-np.inf, *mated, *nonmated]:
        if np.mean([d <= threshold for d in nonmated]) <= fpir:
            found = np.mean([d <= threshold and r <= rank for d, r in zip(mated, ranks)])  # noqa: B905
            best = max(best, float(found))
    return best


@pytest.mark.parametrize(
    ("fpir", "threshold"), [(0.25, 33), (0.3, 33), (0.5, 33), (0.74, 33), (0.75, 40), (1.0, np.inf)]
)
def test_thresholds_by_hand(fpir, threshold) -> None:
    assert fpir_threshold(STRANGERS, fpir) == threshold
    assert fpir_at(STRANGERS, [threshold])[0] <= fpir


def test_the_threshold_of_floats_is_the_last_number_below_the_one_too_many() -> None:
    threshold = fpir_threshold([0.5, 0.75, 0.875, 1.0], 0.25)
    assert threshold == np.nextafter(0.75, 0) and 0.7499 < threshold < 0.75
    singles = torch.tensor([0.5, 0.75, 0.875, 1.0])
    threshold = fpir_threshold(singles, 0.25)  # of their type, or <= would round it up to 0.75
    assert (singles.numpy() <= threshold).tolist() == [True, False, False, False]
    assert fpir_threshold(np.array([3, 5], np.uint8), 0.5) == 4
    assert fpir_threshold(np.array([0, 0, 0], np.uint8), 0.5) == -1  # accepts nothing


def test_tpir_by_hand() -> None:
    distances, ranks = [10, 33, 34, 20], [1, 1, 1, 2]
    assert tpir_at(distances, ranks, 33) == 0.5
    assert tpir_at(distances, ranks, 33, rank=2) == 0.75
    assert tpir_at(distances, ranks, 34) == 0.75  # a distance at the threshold is accepted
    assert tpir_at_fpir(distances, ranks, STRANGERS, 0.25) == 0.5
    assert tpir_at_fpir(distances, ranks, STRANGERS, 0.75) == 0.75
    assert tpir_at_fpir(distances, ranks, STRANGERS, 1.0, rank=2) == 1.0
    assert fpir_at(STRANGERS, [29, 30, 34, 100]).tolist() == [0, 0.25, 0.75, 1]


def test_curve_by_hand() -> None:
    curve = dir_curve([10, 33, 34, 20], [1, 1, 1, 2], STRANGERS)
    assert curve.thresholds.tolist() == [-np.inf, 10, 20, 30, 33, 34, 41]
    assert curve.fpir.tolist() == [0, 0, 0, 0.25, 0.25, 0.75, 1]
    assert curve.tpir.tolist() == [0, 0.25, 0.25, 0.25, 0.5, 0.75, 0.75]


@pytest.mark.parametrize("kind", [np.int64, np.float32, float])
@pytest.mark.parametrize("rank", [1, 3])
def test_random_distances_with_ties_equal_plain_python(kind, rank) -> None:
    mated, ranks, nonmated = _random(kind)
    curve = dir_curve(mated, ranks, nonmated, rank)
    for fpir in (0.025, 0.1, 0.33, 0.5, 1.0):
        found = tpir_at_fpir(mated, ranks, nonmated, fpir, rank)
        assert found == pytest.approx(_best_tpir(mated, ranks, nonmated, fpir, rank))
        assert found == pytest.approx(curve.tpir[curve.fpir <= fpir].max())
    assert np.all(np.diff(curve.fpir) >= 0) and np.all(np.diff(curve.tpir) >= 0)
    assert curve.fpir[-1] == 1.0 and curve.tpir[-1] == pytest.approx(np.mean(ranks <= rank))


def test_monotone_transforms_change_nothing() -> None:
    mated, ranks, nonmated = _random()
    plain = dir_curve(mated, ranks, nonmated)
    bent = dir_curve(np.exp(mated / 10) - 5, ranks, np.exp(nonmated / 10) - 5)
    assert bent.fpir.tolist() == plain.fpir.tolist() and bent.tpir.tolist() == plain.tpir.tolist()
    shuffled = RNG.permutation(mated.size)
    again = tpir_at_fpir(mated[shuffled], ranks[shuffled], RNG.permutation(nonmated), 0.1)
    assert again == tpir_at_fpir(mated, ranks, nonmated, 0.1)


def test_a_probe_tied_with_the_stranger_too_many_is_not_accepted() -> None:
    assert tpir_at_fpir([5.0], [1], [5.0, 5.0], 0.5) == 0.0
    assert tpir_at_fpir([5.0], [1], [5.0, 6.0], 0.5) == 1.0


def test_no_candidate_is_never_accepted_and_still_counts() -> None:
    found, gone = [1.0, np.inf], [2.0, np.inf, np.inf, np.inf]
    assert tpir_at_fpir(found, [1, 9], gone, 1.0, rank=9) == 0.5
    assert fpir_threshold(gone, 0.5) == np.inf  # of four strangers three were never near anybody
    assert fpir_at(gone, [np.inf]).tolist() == [0.25]
    assert dir_curve(found, [1, 1], gone).tpir.tolist() == [0, 0.5, 0.5]


def test_cmc_of_ranks() -> None:
    curve = cmc([1, 1, 2, 7], max_rank=3)
    assert curve.rates.tolist() == [0.5, 0.75, 0.75] and curve.num_probes == 4


def test_a_rate_finer_than_the_probes_is_refused() -> None:
    assert fpir_refusal(1000, 1e-3) is None
    assert "at least 1,000 non-mated probes, there are 999" in str(fpir_refusal(999, 1e-3))
    with pytest.raises(ValueError, match="needs at least 10"):
        fpir_threshold(STRANGERS, 0.1)
    with pytest.raises(ValueError, match="there are 0"):
        fpir_threshold([], 0.5)


@pytest.mark.parametrize("fpir", [0, -0.1, 1.5, np.nan])
def test_rates_that_are_none(fpir) -> None:
    with pytest.raises(ValueError, match="must lie in"):
        fpir_threshold(STRANGERS, fpir)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="1 of 2 distances are NaN"):
        fpir_threshold([1.0, np.nan], 0.5)
    with pytest.raises(ValueError, match="mated_distances: 1 of 1"):
        tpir_at([np.nan], [1], 3)
    with pytest.raises(ValueError, match="threshold is NaN"):
        tpir_at([1.0], [1], np.nan)
    with pytest.raises(ValueError, match="2 mated_distances, but 1"):
        tpir_at([1, 2], [1], 3)
    with pytest.raises(ValueError, match="no mated"):
        tpir_at([], [], 3)
    with pytest.raises(ValueError, match="below 1"):
        tpir_at([1], [0], 3)
    with pytest.raises(ValueError, match="integers"):
        tpir_at([1], [1.5], 3)
    with pytest.raises(ValueError, match="no non-mated"):
        dir_curve([1], [1], [])
    with pytest.raises(ValueError, match="1-D"):
        fpir_at(np.zeros((2, 2)), [1])
    with pytest.raises(ValueError, match="rank must"):
        tpir_at([1], [1], 3, rank=0)
