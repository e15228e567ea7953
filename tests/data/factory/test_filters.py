"""Limits, and the picture of what was rejected."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import yaml
from conftest import ROOT

from palmforge.data.factory.filters import Filters, histogram
from palmforge.errors import ConfigError

GOOD = {"brightness": 0.5, "contrast": 0.1, "relief": 0.03, "lines": 0.1}


def test_what_is_within_all_limits_is_good_and_a_limit_itself_is():
    filters = Filters(brightness=(0.5, 0.5), consistency=(0.3, 0.9))
    assert filters.poor(GOOD) is None
    assert filters.inconsistent(0.3) is filters.inconsistent(0.9) is None


@pytest.mark.parametrize("value", [-0.1, 0.99, math.nan, math.inf])
@pytest.mark.parametrize("name", ["brightness", "contrast", "relief", "lines"])
def test_the_score_that_is_out_is_named(name, value):
    assert Filters().poor({**GOOD, name: value}) == name


@pytest.mark.parametrize("cosine", [0.29, 0.91, -1.0, math.nan])
def test_another_palm_and_a_copy_are_inconsistent(cosine):
    assert Filters(consistency=(0.3, 0.9)).inconsistent(cosine) == "consistency"


@pytest.mark.parametrize(
    "wrong",
    [
        {"consistency": (0.9, 0.3)}, {"consistency": (-1.1, 0.5)}, {"uniqueness": 1.5},
        {"uniqueness": math.nan}, {"brightness": (-0.1, 1.0)}, {"lines": (0.0, 2.0)},
        {"contrast": (0.1,)},
    ],
)  # fmt: skip
def test_limits_that_no_score_can_meet_are_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=f"data.filters.{next(iter(wrong))}: .*must rise"):
        Filters(**wrong)


def test_a_uniqueness_that_rejects_all_palms_but_the_first_is_refused():
    with pytest.raises(ConfigError, match=r"data\.filters\.uniqueness: -1 rejects all palms but"):
        Filters(uniqueness=-1.0)


def test_what_is_not_told_is_as_in_the_experiment():
    told = yaml.safe_load((ROOT / "configs/experiment/factory.yaml").read_text())
    assert json.loads(json.dumps(asdict(Filters()))) == told["data"]["init_args"]["filters"]


def test_a_histogram_has_all_values_and_shows_the_limits():
    text = histogram([0.0, 0.1, 0.1, 0.5, math.nan], (0.3, 1.0))
    rows = text.splitlines()
    assert len(rows) == 12
    assert sum(int(row.split("…")[1].split()[1]) for row in rows) == 4
    (low,) = (row for row in rows if "limit 0.3" in row)
    assert float(low.split("…")[0]) <= 0.3 < float(low.split("…")[1].split()[0])
    assert "limit 1" in rows[-1]


@pytest.mark.parametrize("limits", [(0.5,), (0.5, 0.5)])
def test_a_histogram_of_one_value_that_is_the_limit(limits):
    rows = histogram([0.5, 0.5], limits).splitlines()
    assert "limit 0.5" in rows[0] and " 2 " in rows[0]


def test_a_histogram_of_nothing_finite_says_so():
    assert histogram([math.nan], (0.0, 1.0)) == "  (no value is finite)"
