"""What a file is checked on."""

from __future__ import annotations

import numpy as np
from exports import palms

from palmforge.export.palms import read_palms


def test_rendered_domains_are_kept_apart(tmp_path):
    """Two domains of one folder would be scanned as one set, and the first be taken for both."""
    sets = [read_palms("synthetic", "code", 32, 20, d, str(tmp_path)) for d in ("IF", "wild")]
    first, second = sets
    assert "of IF" in first.name and "of wild" in second.name
    assert first.pixels.shape == second.pixels.shape == (20, 3, 32, 32)
    assert not np.array_equal(first.pixels, second.pixels)


def test_of_several_domains_that_of_the_training_is_taken_and_no_path_is_named(palms_root):
    found = read_palms(palms_root, "code", 64, 20, "IN", "")
    other = read_palms(palms_root, "code", 64, 20, "wild", "")
    assert [palms.name for palms in (found, other)] == ["palms, domain IN", "palms, domain IF"]
    assert not np.array_equal(found.pixels, other.pixels)


def test_palms_that_calibrate_judge_nothing(tmp_path):
    found = read_palms(palms(tmp_path), "code", 64, 25, "wild", "")
    assert len(found.pixels) == len(found.labels) == 30 and len(found.calibration) == 6
    assert 0 not in found.labels
