"""Localizers of one's own, by the word of a command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from palmforge.errors import ConfigError
from palmforge.localization.hand_points import HandPointsLocalizer
from palmforge.localization.methods import load_localizer
from palmforge.localization.pool import map_with_localizer


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_a_function_of_a_picture_is_a_detector_as_it_is():
    localizer = load_localizer("python:own_detector:detect")
    assert isinstance(localizer, HandPointsLocalizer)
    assert len(localizer.locate_all(np.zeros((90, 80, 3), np.uint8))) <= 1


def test_what_is_wrong_with_it_is_told_before_processes_start():
    with pytest.raises(ConfigError, match=r"FileNotFoundError: my_weights\.pt"):
        list(map_with_localizer(print, [1, 2], "python:own_detector:broken", num_workers=2))
