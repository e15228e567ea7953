"""Unlinkability among outputs: what can be linked is, what cannot lies within shuffled pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palmforge.errors import DataError
from palmforge.evaluation.linkage import linkage
from palmforge.metrics.embeddings import pairwise_distances

HANDS, PHOTOGRAPHS, VARIANTS = 12, 3, 3
LABELS = np.repeat(np.arange(HANDS), PHOTOGRAPHS)
SOURCES = np.repeat(np.arange(LABELS.size), VARIANTS)


def cosine(a, b):
    return pairwise_distances(a, b, "cosine")


def templates(hand: float, photograph: float, variant: float, seed: int = 0) -> torch.Tensor:
    """`[P, 32]`: how much of each is what the hand, the photograph and the seed give."""
    rng = np.random.default_rng(seed)
    of_hand, of_photograph = rng.normal(size=(HANDS, 32)), rng.normal(size=(LABELS.size, 32))
    found = hand * of_hand[LABELS[SOURCES]] + photograph * of_photograph[SOURCES]
    return torch.from_numpy(found + variant * rng.normal(size=found.shape))


def test_identical_variants_are_linked_and_photographs_of_one_hand_are_not():
    found = linkage(templates(0, 1, 1e-3), SOURCES, LABELS, cosine)
    assert found.of_one_photograph.system > 0.98
    assert found.of_one_photograph.above_chance
    assert found.of_one_photograph.mated.size == LABELS.size * 3
    assert found.of_one_photograph.non_mated.size == 9 * 9 * HANDS * (HANDS - 1) // 2
    # Nine equal pairs for each two photographs: shuffled photographs have them as well.
    assert not found.of_one_hand.above_chance
    assert found.of_one_hand.mated.size == HANDS * 3 * 9


def test_a_hand_that_shines_through_is_linked_in_both_readings():
    found = linkage(templates(1, 0, 0.2), SOURCES, LABELS, cosine)
    assert found.of_one_photograph.system > 0.9
    assert found.of_one_hand.system > 0.9
    assert found.of_one_hand.above_chance
    assert not found.refused


@pytest.mark.parametrize("photograph", [0, 1])
def test_what_cannot_be_linked_lies_within_the_shuffled_range(photograph):
    """19 times in 20, also where the variants of a photograph are alike."""
    alarms = 0
    for seed in range(20):
        given = templates(0, photograph, 0.5, seed)
        found = linkage(given, SOURCES, LABELS, cosine, seed)
        one = found.of_one_hand if photograph else found.of_one_photograph
        assert 0 < one.shuffled <= one.shuffled_high < 0.4
        assert abs(one.system - one.shuffled) < 0.15
        alarms += one.above_chance
    assert alarms <= 4


def test_the_same_seed_gives_the_same_figures():
    given = templates(0.3, 0.3, 1)
    first, again, other = (linkage(given, SOURCES, LABELS, cosine, seed) for seed in (0, 0, 1))
    assert first.of_one_hand.shuffled == again.of_one_hand.shuffled
    assert first.of_one_hand.shuffled != other.of_one_hand.shuffled
    assert first.of_one_hand.system == other.of_one_hand.system


def test_a_reading_without_pairs_is_refused_and_the_other_is_given():
    one_variant = templates(1, 0, 0.2)[::VARIANTS]
    found = linkage(one_variant, SOURCES[::VARIANTS], LABELS, cosine)
    assert found.of_one_photograph is None
    assert found.of_one_hand.system > 0.9
    assert found.refused == {"of_one_photograph": "0 mated pairs, 20 or more are needed"}


def test_bad_input_is_refused():
    given = templates(0, 0, 1)
    with pytest.raises(DataError, match="fewer than two hands"):
        linkage(given, SOURCES, np.zeros_like(LABELS), cosine)
    with pytest.raises(ValueError, match="107 templates, but 108 sources"):
        linkage(given[1:], SOURCES, LABELS, cosine)
    with pytest.raises(ValueError, match="rows of 36 originals, got 1 … 36"):
        linkage(given, SOURCES + 1, LABELS, cosine)
    with pytest.raises(ValueError, match="labels must be 1-D integers"):
        linkage(given, SOURCES, LABELS / 2, cosine)
    given[5] = float("nan")
    with pytest.raises(DataError, match="NaN or infinite"):
        linkage(given, SOURCES, LABELS, cosine)
