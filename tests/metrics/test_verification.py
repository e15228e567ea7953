"""Error rates: by hand, against scikit-learn, against known distributions, and under transforms."""

from __future__ import annotations

import json
from statistics import NormalDist

import numpy as np
import pytest
import torch
from pyeer.eer_stats import calculate_roc, get_eer_values
from sklearn import metrics as sk

from palmforge.metrics.scores import ScoreCounts
from palmforge.metrics.verification import (
    area_under_curve,
    decidability,
    det_curve,
    equal_error_rate,
    roc_curve,
    tar_at_far,
)

RNG = np.random.default_rng(7)
SCORE_SETS = {
    "continuous": (RNG.normal(1, 0.4, 300), RNG.normal(2, 0.5, 2000)),
    "many ties": (RNG.integers(0, 9, 200), RNG.integers(5, 16, 700)),
    "all equal": (np.full(5, 3.0), np.full(9, 3.0)),
    "separated": (np.array([1.0, 2.0]), np.array([4.0, 5.0, 9.0])),
    "swapped": (np.array([4.0, 5.0]), np.array([1.0, 2.0, 3.0])),
    "one genuine": (np.array([2.5]), RNG.normal(2, 1, 50)),
    "one each": (np.array([1.0]), np.array([1.0])),
}
both = pytest.mark.parametrize(("genuine", "impostor"), SCORE_SETS.values(), ids=SCORE_SETS.keys())


def _figures(genuine, impostor) -> tuple[float, ...]:
    """Every rate that does not depend on the unit of the distances."""
    fars = (max(0.5, 1 / len(impostor)), 1.0, 1 / len(impostor))
    return (
        equal_error_rate(genuine, impostor)[0],
        area_under_curve(genuine, impostor),
        *(tar_at_far(genuine, impostor, far) for far in fars),
    )


def test_hand_computed_values() -> None:
    assert equal_error_rate([1, 2, 3], [2.5, 4, 5]) == (pytest.approx(1 / 3), 2.75)
    # FAR 0 -> 1/4 and FRR 1/2 -> 0 between 2 and 3: they cross 2/3 of the way, at 1/6.
    eer, threshold = equal_error_rate([1, 3], [3, 4, 5, 6])
    assert eer == pytest.approx(1 / 6)
    assert threshold == pytest.approx(1 + 2 * 2 / 3)
    assert decidability([1, 3], [5, 9]) == pytest.approx(5 / np.sqrt((1 + 4) / 2))
    assert tar_at_far([1, 2, 3, 4], [2, 5, 6, 7], 0.25) == 1.0
    assert area_under_curve([1, 3], [2, 3]) == pytest.approx((1 + 1 + 0 + 0.5) / 4)


def test_extreme_sets() -> None:
    assert equal_error_rate(*SCORE_SETS["separated"]) == (0.0, 3.0)
    assert equal_error_rate(*SCORE_SETS["swapped"])[0] == 1.0
    assert equal_error_rate(*SCORE_SETS["all equal"]) == (0.5, 3.0)
    assert decidability([1, 1], [1, 1]) == 0.0
    assert decidability([1, 1], [2, 2]) == float("inf")


def test_ties_with_the_decisive_impostor_are_not_accepted() -> None:
    genuine, impostor = [1, 2, 2, 3], [2, 2, 4, 5]
    assert tar_at_far(genuine, impostor, 0.25) == 0.25  # accepting 2 would accept half
    assert tar_at_far(genuine, impostor, 0.5) == 1.0
    assert tar_at_far([5, 6], [1, 2], 0.5) == 0.0
    assert ScoreCounts.from_scores([5, 6], [1, 1]).threshold_at_far(0.5) == float("-inf")


@both
def test_curves_agree_with_scikit_learn(genuine, impostor) -> None:
    truth = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
    score = -np.r_[genuine, impostor]
    far, tar, minus_threshold = sk.roc_curve(truth, score, drop_intermediate=False)
    ours = roc_curve(genuine, impostor)
    np.testing.assert_allclose(ours.far, far)
    np.testing.assert_allclose(ours.tar, tar)
    np.testing.assert_array_equal(ours.thresholds[1:], -minus_threshold[1:])
    assert area_under_curve(genuine, impostor) == pytest.approx(sk.roc_auc_score(truth, score))
    sk_far, sk_frr, sk_threshold = sk.det_curve(truth, score)
    curve = det_curve(genuine, impostor)
    for f, r, t in zip(sk_far, sk_frr, -sk_threshold, strict=True):
        # scikit-learn (<= 1.8) may put a point at its own infinity, where nothing is accepted.
        at = np.searchsorted(curve.thresholds, t, side="right") - 1 if np.isfinite(t) else 0
        assert (curve.far[at], curve.frr[at]) == (pytest.approx(f), pytest.approx(r))


@both
def test_the_eer_lies_where_pyeer_has_it(genuine, impostor) -> None:
    """pyeer (FVC2000) gives the two rates nearest the crossing; ours is interpolated between."""
    scores = (np.asarray(values, float) for values in (genuine, impostor))
    _, fmr, fnmr = calculate_roc(*scores, ds_scores=True, rates=True)
    # Its curve lacks the end where nothing is accepted.
    _, low, high, middle = get_eer_values(np.append(fmr, 0.0), np.append(fnmr, 1.0))
    eer = equal_error_rate(genuine, impostor)[0]
    assert low - 1e-12 <= eer <= high + 1e-12
    if high - low < 0.01:
        assert eer == pytest.approx(middle, abs=0.005)


@both
def test_brute_force_rates(genuine, impostor) -> None:
    thresholds, far, frr = det_curve(genuine, impostor)
    for t, a, r in list(zip(thresholds, far, frr, strict=True))[:60]:
        assert a == np.mean(impostor <= t)
        assert r == np.mean(genuine > t)
    for wanted in (0.1, 0.3, 0.5, 1.0):
        if 1 / len(impostor) > wanted:
            continue
        allowed = [t for t in thresholds if np.mean(impostor <= t) <= wanted]
        assert tar_at_far(genuine, impostor, wanted) == np.mean(genuine <= max(allowed))
    eer, _ = equal_error_rate(genuine, impostor)
    after = int(np.argmax(far >= frr))
    assert min(far[after - 1], frr[after]) <= eer <= max(far[after], frr[after - 1])


@both
def test_transforms_that_change_no_rate(genuine, impostor) -> None:
    expected = _figures(genuine, impostor)
    assert _figures(np.exp(genuine / 2.0), np.exp(impostor / 2.0)) == expected
    assert _figures(RNG.permutation(genuine), RNG.permutation(impostor)) == expected
    twice = (np.tile(genuine, 2), np.tile(impostor, 2))
    assert equal_error_rate(*twice) == equal_error_rate(genuine, impostor)
    assert det_curve(*twice).far.tolist() == det_curve(genuine, impostor).far.tolist()
    assert decidability(*twice) == pytest.approx(decidability(genuine, impostor))
    tensors = (torch.tensor(genuine, requires_grad=genuine.dtype == float), torch.tensor(impostor))
    assert _figures(*tensors) == expected


@both
def test_shift_and_scale_move_the_threshold_along(genuine, impostor) -> None:
    eer, threshold = equal_error_rate(genuine, impostor)
    moved = equal_error_rate(4 * genuine + 8, 4 * impostor + 8)
    assert moved == (pytest.approx(eer), pytest.approx(4 * threshold + 8))


def test_two_gaussians_give_the_analytic_eer_and_dprime() -> None:
    genuine, impostor = RNG.normal(0, 1, 200_000), RNG.normal(3, 1, 200_000)
    eer, threshold = equal_error_rate(genuine, impostor)
    assert eer == pytest.approx(NormalDist().cdf(-1.5), abs=2e-3)
    assert threshold == pytest.approx(1.5, abs=0.02)
    assert decidability(genuine, impostor) == pytest.approx(3, abs=0.02)
    expected = NormalDist().cdf(3 + NormalDist().inv_cdf(0.01))
    assert tar_at_far(genuine, impostor, 0.01) == pytest.approx(expected, abs=0.01)


def test_histograms_are_identical_to_raw_distances() -> None:
    genuine, impostor = RNG.binomial(128, 0.2, 900), RNG.binomial(128, 0.45, 20_000)
    counts = ScoreCounts.from_histograms(
        np.bincount(genuine, minlength=129), np.bincount(impostor, minlength=129)
    )
    assert counts.equal_error_rate() == equal_error_rate(genuine, impostor)
    assert counts.decidability() == decidability(genuine, impostor)
    assert counts.auc() == area_under_curve(genuine, impostor)
    for far in (1e-1, 1e-2, 1e-3, 1e-4):
        assert counts.tar_at_far(far) == tar_at_far(genuine, impostor, far)
    for ours, theirs in zip(counts.det_curve(), det_curve(genuine, impostor), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_counts_beyond_two_to_the_31_keep_their_rates() -> None:
    small = ScoreCounts.from_histograms([5, 3, 1, 0], [0, 1, 2, 7])
    large = ScoreCounts.from_histograms(
        *(10**11 * np.array(c) for c in ([5, 3, 1, 0], [0, 1, 2, 7]))
    )
    assert large.num_impostor == 10**12
    assert large.equal_error_rate() == small.equal_error_rate()
    assert large.auc() == small.auc()
    assert large.tar_at_far(1e-12) == pytest.approx(5 / 9)


def test_a_fixed_threshold_is_applied_to_other_sets() -> None:
    counts = ScoreCounts.from_scores([1, 2, 3], [2, 3, 4, 5])
    assert counts.rates_at(2.0) == (0.25, pytest.approx(1 / 3))
    assert counts.rates_at(2.9) == counts.rates_at(2.0)
    assert counts.rates_at(0) == (0.0, 1.0)
    assert counts.threshold_at_far(0.5) == 3.0


def test_counts_add_up_and_survive_json() -> None:
    one, two = ScoreCounts.from_scores([1, 2], [3]), ScoreCounts.from_scores([2], [5, 1])
    joined = ScoreCounts.from_scores([1, 2, 2], [3, 5, 1])
    record = json.loads(json.dumps((one + two).to_dict()))
    assert record == joined.to_dict() == ScoreCounts.from_dict(record).to_dict()
    assert record["values"] == [1, 2, 3, 5]
    assert ScoreCounts.from_scores([0.5], [1.5]).to_dict()["values"] == [0.5, 1.5]


def test_far_is_refused_where_there_are_too_few_impostors() -> None:
    genuine, impostor = RNG.normal(size=50), RNG.normal(2, 1, 1000)
    tar_at_far(genuine, impostor, 1e-3)
    with pytest.raises(ValueError, match=r"needs at least 10,000 impostor pairs, there are 1,000"):
        tar_at_far(genuine, impostor, 1e-4)
    for exponent in range(1, 7):  # 1 / 1e-5 is 99999.99999999999 in floats
        counts = ScoreCounts.from_histograms([1, 0], [0, 10**exponent])
        assert counts.far_refusal(float(f"1e-{exponent}")) is None
        assert counts.far_refusal(float(f"0.99e-{exponent}")) is not None


@pytest.mark.parametrize("function", [equal_error_rate, decidability, det_curve, roc_curve])
def test_bad_distances_are_errors(function) -> None:
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="impostor: 1 of 3 distances are NaN or infinite"):
            function([1.0], [1.0, bad, 2.0])
    with pytest.raises(ValueError, match="no genuine pairs"):
        function([], [1.0])
    with pytest.raises(ValueError, match="no impostor pairs"):
        function(torch.tensor([1.0]), torch.tensor([]))
    with pytest.raises(ValueError, match="1-D"):
        function([[1.0]], [1.0])


def test_bad_rates_and_counts_are_errors() -> None:
    for far in (0.0, -1.0, 1.1):
        with pytest.raises(ValueError, match="far must lie in"):
            tar_at_far([1.0], [2.0], far)
    with pytest.raises(ValueError, match="equally long"):
        ScoreCounts.from_histograms([1], [1, 2])
    with pytest.raises(ValueError, match="negative"):
        ScoreCounts.from_histograms([1], [-1])
    with pytest.raises(ValueError, match="ascending"):
        ScoreCounts.from_histograms([1, 1], [1, 1], [2, 1])
