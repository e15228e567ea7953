"""Groups on the disk."""

from __future__ import annotations

import numpy as np
import pytest

from palmforge.errors import DataError
from palmforge.evaluation.deidentified_folder import Concealed, DeidentifiedPalms, Measured

METHODS = ["ours", "α=0.2"]


def measured(source: str, number: int, shown: bool = False) -> Measured:
    picture = np.full((4, 4, 3), number, np.uint8)
    concealed = {
        method: Concealed(
            np.full((2 if place == 0 else 1, 3, 8, 8), number + place, np.uint8),
            np.full(4, number + 0.5), np.full(5, np.nan), np.full(6, float(number)),
            picture + place if shown else None,
        )
        for place, method in enumerate(METHODS)
    }  # fmt: skip
    roi = np.full((3, 8, 8), number, np.uint8)
    return Measured(
        source, roi, np.full(6, number * 1.0), np.full(3, 0.1), concealed,
        picture if shown else None,
    )  # fmt: skip


def test_all_arrays_are_in_the_order_of_the_names_whatever_the_groups(tmp_path):
    palms = DeidentifiedPalms(tmp_path, METHODS)
    palms.write([measured("c", 3), measured("a", 1, shown=True)], {"z": "no hand found"})
    palms.write([measured("b", 2)], {})
    palms.write([], {"y": "unreadable: cut"})
    assert palms.sources == ["a", "b", "c"]
    assert palms.array("roi")[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert palms.array("rois", "ours").shape == (3, 2, 3, 8, 8)
    assert palms.array("rois", "α=0.2")[:, 0, 0, 0, 0].tolist() == [2, 3, 4]
    assert palms.array("quality", "ours")[:, 0].tolist() == [1.5, 2.5, 3.5]
    assert palms.problems == {"z": "no hand found", "y": "unreadable: cut"}
    assert palms.done() == {"a", "b", "c", "y", "z"}
    ((source, original, made),) = palms.shown()
    assert source == "a" and original[0, 0, 0] == 1 and made["α=0.2"][0, 0, 0] == 2


def test_the_same_group_again_changes_nothing(tmp_path):
    palms = DeidentifiedPalms(tmp_path, METHODS)
    for _ in range(2):
        palms.write([measured("a", 1), measured("b", 2)], {})
    assert palms.sources == ["a", "b"]


def test_an_empty_folder_and_a_damaged_file(tmp_path):
    palms = DeidentifiedPalms(tmp_path, METHODS)
    assert palms.done() == set() and palms.sources == []
    palms.write([measured("a", 1)], {})
    (path,) = tmp_path.glob("group-*.npz")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="damaged"):
        palms.done()


def test_pickles_are_not_read(tmp_path):
    np.savez(tmp_path / "group-0.npz", sources=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="damaged"):
        DeidentifiedPalms(tmp_path, METHODS).done()
