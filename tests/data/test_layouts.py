"""Directories → records, and every oddity by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pictures import RIGHT_HAND, noise, save, write_keypoints, write_tree

from palmforge.data.layouts import scan
from palmforge.errors import DataError


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()  # pictures are not opened when a directory is read
    return root


def test_the_embedded_tree_is_read_as_xjtu_up(palms_root) -> None:
    found = scan(palms_root)
    assert (found.layout, found.domains, found.problems) == ("xjtu_up", ["IF", "IN"], {})
    assert len(found.records) == 8 * 7 * 2
    assert all(len(record.keypoints) == 14 for record in found.records)
    assert {record.identity for record in found.records} == {
        f"{hand}_00{subject}" for hand in "LR" for subject in range(1, 5)
    }


def test_a_path_becomes_a_record(tmp_path) -> None:
    (record,) = scan(str(_touch(tmp_path, "MI8/Nature/r_042/IMG_7.JPG"))).records
    assert record.path == str(tmp_path / "MI8/Nature/r_042/IMG_7.JPG")
    assert (record.subject, record.hand, record.identity) == ("042", "R", "R_042")
    assert (record.device, record.illumination, record.domain) == ("mi8", "nature", "MN")
    assert record.keypoints is None


def test_names_of_devices_and_lights_have_no_case(tmp_path) -> None:
    root = _touch(
        tmp_path,
        "HUAWEI/Flash/L_001/a.jpg", "huawei/flash/L_001/b.jpg", "iPHONE/NATURAL/L_001/c.jpg",
    )  # fmt: skip
    found = scan(str(root))
    assert found.domains == ["IN", "HF"]
    assert [Path(record.path).name for record in found.records] == ["a.jpg", "b.jpg", "c.jpg"]
    assert {record.device for record in found.records} == {"huawei", "iphone"}


def test_domains_come_in_the_order_of_the_data_set(tmp_path) -> None:
    devices = ("LG", "MI8", "Samsung", "huawei", "iPhone")
    names = [f"{d}/{i}/L_001/a.jpg" for d in devices for i in ("Flash", "Nature")]
    found = scan(str(_touch(tmp_path, *names)))
    assert found.domains == ["IF", "IN", "HF", "HN", "LF", "LN", "SF", "SN", "MF", "MN"]


def test_file_names_are_sorted_and_others_are_not_pictures(tmp_path) -> None:
    names = ("IMG_10.JPG", "IMG_2.JPG", "a.png", ".IMG_0.JPG", "IMG_1.txt", "Thumbs.db")
    root = _touch(tmp_path, *(f"LG/Flash/L_001/{name}" for name in names))
    found = [Path(record.path).name for record in scan(str(root)).records]
    assert found == ["IMG_10.JPG", "IMG_2.JPG", "a.png"]


def test_what_does_not_belong_is_left_out_by_name(tmp_path) -> None:
    root = _touch(
        tmp_path,
        "iPhone/Flash/L_001/a.jpg", "iPhone/Dusk/L_001/a.jpg", "iPhone/Flash/thumbs/a.jpg",
        "Nokia/Flash/L_001/a.jpg", ".git/x", "README.txt",
    )  # fmt: skip
    (root / "Samsung" / "Nature").mkdir(parents=True)
    found = scan(str(root))
    assert len(found.records) == 1
    assert {str(Path(p).relative_to(root)): r for p, r in found.problems.items()} == {
        "Nokia": "not one of the devices iphone, huawei, lg, samsung, mi8: left out",
        "Samsung/Nature": "domain SN is empty",
        "iPhone/Dusk": "neither Flash nor Nature: left out",
        "iPhone/Flash/thumbs": "not named like L_001: left out",
    }


def test_an_empty_domain_is_refused_when_asked_for(tmp_path) -> None:
    root = _touch(tmp_path, "iPhone/Flash/L_001/a.jpg")
    (root / "Samsung" / "Nature").mkdir(parents=True)
    with pytest.raises(DataError, match=r"data\.domains: SN not in .*, which has IF"):
        scan(str(root), domains=["IF", "SN"])
    with pytest.raises(DataError, match=r"data\.domains: the list is empty"):
        scan(str(root), domains=[])


def test_only_the_domains_asked_for(tmp_path) -> None:
    found = scan(str(write_tree(tmp_path, ("IF", "IN", "HF"), ("L_001",), 1)), domains=["HF", "IF"])
    assert found.domains == ["IF", "HF"]
    assert len(found.records) == 2


def test_missing_and_empty_roots_say_what_to_do(tmp_path) -> None:
    with pytest.raises(DataError, match=r"data\.root: no directory '.*nowhere'.*synthetic"):
        scan(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"no image of the layout 'folder'.*identity"):
        scan(str(tmp_path))
    with pytest.raises(DataError, match=r"no image of the layout 'xjtu_up'.*Flash"):
        scan(str(tmp_path), "xjtu_up")
    with pytest.raises(DataError, match=r"data\.layout: 'palmprints' is not one of auto"):
        scan(str(tmp_path), "palmprints")


def test_a_folder_of_identities(tmp_path) -> None:
    names = (
        "L_007/b.jpg",
        "L_007/a.jpg",
        "007_r/a.png",
        "8-left/a.jpg",
        "anna/a.jpg",
        "Left_9/a.jpg",
    )
    found = scan(str(_touch(tmp_path, *names)))
    assert found.layout == "folder"
    assert [(r.identity, r.subject, r.hand) for r in found.records] == [
        ("007_r", "007", "R"),
        ("8-left", "8", "L"),
        ("L_007", "007", "L"),
        ("L_007", "007", "L"),
        ("Left_9", "9", "L"),
        ("anna", "anna", ""),
    ]
    assert [Path(r.path).name for r in found.records[2:4]] == ["a.jpg", "b.jpg"]
    assert found.domains == [""]
    with pytest.raises(DataError, match=r"IF not in .*, which has \(none\)"):
        scan(str(tmp_path), domains=["IF"])


def test_folders_without_a_picture_are_reported(tmp_path) -> None:
    found = scan(str(_touch(tmp_path, "a/1.jpg", "b/notes.txt")))
    assert found.problems == {str(tmp_path / "b"): "no image in it: left out"}


def test_key_points_come_from_the_csv_of_the_domain(tmp_path) -> None:
    folder = _touch(tmp_path, "LG/Flash/L_001/a.jpg", "LG/Flash/L_001/b.jpg") / "LG/Flash"
    write_keypoints(folder, {"L_001/b.jpg": RIGHT_HAND + 1, "L_001/a.jpg": RIGHT_HAND})
    a, b = scan(str(tmp_path)).records
    np.testing.assert_array_equal(a.keypoints, RIGHT_HAND)
    np.testing.assert_array_equal(b.keypoints, RIGHT_HAND + 1)


def test_pictures_and_lines_that_do_not_meet_are_reported(tmp_path) -> None:
    names = [f"LG/Flash/L_001/{name}.jpg" for name in ("good", "unlisted", "short")]
    folder = _touch(tmp_path, *names) / "LG/Flash"
    points = {"L_001/good.jpg": RIGHT_HAND, "L_001/short.jpg": RIGHT_HAND[:13]}
    write_keypoints(folder, {**points, "L_001/gone.jpg": RIGHT_HAND, "L_9/gone.jpg": [[1, 2]]})
    found = scan(str(tmp_path))
    assert [Path(r.path).name for r in found.records] == ["good.jpg"]
    reasons = {str(Path(p).relative_to(folder)): r for p, r in found.problems.items()}
    assert reasons.keys() == {
        "L_001/unlisted.jpg", "L_001/short.jpg", "L_001/gone.jpg", "L_9/gone.jpg"
    }  # fmt: skip
    assert reasons["L_001/gone.jpg"] == "listed in keypoints.csv, but not there"
    assert "not listed in" in reasons["L_001/unlisted.jpg"]
    assert "line 3: 14 key points are needed, there are 13" in reasons["L_001/short.jpg"]


def test_a_root_whose_pictures_all_drop_out_says_why(tmp_path) -> None:
    _touch(tmp_path, "LG/Flash/L_001/a.jpg")
    write_keypoints(tmp_path / "LG/Flash", {"L_001/a.jpg": RIGHT_HAND[:3]})
    with pytest.raises(DataError, match=r"First problem: .*a\.jpg: left out: .*there are 3"):
        scan(str(tmp_path))


@pytest.mark.parametrize("where", ["LG/Flash/L_001", "somebody"])
def test_key_points_come_from_the_json_beside_the_picture(tmp_path, where) -> None:
    folder = tmp_path / where
    for name, points in (("a", RIGHT_HAND), ("b", RIGHT_HAND[:13])):
        save(folder / f"{name}.jpg", noise(8, 8))
        (folder / f"{name}.json").write_text(json.dumps({"keypoints": points.tolist()}))
    found = scan(str(tmp_path))
    (record,) = found.records
    np.testing.assert_array_equal(record.keypoints, RIGHT_HAND)
    assert "there are 13" in found.problems[str(folder / "b.jpg")]
