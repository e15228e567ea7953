"""The largest α that keeps to a wanted DIR."""

from __future__ import annotations

import json

import exemplars
import pytest
from hands import write_hands

from palmforge.commands.deidentify_alpha import alpha, bisect
from palmforge.errors import ConfigError, DataError


def test_it_finds_where_a_falling_ratio_crosses_the_target():
    found = bisect(lambda value: 100 - 50 * value, 80, 0.01)  # crosses at 0.4
    assert 0.4 - 0.01 <= found.alpha <= 0.4 and found.is_reached
    assert found.ratio == 100 - 50 * found.alpha >= 80
    assert len(found.tried) == 2 + 7  # the ends, then 2^-7 is below 0.01
    assert all(value in (0, 1) or 0.2 < value < 0.6 for value, _ in found.tried)


def test_a_target_that_all_or_none_keep_to_ends_at_the_ends():
    everything = bisect(lambda value: 90.0, 80, 0.1)
    assert (everything.alpha, everything.is_reached, len(everything.tried)) == (1.0, True, 2)
    nothing = bisect(lambda value: 70.0, 80, 0.1)
    assert (nothing.alpha, nothing.is_reached, len(nothing.tried)) == (0.0, False, 1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(write_hands(tmp_path_factory.mktemp("hands"), identities=4, captures=2) / "wild")


SMALL = {
    "pretrained_model_name_or_path": "", "recogniser": "competitive-code", "roi_size": 64,
    "image_size": exemplars.SIZE, "num_inference_steps": 1, "tolerance": 0.6,
}  # fmt: skip


def test_it_searches_on_some_people_and_tells_of_others(root, tmp_path, capsys):
    own = {**SMALL, "pretrained_model_name_or_path": exemplars.saved()}
    alpha(root, target=-1e6, out=str(tmp_path / "alpha.json"), **own)
    told = json.loads((tmp_path / "alpha.json").read_text())
    assert told["alpha"] == 1.0 and [value for value, _ in told["tried"]] == [0.0, 1.0]
    assert "4 photographs of 2 hands" in capsys.readouterr().out
    # The last of the tried is measured on those who were searched, not on the others.
    assert told["ratio"] == told["tried"][-1][1] != told["ratio_of_others"]
    alpha(root, target=1e6, **own)
    assert "is not reached even at α = 0" in capsys.readouterr().out


def test_bad_input_is_told(root, tmp_path):
    with pytest.raises(ConfigError, match="tolerance"):
        alpha(root, **{**SMALL, "tolerance": 0})
    own = {**SMALL, "pretrained_model_name_or_path": exemplars.saved()}
    few = write_hands(tmp_path / "few", identities=2, captures=2) / "wild"
    with pytest.raises(DataError, match="2 identities have de-identified"):
        alpha(str(few), **own)
