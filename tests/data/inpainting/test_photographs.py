"""A user's photographs: searched once, and what cannot be used is said."""

from __future__ import annotations

import numpy as np
import pytest
from hand_photographs import hand, write_folder
from pictures import save

from palmforge.data.hands.records import NUM_KEYPOINTS
from palmforge.data.inpainting import photographs
from palmforge.data.inpainting.photographs import find_hands
from palmforge.errors import ConfigError, DataError


def _find(root, tmp_path, **more):
    settings = {"layout": "auto", "domains": None, "localizer": "default", **more}
    return find_hands(str(root), cache_dir=str(tmp_path / "cache"), **settings)


def test_any_folder_is_read_once_and_what_is_left_out_has_a_reason(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "photographs")
    hands = _find(root, tmp_path)
    names = {record.path.removeprefix(f"{root}/"): record for record in hands.scan.records}
    assert {"a.jpg", "sub/b.png", "sub/two.png", "grey.png"} <= names.keys()
    assert names["sub/b.png"].identity == names["sub/two.png"].identity == "sub"
    assert names["a.jpg"].identity != names["grey.png"].identity
    problems = {path.removeprefix(f"{root}/"): why for path, why in hands.scan.problems.items()}
    assert "no palm found" in problems["none.png"] and "left out" in problems["bad.jpg"]
    assert "notes.txt" in problems
    found = hands.points[f"{root}/a.jpg"].points[NUM_KEYPOINTS:]
    assert np.linalg.norm(found - hand(0)[1], axis=1).max() < 0.15 * 160
    monkeypatch.setattr(photographs, "map_with_localizer", None)  # nobody searches again
    again = _find(root, tmp_path)
    assert again.scan.problems == hands.scan.problems
    assert all((again.points[p].points == hands.points[p].points).all() for p in hands.points)


def test_a_picture_that_changed_is_searched_again(tmp_path):
    save(tmp_path / "in/a.png", np.full((40, 60, 3), 90, np.uint8))
    with pytest.raises(DataError, match=r"no hand in any photograph.*a\.png.*no palm found"):
        _find(tmp_path / "in", tmp_path)
    save(tmp_path / "in/a.png", hand(0)[0])
    assert len(_find(tmp_path / "in", tmp_path).points) == 1


def test_folders_of_identities_keep_their_names(tmp_path):
    save(tmp_path / "in/L_001/1.png", hand(0)[0])
    (record,) = _find(tmp_path / "in", tmp_path).scan.records
    assert (record.subject, record.hand) == ("001", "L")


def test_a_localizer_without_21_points_is_refused(tmp_path):
    save(tmp_path / "in/a.png", hand(0)[0])
    with pytest.raises(ConfigError, match="21 key points"):
        _find(tmp_path / "in", tmp_path, localizer=f"python:{__name__}:Fourteen")


class Fourteen:
    """Finds the 14 points alone."""

    def locate_all(self, image):
        from palmforge.data.synthetic import render_palm
        from palmforge.localization.location import PalmLocation

        points = render_palm(0, 1, "IN", 160, seed=3)[1].keypoints14
        return [PalmLocation(points, None, "L", 0.9)]
