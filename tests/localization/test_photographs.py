"""Which palms of a photograph can be used."""

from __future__ import annotations

import pytest

from palmforge.errors import ConfigError
from palmforge.localization.photographs import Acceptance


@pytest.mark.parametrize(
    "settings", [{"min_confidence": 7.0}, {"max_outside": 1.5}, {"min_side": 0.0}]
)
def test_thresholds_out_of_range_are_refused_by_name(settings):
    with pytest.raises(ConfigError, match=f"accept.{next(iter(settings))}"):
        Acceptance(**settings)
