"""Intervals by identity: deterministic, consistent, and wide enough."""

from __future__ import annotations

import numpy as np
import pytest

from palmforge.metrics.bootstrap import (
    bootstrap_interval,
    bootstrap_scores,
    bootstrap_values,
    identity_histograms,
    percentile_interval,
    tar_statistic,
)
from palmforge.metrics.hamming import hamming_counts, hamming_distances, pack_codes


def _people(seed: int, identities: int, images: int = 4, bits: int = 64):
    """Packed codes of people who differ in how well they repeat themselves, and their ids."""
    rng = np.random.default_rng(seed)
    ids = np.repeat(np.arange(identities), images)
    noise = 0.6 * np.exp(0.3 * rng.normal(size=(identities, 1)))
    codes = rng.normal(size=(identities, bits))[ids] + noise[ids] * rng.normal(
        size=(ids.size, bits)
    )
    return pack_codes(codes), ids


def _histograms(packed, ids, block=10**6):
    return identity_histograms(
        lambda a, b: hamming_distances(packed[a:b], packed), ids, None, ids.max() + 1, 65, block
    )


def test_identity_histograms_count_impostors_to_both_sides() -> None:
    packed, ids = _people(0, 20)
    genuine, impostor = _histograms(packed, ids)
    counts = hamming_counts(packed, ids)
    assert genuine.sum() == counts.num_genuine
    assert impostor.sum() == 2 * counts.num_impostor
    np.testing.assert_array_equal(
        genuine.sum(0)[genuine.sum(0) > 0], counts.genuine[counts.genuine > 0]
    )
    assert genuine.sum(1).tolist() == [6] * 20 and impostor.sum(1).tolist() == [4 * 76] * 20
    for other in (1, 500):
        np.testing.assert_array_equal((genuine, impostor), _histograms(packed, ids, block=other))


def test_same_seed_same_interval_around_the_estimate() -> None:
    packed, ids = _people(1, 40)
    hists = _histograms(packed, ids)
    counts = hamming_counts(packed, ids)
    for statistic, value in (
        (lambda c: c.equal_error_rate()[0], counts.equal_error_rate()[0]),
        (tar_statistic(1e-2), counts.tar_at_far(1e-2)),
    ):
        low, high = bootstrap_interval(*hists, statistic, num_resamples=300, seed=4)
        assert (low, high) == bootstrap_interval(*hists, statistic, num_resamples=300, seed=4)
        assert (low, high) != bootstrap_interval(*hists, statistic, num_resamples=300, seed=5)
        assert low < value < high


def test_raw_distances_with_ids_give_the_interval_of_the_histograms() -> None:
    packed, ids = _people(2, 15)
    distances = hamming_distances(packed, packed)
    i, j = np.triu_indices(ids.size, 1)
    same = ids[i] == ids[j]
    sides = np.stack([ids[i], ids[j]], 1)
    raw = (distances[i, j][same], distances[i, j][~same], ids[i][same], sides[~same])
    expected = bootstrap_interval(*_histograms(packed, ids), num_resamples=100, seed=3)
    assert bootstrap_scores(*raw, num_resamples=100, seed=3) == pytest.approx(expected)
    jittered = (raw[0] + 1e-6 * np.arange(raw[0].size), raw[1].astype(float), *raw[2:])
    rounded = bootstrap_scores(*jittered, num_resamples=100, seed=3)
    assert rounded == pytest.approx(expected, abs=0.02)
    with pytest.raises(ValueError, match="genuine_ids"):
        bootstrap_scores(raw[0], raw[1], raw[2][1:], raw[3])


def test_intervals_hold_the_truth_in_most_experiments() -> None:
    truth = hamming_counts(*_people(100, 2500)).equal_error_rate()[0]
    held = 0
    for seed in range(40):
        low, high = bootstrap_interval(*_histograms(*_people(seed, 60)), num_resamples=150)
        held += low <= truth <= high
    assert held >= 33  # of 40; nominally 38


def test_intervals_of_the_far_are_as_wide_as_it_varies() -> None:
    """Counting an impostor pair (w_a + w_b) / 2 times would give half this width."""
    estimates, widths = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        # Everybody leans towards one common code, some much more than others.
        lean = 1.5 * np.abs(rng.normal(size=(60, 1))) * np.linspace(-1, 1, 64)
        packed = pack_codes(lean + rng.normal(size=(60, 64)))
        _, impostor = _histograms(packed, np.arange(60))
        far = impostor.sum(0)[:22].sum() / impostor.sum()
        estimates.append(far)
        if seed < 15:
            genuine = np.zeros_like(impostor)
            genuine[:, 0] = 1
            low, high = bootstrap_interval(
                genuine, impostor, lambda c: c.rates_at(21)[0], num_resamples=200, seed=seed
            )
            widths.append(high - low)
    assert 0.75 < np.mean(widths) / (2 * 1.96 * np.std(estimates)) < 1.3


def test_too_few_identities_are_an_error() -> None:
    one = np.ones((1, 4), np.int64)
    with pytest.raises(ValueError, match="cannot resample 1 identities"):
        bootstrap_interval(one, one)
    with pytest.raises(ValueError, match="0 of 20 resamples"):
        bootstrap_interval(np.zeros((5, 4), np.int64), np.ones((5, 4), np.int64), num_resamples=20)
    with pytest.raises(ValueError, match=r"\[C, bins\]"):
        bootstrap_interval(one, np.ones((2, 4), np.int64))


def test_paired_values_tell_a_difference_that_the_intervals_of_both_hide() -> None:
    """The second is the first with genuine distances a bit worse: hard palms are hard to both."""
    packed, ids = _people(3, 60)
    genuine, impostor = _histograms(packed, ids)
    worse = np.pad(genuine, ((0, 0), (1, 0)))[:, :-1]
    pair = [bootstrap_values(g, impostor, num_resamples=200, seed=1) for g in (genuine, worse)]
    assert pair[0].shape == (200,)
    assert percentile_interval(pair[0]) == bootstrap_interval(
        genuine, impostor, num_resamples=200, seed=1
    )
    (_, high), (low, _) = percentile_interval(pair[0]), percentile_interval(pair[1])
    assert low < high  # they overlap
    assert percentile_interval(pair[1] - pair[0])[0] > 0
    other = bootstrap_values(worse, impostor, num_resamples=200, seed=2)
    assert percentile_interval(other - pair[0])[0] < 0  # of other resamples it would be lost


def test_a_resample_without_pairs_is_nan_and_too_many_are_an_error() -> None:
    genuine = np.zeros((3, 4), np.int64)
    genuine[0, 1] = 1  # one identity has two images
    impostor = np.ones((3, 4), np.int64)
    values = bootstrap_values(genuine, impostor, num_resamples=100, seed=0)
    missing = np.isnan(values)
    assert 0 < missing.sum() < 50  # (2/3)^3 = 0.30 of them draw it never
    assert np.isfinite(percentile_interval(values)).all()
    with pytest.raises(ValueError, match="only 20 of 100 resamples"):
        percentile_interval(np.where(np.arange(100) < 20, 0.5, np.nan))
