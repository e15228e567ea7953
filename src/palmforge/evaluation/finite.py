"""What JSON can say."""

from __future__ import annotations

from typing import Any

import numpy as np


def finite(value: Any) -> Any:
    """The same with null for NaN and infinity, which JSON does not have, at any depth."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
