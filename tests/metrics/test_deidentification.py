"""De-identification: by hand, by Gaussian closed forms, and in what each pairing compares."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
import torch

from palmforge.metrics.deidentification import (
    deidentification,
    deidentification_ratio,
    deidentified_accuracy,
    deidentified_distances,
    deidentified_pairs,
    rejection_rate,
    unlinkability,
)
from palmforge.metrics.embeddings import pair_distances
from palmforge.metrics.verification import decidability, equal_error_rate

RNG = np.random.default_rng(11)


def normal(mean: float, deviation: float, count: int = 20_001) -> np.ndarray:
    """Its quantiles: a sample without chance."""
    at = (np.arange(count) + 0.5) / count
    return np.array([NormalDist(mean, deviation).inv_cdf(p) for p in at])


GENUINE, IMPOSTOR = normal(1.0, 0.3), normal(3.0, 0.5)

# --- RR and DIR ---


def test_hand_computed_values():
    genuine, impostor, found = [1, 3], [5, 9], [4, 6]  # means 2, 7, 5; deviations 1, 2, 1
    assert decidability(genuine, found) == pytest.approx(3.0)
    ratio = (2 - 5) / (2 - 7) * np.sqrt(1 + 4) / np.sqrt(1 + 1) * 100  # Eq. 4 as it is printed
    assert deidentification_ratio(genuine, impostor, found) == pytest.approx(ratio)
    assert rejection_rate([1, 2, 3, 4, 4], 3) == pytest.approx(2 / 5)  # at the threshold: accepted
    figures = deidentification(genuine, impostor, found)
    assert figures.threshold == equal_error_rate(genuine, impostor)[1] == 4.0
    assert figures.rejection_rate == 0.5
    assert figures.ratio == pytest.approx(ratio)
    assert figures.ratio / 100 == figures.dprime_deidentified / figures.dprime_impostor


@pytest.mark.parametrize(("mean", "deviation"), [(3.0, 0.5), (2.0, 0.4), (5.0, 1.5), (0.6, 0.3)])
def test_gaussian_closed_form(mean, deviation):
    """Among them further than impostors (above 100 %), and nearer than genuine pairs (below 0)."""
    found = normal(mean, deviation)
    spreads = np.hypot(0.3, 0.5) / np.hypot(0.3, deviation)
    ratio = (1.0 - mean) / (1.0 - 3.0) * spreads * 100
    assert deidentification_ratio(GENUINE, IMPOSTOR, found) == pytest.approx(ratio, rel=2e-3)
    crossing = 1.0 + 2.0 * 0.3 / 0.8  # (t − 1) / 0.3 = (3 − t) / 0.5
    figures = deidentification(GENUINE, IMPOSTOR, found)
    assert figures.threshold == pytest.approx(crossing, abs=1e-3)
    expected = 1 - NormalDist(mean, deviation).cdf(crossing)
    assert figures.rejection_rate == pytest.approx(expected, abs=1e-3)


def test_strangers_are_fully_deidentified_and_the_palm_itself_not_at_all():
    genuine, impostor = RNG.normal(1, 0.4, (2, 3000)), RNG.normal(2, 0.5, (2, 9000))
    stranger = deidentification(genuine[0], impostor[0], impostor[1])
    assert stranger.ratio == pytest.approx(100, abs=3)
    eer = equal_error_rate(genuine[0], impostor[0])[0]
    assert stranger.rejection_rate == pytest.approx(1 - eer, abs=0.02)
    same = deidentification(genuine[0], impostor[0], genuine[1])
    assert same.ratio == pytest.approx(0, abs=3)
    assert same.rejection_rate == pytest.approx(eer, abs=0.02)


def test_exactly_a_hundred_and_nought_for_the_same_pairs():
    assert deidentification_ratio(GENUINE, IMPOSTOR, IMPOSTOR) == pytest.approx(100)
    assert deidentification_ratio(GENUINE, IMPOSTOR, GENUINE) == 0.0


def test_the_ratio_is_the_same_for_similarities_and_any_unit():
    found = RNG.normal(2, 0.4, 500)
    wanted = deidentification_ratio(GENUINE, IMPOSTOR, found)
    for change in (lambda d: 1 - d, lambda d: 7 * d + 2, lambda d: torch.from_numpy(-d)):
        assert deidentification_ratio(
            change(GENUINE), change(IMPOSTOR), change(found)
        ) == pytest.approx(wanted)


def test_without_spread():
    assert deidentification_ratio([1, 1], [2, 4], [3, 3]) == float("inf")
    assert deidentification_ratio([1, 1], [2, 4], [0, 0]) == float("-inf")
    assert deidentification_ratio([1, 1], [2, 4], [1, 1]) == 0.0


@pytest.mark.parametrize(
    ("genuine", "impostor", "found", "match"),
    [
        ([1, 2], [1, 2], [3], "d' between genuine and impostor pairs is 0"),
        ([1, 1], [2, 2], [3], "pairs is inf"),
        ([], [1, 2], [3], "no genuine pairs"),
        ([1, 2], [4, 5], [], "deidentified: no distances"),
        ([1, 2], [4, 5], [float("nan")], "NaN or infinite"),
    ],
)
def test_a_ratio_that_means_nothing_is_refused(genuine, impostor, found, match):
    with pytest.raises(ValueError, match=match):
        deidentification_ratio(genuine, impostor, found)


@pytest.mark.parametrize(("found", "at"), [([], 1.0), ([1.0], float("nan")), ([np.inf], 1.0)])
def test_a_rejection_rate_of_nothing_is_refused(found, at):
    with pytest.raises(ValueError, match=r"no distances|threshold is NaN|NaN or infinite"):
        rejection_rate(found, at)


# --- which pairs ---

LABELS = [5, 9, 5, 5, 9, 2]  # of six originals
SOURCES = [0, 0, 4, 5]  # of four de-identified images, two of them of one picture
MATRIX = np.arange(24.0).reshape(4, 6)


def test_own_source_is_one_distance_an_image():
    found = deidentified_distances(MATRIX, SOURCES, LABELS, "own_source")
    np.testing.assert_array_equal(found, [0, 6, 16, 23])


def test_same_identity_is_all_originals_of_the_palm():
    rows, columns = deidentified_pairs(SOURCES, LABELS, "same_identity")
    pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3), (2, 1), (2, 4), (3, 5)]
    found = deidentified_distances(MATRIX, SOURCES, LABELS, "same_identity")
    np.testing.assert_array_equal(found, MATRIX[rows, columns])


def test_pairs_of_large_random_sets_agree_with_brute_force():
    labels, sources = RNG.integers(0, 12, 80), RNG.integers(0, 80, 150)
    rows, columns = deidentified_pairs(sources, labels, "same_identity")
    expected = np.nonzero(labels[sources][:, None] == labels[None])
    assert set(zip(rows, columns, strict=True)) == set(zip(*expected, strict=True))
    assert rows.size == expected[0].size


def test_accuracy_by_hand():
    distances = np.array(
        [
            [1.0, 2, 9, 9, 3, 4],  # its source is nearest
            [3.0, 2, 9, 9, 9, 4],  # a stranger is
            [9.0, 1, 9, 9, 2, 4],  # another picture of its palm is
            [9.0, 2, 9, 9, 9, 1],  # its source is, and there is no other
        ]
    )
    assert deidentified_accuracy(distances, SOURCES, LABELS) == pytest.approx(3 / 4)
    # Known from another picture: 0 no (2 < 9), 1 no, 2 yes, 3 has no other.
    without = deidentified_accuracy(distances, SOURCES, LABELS, with_source=False)
    assert without == pytest.approx(1 / 3)
    assert distances[0, 0] == 1.0  # what was given is as it was


def test_ties_count_against_the_recogniser():
    assert deidentified_accuracy(np.ones((4, 6)), SOURCES, LABELS) == 0.0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"distances": MATRIX[:3]}, r"distances \(3, 6\) do not fit"),
        ({"sources": [0, 0, 4, 6]}, r"rows of 6 originals, got 0 … 6"),
        ({"sources": [-1, 0, 4, 5]}, r"got -1 … 5"),
        ({"sources": [0.0, 0.0, 4.0, 5.0]}, "sources must be 1-D integers"),
        ({"labels": [0.5] * 6}, "labels must be 1-D integers"),
        ({"pairing": "both"}, "'own_source' or 'same_identity', got 'both'"),
    ],
)
def test_what_does_not_fit_is_refused(changes, match):
    given = {"distances": MATRIX, "sources": SOURCES, "labels": LABELS, "pairing": "same_identity"}
    with pytest.raises(ValueError, match=match):
        deidentified_distances(**{**given, **changes})


# --- unlinkability ---


def test_unlinkability_by_hand():
    """Two bins: LR is 3 in the first, 1/3 in the second."""
    found = unlinkability([0, 0, 0, 1], [0, 1, 1, 1], bins=2)
    np.testing.assert_allclose(found.local, [2 * 3 / (1 + 3) - 1, 0])
    assert found.system == pytest.approx(0.75 * 0.5)
    three = unlinkability([0, 0, 0, 1], [0, 1, 1, 1], prior_ratio=6.0, bins=2)
    np.testing.assert_allclose(three.local, [2 * 18 / 19 - 1, 2 * 2 / 3 - 1])
    assert three.system == pytest.approx(0.75 * 17 / 19 + 0.25 / 3)


@pytest.mark.parametrize(("prior", "expected"), [(1.0, 0.5), (2.0, 0.5 + 0.5 / 3), (0.5, 0.5)])
def test_uniform_distributions_have_a_closed_form(prior, expected):
    """Mated on [0, 1], non-mated on [0.5, 1.5]: LR is ∞ in one half, 1 in the other."""
    even = (np.arange(10_000) + 0.5) / 10_000
    found = unlinkability(even, even + 0.5, prior, bins=30)
    assert found.system == pytest.approx(expected, abs=1e-9)
    assert found.local.min() >= 0 and found.local[:10].tolist() == [1.0] * 10


@pytest.mark.parametrize(("gap", "prior"), [(0.5, 1.0), (1.0, 1.0), (2.0, 1.0), (1.0, 0.3)])
def test_gaussians_agree_with_the_integral(gap, prior):
    """With equal deviations log LR is linear, and D↔ = tanh(log(ω LR) / 2) where it is positive."""
    from scipy.integrate import quad

    def local(s: float) -> float:
        return max(0.0, np.tanh((np.log(prior) + gap**2 / 2 - gap * s) / 2))

    mated = NormalDist(0, 1)
    turn = gap / 2 + np.log(prior) / gap
    expected = quad(lambda s: mated.pdf(s) * local(s), -9, turn)[0]
    found = unlinkability(normal(0, 1), normal(gap, 1), prior)
    assert found.system == pytest.approx(expected, abs=3e-3)
    middles = (found.edges[1:] + found.edges[:-1]) / 2
    often = found.mated > 5e-3
    np.testing.assert_allclose(found.local[often], [local(s) for s in middles[often]], atol=0.03)


def test_extremes_and_what_chance_gives():
    apart = unlinkability(RNG.normal(0, 1, 300), RNG.normal(40, 1, 500))
    assert apart.system == pytest.approx(1.0)
    assert unlinkability([1, 1, 1], [1, 1]).system == 0.0
    by_chance = unlinkability(RNG.normal(0, 1, 4000), RNG.normal(0, 1, 4000)).system
    assert 0.0 < by_chance < 0.06


def test_the_sign_of_the_scores_does_not_matter():
    mated, others = RNG.normal(0, 1, 1000), RNG.normal(1, 2, 3000)
    edges = np.linspace(-12, 12, 25)  # the same bins from both sides
    one, two = unlinkability(mated, others, bins=edges), unlinkability(-mated, -others, bins=edges)
    assert one.system == pytest.approx(two.system)
    np.testing.assert_allclose(one.local, two.local[::-1])
    assert one.mated.sum() == pytest.approx(1) and one.non_mated.sum() == pytest.approx(1)


def test_outputs_that_share_a_secret_are_linkable():
    """Templates of de-identified images, mated and non-mated as `pair_distances` gives them."""
    labels = np.repeat(np.arange(40), 5)
    free = RNG.normal(size=(200, 32)).astype(np.float32)
    leaking = free + 2 * RNG.normal(size=(40, 32)).astype(np.float32)[labels]
    scores = [unlinkability(*pair_distances(t, labels)).system for t in (free, leaking)]
    assert scores[0] < 0.2 < 0.9 < scores[1]


@pytest.mark.parametrize(
    ("mated", "others", "options", "match"),
    [
        ([], [1], {}, "0 mated and 1 non-mated"),
        ([1], [1], {"prior_ratio": 0.0}, "prior ratio 0"),
        ([1], [1], {"prior_ratio": float("nan")}, "prior ratio nan"),
        ([1], [np.nan], {}, "non_mated: 1 of 1 distances"),
        ([1], [3], {"bins": np.array([0.0, 2.0])}, r"outside 0 … 2"),
    ],
)
def test_unlinkability_refuses_what_has_no_meaning(mated, others, options, match):
    with pytest.raises(ValueError, match=match):
        unlinkability(mated, others, **options)
