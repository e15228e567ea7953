"""Captures that are the palms, of other palms, or nobody's: what recognisers say of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from controlnets import references

from palmforge.errors import DataError
from palmforge.evaluation.identity import Kept, Setting, appoint, judge_captures, of_dial
from palmforge.evaluation.identity_pictures import identity_montage
from palmforge.metrics.scores import ScoreCounts
from palmforge.recognition import load

PALMS, CAPTURES = 5, 4
LABELS = np.repeat(np.arange(PALMS), CAPTURES)
SETTING = Setting(0.5, 0)


@pytest.fixture(scope="module", params=["synthetic-only", "competitive-code"])
def judge(request):
    return appoint(request.param, load(request.param), False, references(PALMS))


def captures(noise: int = 3) -> torch.Tensor:
    """The palms themselves, a little noisy."""
    palms = references(PALMS).repeat_interleave(CAPTURES, 0).int()
    random = torch.Generator().manual_seed(0)
    added = torch.randint(-noise, noise + 1, palms.shape, generator=random)
    return (palms + added).clamp(0, 255).to(torch.uint8)


def test_captures_of_the_palm_are_found_and_those_of_another_are_not(judge):
    kept = judge_captures(judge, SETTING, captures(), LABELS, intervals=100)
    assert kept.to_reference.shape == (PALMS * CAPTURES,) and kept.to_reference.min() > 0.7
    assert kept.within > kept.between + 0.1
    for figures in (kept.among, kept.found):
        assert figures["eer"] == 0 and figures["eer_high"] < 0.05 and figures["rank1"] == 1
        assert figures["dprime"] > 3
    assert kept.among["num_genuine"] == PALMS * CAPTURES * (CAPTURES - 1) / 2
    assert kept.found["num_genuine"] == PALMS * CAPTURES
    assert 1 <= kept.vendi < 1.5 if judge.is_cosine else np.isnan(kept.vendi)  # nearly copies

    others = judge_captures(judge, SETTING, captures().roll(CAPTURES, 0), LABELS, intervals=0)
    assert others.among["rank1"] == 1  # they are alike, but not like their palm
    assert others.found["rank1"] == 0 and others.to_reference.mean() < kept.to_reference.min()


def test_similarities_are_of_each_capture_to_its_own_palm(judge):
    exact = judge_captures(judge, SETTING, references(PALMS), np.arange(PALMS), intervals=0)
    assert exact.to_reference == pytest.approx(np.ones(PALMS), abs=1e-5)
    some = np.array([3, 1, 3])
    kept = judge_captures(judge, None, references(PALMS)[[3, 0, 2]], some, intervals=0)
    assert kept.to_reference[0] == pytest.approx(1, abs=1e-5) and kept.to_reference[1:].max() < 0.95


def test_a_picture_that_makes_nan_is_refused():
    judge = appoint("synthetic-only", load(), False, references(2))
    with pytest.raises(DataError, match="synthetic-only makes NaN of 1 pictures"):
        judge_captures(judge, SETTING, torch.full((1, 3, 8, 8), torch.nan), np.zeros(1, np.int64))


def _kept(judge: str, m: float | None, achieved: list[float]) -> Kept:
    none = ScoreCounts.from_histograms([], [])
    setting = None if m is None else Setting(m, 0)
    return Kept(
        judge, setting, np.arange(len(achieved)), np.array(achieved), {}, {}, 0.0, 0.0, 1.0, none
    )


def test_the_dial_is_that_of_one_recogniser_and_of_generated_captures_alone():
    rows = [
        _kept("a", None, [9.0, 9.0]), _kept("a", 1.0, [0.6, 0.8]), _kept("a", 0.0, [0.1, 0.2]),
        _kept("b", 1.0, [-0.6, -0.8]), _kept("b", 0.0, [0.1, 0.2]),
    ]  # fmt: skip
    found = of_dial(rows, "a", resamples=50)
    assert [row.asked for row in found.achieved] == [0.0, 1.0]
    assert [row.mean for row in found.achieved] == pytest.approx([0.15, 0.7])
    assert found.spearman.value > 0.85 and found.error == pytest.approx((0.3 + 0.6) / 4)
    assert of_dial(rows, "b", resamples=50).spearman.value < -0.85


def test_a_montage_has_a_palm_a_row_framed_in_front():
    palms = np.stack([np.full((8, 8, 3), 10 * n, np.uint8) for n in range(1, 4)])
    made = np.stack([[palm + 100, palm + 150] for palm in palms])
    sheet = np.asarray(identity_montage(palms, made, ["1", "2"]))
    columns = [place for place, blue in enumerate((sheet == (0, 114, 178)).all(2).any(0)) if blue]
    assert columns[0] == 0 and columns[-1] < 110  # the frame ends before the first capture
    middle = [sheet[row, 50, 0] for row in (22 + 50, 22 + 50 + 106, 22 + 50 + 212)]
    assert middle == [10, 20, 30]
    assert [sheet[22 + 50, 118 + 50 + 100 * n, 0] for n in range(2)] == [110, 160]
    with pytest.raises(ValueError, match="3 palms, 1 columns"):
        identity_montage(palms, made, ["1"])
