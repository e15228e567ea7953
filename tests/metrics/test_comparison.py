"""Comparisons under a distance of one's own, searches, and the pairs at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palmforge.metrics.comparison import Comparison
from palmforge.metrics.embeddings import pairwise_distances


@pytest.fixture
def palms():
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat(np.arange(12), 4))
    centres = rng.standard_normal((12, 8))[labels]
    return torch.from_numpy(centres + 0.7 * rng.standard_normal((48, 8))).float(), labels


@pytest.mark.parametrize("roles", [None, np.arange(48) % 2 + 1])
def test_a_distance_of_ones_own_gives_the_figures_of_the_built_in_one(palms, roles):
    templates, labels = palms

    def folded(a, b):
        return pairwise_distances(a.flatten(1), b.flatten(1), "euclidean")

    own = Comparison(templates.reshape(48, 2, 4), labels, roles, folded, intervals=20)
    built_in = Comparison(templates, labels, roles, "euclidean", intervals=20)
    assert own.figures() == built_in.figures()


def test_searches_are_those_of_a_few_lines(palms):
    templates, labels = palms
    roles = np.where(np.arange(48) % 4 == 0, 1, 2)
    roles[(labels >= 8) & (roles == 1)] = 2  # four palms that are not enrolled
    found = Comparison(templates, labels, roles, "euclidean").searches(block=50)
    distances = torch.cdist(templates, templates).numpy()
    mated, ranks, nonmated = [], [], []
    gallery = np.flatnonzero(roles == 1)
    for probe in np.flatnonzero(roles == 2):
        nearest = {
            label: distances[probe, gallery[labels[gallery] == label]].min()
            for label in set(labels[gallery])
        }
        if labels[probe] in nearest:
            own = nearest[labels[probe]]
            mated.append(own)
            ranks.append(sum(value <= own for value in nearest.values()))
        else:
            nonmated.append(min(nearest.values()))
    np.testing.assert_allclose(np.sort(found.mated), np.sort(mated), rtol=1e-5)
    assert sorted(found.ranks) == sorted(ranks)
    np.testing.assert_allclose(np.sort(found.nonmated), np.sort(nonmated), rtol=1e-5)


@pytest.mark.parametrize("block", [10, 10_000])
def test_the_worst_genuine_and_the_best_impostor_pair_are_found(palms, block):
    templates, labels = palms
    worst, best = Comparison(templates, labels, None, "euclidean").extreme_pairs(3, block)
    distances = torch.cdist(templates, templates).numpy()
    same = labels[:, None] == labels
    np.fill_diagonal(distances, np.nan)
    assert worst[0].distance == pytest.approx(np.nanmax(np.where(same, distances, np.nan)))
    assert best[0].distance == pytest.approx(np.nanmin(np.where(same, np.nan, distances)))
    assert distances[worst[0].first, worst[0].second] == pytest.approx(worst[0].distance)
    assert len({labels[pair.first] for pair in worst}) == 3  # an identity comes once


def test_a_gallery_without_probes_cannot_be_searched(palms):
    templates, labels = palms
    with pytest.raises(ValueError, match="nothing to find"):
        Comparison(templates, labels, np.ones(48, np.int64), "cosine").searches()
