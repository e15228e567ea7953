"""The data card."""

from __future__ import annotations

import pytest
import yaml
from factories import make, plan

from palmforge.data.factory.card import data_card


@pytest.fixture(scope="module")
def done():
    return make(plan(12))


def card(done) -> str:
    made_by = {"generator": "world:IF", "negative_prompt": "a|b\nc", "recogniser_sha256": None}
    return data_card("palms", done, 64, made_by, done.settings())


def test_it_begins_with_the_header_that_hubs_read(done):
    _, header, body = card(done).split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "other"
    assert body.startswith("# palms\n\n12 synthetic palms × 3 captures, 64 × 64 pixels")


def test_it_counts_what_was_rejected_and_why(done):
    table = card(done).split("## What made it")[0].splitlines()
    rows = {line.split(" | ")[0]: line for line in table if line.startswith("|")}
    captures = sum(map(len, done.attempts.values()))
    rejected = captures - 36 - done.num_surplus
    assert f"| captures | {captures} | {rejected} |" in rows["| captures"]
    assert rows["| captures"].endswith(f" | {done.num_surplus} |") and done.num_surplus > 0
    assert rows["| references"].endswith(" | 0 |")
    assert f"| references | {done.num_judged} |" in rows["| references"]
    for reason in ("brightness", "consistency"):
        assert f"{reason} " in rows["| captures"]
    given_up = sum(map(done.given_up, done.accepted))
    assert given_up and f"\n{given_up} palms were given up" in card(done)


def test_it_tells_what_made_it_with_what_settings_and_of_licences(done):
    text = card(done)
    assert "| generator | `world:IF` |" in text
    assert "| recogniser_sha256 |  |" in text
    assert "| negative_prompt | `a\\|b c` |" in text  # a cell stays one
    assert "| filters.uniqueness | `0.8` |" in text and "## Licence" in text
