"""The interval of the DIR."""

from __future__ import annotations

import numpy as np
import pytest

from palmforge.metrics.deidentification import deidentification_ratio
from palmforge.metrics.deidentification_interval import _by_pair, _ratio, ratio_interval


def palms(identities=30, images=4, seed=0, towards=0.5):
    """Points around a centre each, and de-identified ones that moved away from theirs."""
    generator = np.random.default_rng(seed)
    centres = 3 * generator.standard_normal((identities, 8))
    labels = np.repeat(np.arange(identities), images)
    points = centres[labels] + generator.standard_normal((labels.size, 8))
    strangers = 3 * generator.standard_normal((labels.size, 8))
    made = (1 - towards) * points + towards * strangers
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    return distances, labels, np.linalg.norm(made - points, axis=-1)


def split(distances, labels):
    rows, columns = np.triu_indices(len(labels), 1)
    same = labels[rows] == labels[columns]
    return distances[rows, columns][same], distances[rows, columns][~same]


def test_with_each_identity_once_the_ratio_is_that_of_the_metric():
    distances, labels, moved = palms()
    by_identity = np.stack([np.bincount(labels, moved**power) for power in (0, 1, 2)])
    found = _ratio(_by_pair(distances, labels, 30), by_identity, np.ones(30))
    assert found == pytest.approx(deidentification_ratio(*split(distances, labels), moved))


def test_an_identity_drawn_twice_is_no_impostor_of_itself():
    distances, labels, moved = palms(4, 3)
    weights = np.array([2.0, 0.0, 1.0, 1.0])
    rows, columns = np.triu_indices(12, 1)
    times = np.where(
        labels[rows] == labels[columns],
        weights[labels[rows]],
        weights[labels[rows]] * weights[labels[columns]],
    ).astype(int)
    drawn = np.repeat(distances[rows, columns], times)
    same = np.repeat(labels[rows] == labels[columns], times)
    expected = deidentification_ratio(
        drawn[same], drawn[~same], np.repeat(moved, weights[labels].astype(int))
    )
    by_identity = np.stack([np.bincount(labels, moved**power) for power in (0, 1, 2)])
    assert _ratio(_by_pair(distances, labels, 4), by_identity, weights) == pytest.approx(expected)


def test_it_covers_what_many_people_would_show():
    distances, labels, moved = palms(2000, 2, seed=1)
    truth = deidentification_ratio(*split(distances, labels), moved)
    inside = 0
    for seed in range(40):
        distances, labels, moved = palms(25, 3, seed=seed + 10)
        low, high = ratio_interval(distances, labels, moved, labels, 200, seed)
        inside += low <= truth <= high
    assert inside >= 34  # of 40, nominally 38


def test_labels_may_have_gaps_and_the_same_seed_draws_the_same():
    distances, labels, moved = palms()
    first = ratio_interval(distances, labels * 7 + 3, moved, labels * 7 + 3, 50, 4)
    assert first == ratio_interval(distances, labels, moved, labels, 50, 4)
    assert first[0] < first[1]


def test_sizes_that_do_not_fit_are_refused():
    distances, labels, moved = palms(5)
    with pytest.raises(ValueError, match="do not fit"):
        ratio_interval(distances[:3], labels, moved, labels)
    with pytest.raises(ValueError, match="no original has"):
        ratio_interval(distances, labels, moved, labels + 100)
