"""Settings handed on to other command lines arrive, all of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonargparse import auto_cli

from palmforge.commands.overrides import flat, gathered, text


def taken(*words: str) -> Any:
    """What a command gets of a command line."""

    def command(overrides: dict[str, Any] | None = None) -> Any:
        return overrides

    return auto_cli(command, args=gathered(words))


def test_settings_with_a_common_part_all_arrive():
    words = [f"--overrides.{name}={value}" for name, value in (
        ("data.root", "/data/a b"), ("data.synthetic.seed", 7), ("data.synthetic.size", 64),
        ("data.domains", "[IF, IN]"), ("trainer.max_steps", 4), ("trainer.devices", 1),
        ("model.lr", "1e-3"), ("model.teacher_ckpt", "null"), ("name", "2026-11-22"),
    )]  # fmt: skip
    assert taken(*words) == {
        "data.root": "/data/a b", "data.synthetic.seed": 7, "data.synthetic.size": 64,
        "data.domains": ["IF", "IN"], "trainer.max_steps": 4, "trainer.devices": 1,
        "model.lr": 0.001, "model.teacher_ckpt": None, "name": "2026-11-22",
    }  # fmt: skip


def test_a_later_one_wins_in_whatever_form_it_is_given():
    given = json.dumps({"data": {"root": "x", "size": 1}, "trainer.devices": 2})
    found = taken("--overrides.data.root", "y", "--overrides", given, "--overrides.data.size=3")
    assert found == {"data.root": "x", "trainer.devices": 2, "data.size": 3}
    assert taken() is None


def test_other_words_stay_where_they_are():
    words = ["file.yaml", "--jobs", "2", "--overrides_of=3", "--dry_run=true"]
    assert gathered(words) == words
    assert gathered(["--overrides", "3"]) == ["--overrides=3"]
    assert gathered(["--overrides.a"]) == ["--overrides.a"]


@pytest.mark.parametrize("words", [["--overrides=3"], ["--overrides.a"]])
def test_what_is_no_setting_is_refused_by_the_parser(words, capsys):
    with pytest.raises(SystemExit):
        taken(*words)
    assert "overrides" in capsys.readouterr().err


def test_nested_settings_are_told_as_a_command_line_takes_them():
    assert flat({"a": {"b": {"c": 1}, "d": [2]}, "e": None}) == {"a.b.c": 1, "a.d": [2], "e": None}
    assert [text(value) for value in ("x", 1, None, [1, "b"])] == ["x", "1", "null", '[1, "b"]']
