"""The statistics of an audit: how often they cry wolf, and what they see."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact

from palmforge.metrics.privacy import membership, more_often, reach


def _nearest(rng: np.random.Generator, count: int, training: np.ndarray) -> np.ndarray:
    """Cosine distance of unrelated unit vectors to the nearest of `training`."""
    found = rng.normal(size=(count, training.shape[1]))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return (1 - found @ training.T).min(1)


def test_unrelated_identities_seldom_come_within_reach_and_copies_do():
    alarms, sets = 0, 60
    for seed in range(sets):
        rng = np.random.default_rng(seed)
        training = rng.normal(size=(200, 96))
        training /= np.linalg.norm(training, axis=1, keepdims=True)
        limit = reach(_nearest(rng, 100, training), 200, 0.01)
        alarms += bool((_nearest(rng, 200, training) <= limit.threshold).any())
        assert 0.02 < limit.threshold < limit.smallest < limit.median  # so copies are found
    assert alarms <= 3  # 0.6 expected


def test_reach_falls_with_the_number_of_pictures_and_stays_below_all_held_out():
    rng = np.random.default_rng(0)
    held_out = 80 - np.abs(rng.normal(size=300) * 9)
    few, many = (reach(held_out, count, 0.01).threshold for count in (10, 100_000))
    assert many < few < held_out.min()
    near = np.concatenate([held_out, [1.0]])  # a held-out copy: nothing can be told any more
    assert reach(near, 1000, 0.01).threshold < 1.0
    assert reach(np.full(50, 3.0), 10, 0.01).threshold < 3.0


def test_reach_refuses_what_tells_nothing():
    with pytest.raises(ValueError, match="19 distances"):
        reach(np.ones(19), 10, 0.01)
    with pytest.raises(ValueError, match="NaN"):
        reach(np.full(30, np.nan), 10, 0.01)
    for pictures, alarms in ((0, 0.01), (10, 0.0), (10, 1.0)):
        with pytest.raises(ValueError, match="are needed"):
            reach(np.arange(30), pictures, alarms)


def test_more_matches_than_unrelated_ones_by_fishers_test():
    found = more_often(30, 200, 10, 150, 0.01)
    table = [[30, 170], [10, 140]]
    assert found.p_value == pytest.approx(fisher_exact(table, "greater").pvalue)
    low, high = binomtest(30, 200).proportion_ci(0.95, "exact")
    assert found.share == 0.15 and found.interval == pytest.approx((low, high))
    assert found.visible is not None
    seen = round(found.visible * 200)
    assert more_often(seen, 200, 10, 150, 0.01).p_value <= 0.01
    assert more_often(seen - 1, 200, 10, 150, 0.01).p_value > 0.01
    assert more_often(50, 50, 40, 40, 0.01).visible is None  # all unrelated ones match, too
    with pytest.raises(ValueError, match="not possible"):
        more_often(3, 2, 0, 1, 0.01)
    with pytest.raises(ValueError, match="not possible"):
        more_often(0, 0, 0, 1, 0.01)


def test_membership_is_found_where_training_losses_are_smaller():
    rng, who = np.random.default_rng(1), np.repeat(np.arange(50), 4)
    person = np.repeat(rng.normal(size=(2, 50)), 4, axis=1)  # palms that are easy or hard
    losses = 1 + 0.1 * (person + rng.normal(size=(2, 200)))
    clean = membership((losses[0], who), (losses[1], who), resamples=200)
    assert clean.interval[0] < 0.5 < clean.interval[1] and clean.p_value > 0.01
    assert clean.tpr is not None and clean.tpr < 0.1
    leaked = membership((losses[0] - 0.3, who), (losses[1], who), resamples=200)
    assert leaked.auc > 0.9 and leaked.p_value < 1e-4 and leaked.interval[0] > 0.5
    assert leaked.tpr > 0.2 and leaked.means[0] < leaked.means[1]
    assert membership((losses[0] - 0.3, who), (losses[1], who), 0.99, 200).p_value > 0.5
    apart = membership((losses[0] - 9, who), (losses[1], who), resamples=20)
    assert apart.auc == 1.0 and apart.p_value == 0.0


def test_palms_not_pictures_make_the_interval_of_membership():
    rng, who = np.random.default_rng(2), np.repeat(np.arange(30), 10)
    losses = np.repeat(rng.normal(size=(2, 30)), 10, axis=1)
    by_palm = membership((losses[0], who), (losses[1], who), resamples=200).interval
    alone = np.arange(300)
    by_picture = membership((losses[0], alone), (losses[1], alone), resamples=200).interval
    assert np.diff(by_palm) > 2 * np.diff(by_picture)


def test_membership_of_few_is_refused():
    who = np.arange(30)
    few = membership((np.arange(30.0), who), (np.arange(30.0), who), resamples=20)
    assert few.tpr is None and "needs at least 100 held-out pictures" in few.refused
    assert few.auc == 0.5 and few.p_value == 0.5
    with pytest.raises(ValueError, match="at least 20 identities"):
        membership((np.arange(30.0), who // 2), (np.arange(30.0), who))
