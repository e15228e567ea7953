"""Settings that a command hands on to others' command lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml

_OPTION = "--overrides"


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings → dotted key → value."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return found


def text(value: Any) -> str:
    """A value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)


def gathered(words: Sequence[str]) -> list[str]:
    """`--overrides.a.b=1 --overrides.a.c=2` → `--overrides={"a.b": 1, "a.c": 2}`.

    Of such words jsonargparse 4.53 silently drops all but the first and the last with a common
    part. A later one wins; what is no setting stays for the parser to complain about.

    Args:
        words: A command line.
    """
    found: dict[str, Any] = {}
    others: list[str] = []
    left = iter(words)
    for word in left:
        option, equals, value = word.partition("=")
        name = option.removeprefix(_OPTION)
        if not option.startswith(_OPTION) or name[:1] not in ("", "."):
            others.append(word)
            continue
        given = value if equals else next(left, None)
        setting = None if given is None else _plain(given)
        if name and given is not None:
            found[name[1:]] = setting
        elif isinstance(setting, dict):
            found |= flat(setting)
        else:
            others += [option] if given is None else [f"{option}={given}"]
    return [*others, f"{_OPTION}={json.dumps(found)}"] if found else others


def _plain(text: str) -> Any:
    """A value as YAML has it; a date, or what is no YAML, as it was typed."""
    try:
        value = yaml.safe_load(text)
        json.dumps(value)
    except (yaml.YAMLError, TypeError):
        return text
    return value
