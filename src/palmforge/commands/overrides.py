"""Settings that a command hands on to others' command lines."""

from __future__ import annotations

import json
from typing import Any


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
