"""Hands with points, from a manifest and from any layout."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from hands import write_hands
from pictures import RIGHT_HAND, noise, save, write_keypoints

from palmforge.data.hands.records import read_hands
from palmforge.errors import DataError


def test_a_manifest_gives_both_sets_of_points_and_their_visibility(tmp_path):
    hands = read_hands(str(write_hands(tmp_path, identities=4, captures=1)))
    assert [r.identity for r in hands.scan.records] == [
        "L_000000", "L_000001", "R_000000", "R_000001"
    ]  # fmt: skip
    for record in hands.scan.records:
        known = hands.points[record.path]
        assert known.points.shape == (35, 2) and np.isfinite(known.points).all()
        assert set(known.visible) <= {0.0, 1.0}


def test_photographs_with_fourteen_points_leave_the_others_unknown(tmp_path):
    folder = tmp_path / "iPhone" / "Nature"
    save(folder / "R_001" / "IMG_1.JPG", noise(200, 240))
    write_keypoints(folder, {"R_001/IMG_1.JPG": RIGHT_HAND})
    hands = read_hands(str(tmp_path))
    (known,) = hands.points.values()
    np.testing.assert_allclose(known.points[:14], RIGHT_HAND)
    assert np.isnan(known.points[14:]).all() and np.isnan(known.visible).all()


def test_pictures_without_points_are_an_error_that_says_what_to_do(tmp_path):
    save(tmp_path / "R_001" / "a.png", noise(64, 64))
    with pytest.raises(DataError, match=r"keypoints\.csv"):
        read_hands(str(tmp_path))


def test_a_manifest_without_points_is_refused_by_column(tmp_path):
    path = write_hands(tmp_path, identities=2, captures=1) / "manifest.parquet"
    pq.write_table(pq.read_table(path).drop(["keypoints21"]), path)
    with pytest.raises(DataError, match="keypoints21"):
        read_hands(str(tmp_path))


def test_a_bad_row_is_left_out_by_name(tmp_path):
    path = write_hands(tmp_path, identities=2, captures=1) / "manifest.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[0]["keypoints14"][3] = float("nan")
    pq.write_table(table.from_pylist(rows, table.schema), path)
    hands = read_hands(str(tmp_path))
    assert len(hands.scan.records) == 1
    assert "keypoints14" in next(iter(hands.scan.problems.values()))
