"""Sidecar files: what is read, and what is said of what cannot be."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pictures import RIGHT_HAND, write_keypoints

from palmforge.data.keypoints import HEADER, read_csv, read_json
from palmforge.errors import DataError

LINE = ",".join(str(value) for value in RIGHT_HAND.ravel())


def _csv(tmp_path, *lines: str, encoding: str = "utf-8", header: str = ",".join(HEADER)):
    path = tmp_path / "keypoints.csv"
    path.write_bytes("\r\n".join([header, *lines, ""]).encode(encoding))
    return path


def test_csv_gives_points_by_file(tmp_path) -> None:
    path = write_keypoints(tmp_path, {"L_001/a.jpg": RIGHT_HAND, "L_001/b.jpg": RIGHT_HAND / 3})
    points, problems = read_csv(path)
    assert problems == {}
    np.testing.assert_array_equal(points["L_001/a.jpg"], RIGHT_HAND)
    np.testing.assert_array_equal(points["L_001/b.jpg"], RIGHT_HAND / 3)


def test_excel_is_forgiven(tmp_path) -> None:
    """Byte order mark, empty lines, empty cells, backslashes, spaces."""
    lines = (r"L_001\a.jpg," + LINE, "", "," * 28, f" L_001/b.jpg , {LINE} ,,", "  ")
    points, problems = read_csv(_csv(tmp_path, *lines, encoding="utf-8-sig"))
    assert list(points) == ["L_001/a.jpg", "L_001/b.jpg"]
    assert problems == {}


def test_wrong_lines_are_named_and_the_others_read(tmp_path) -> None:
    lines = ("a.jpg,1,2,3", "", f"b.jpg,{LINE}", f"c.jpg,{LINE},5,6", f"d.jpg,{LINE[:-3]}x")
    points, problems = read_csv(path := _csv(tmp_path, *lines))
    assert list(points) == ["b.jpg"]
    assert problems["a.jpg"] == f"{path}, line 2: 14 key points are needed, there are 1.5"
    assert "line 5: 14 key points are needed, there are 15" in problems["c.jpg"]
    assert "line 6: could not convert" in problems["d.jpg"]


@pytest.mark.parametrize("header", ["", "name,x0,y0", "file;x0;y0", "file,y0,x0", "a.jpg," + LINE])
def test_another_header_is_an_error(tmp_path, header) -> None:
    with pytest.raises(DataError, match=r"keypoints\.csv: the header must be file,x0,y0,…,y13"):
        read_csv(_csv(tmp_path, header=header))


def test_empty_and_foreign_files_are_errors(tmp_path) -> None:
    (tmp_path / "keypoints.csv").touch()
    with pytest.raises(DataError, match="header"):
        read_csv(tmp_path / "keypoints.csv")
    with pytest.raises(DataError, match=r"keypoints\.csv: not a CSV file in UTF-8"):
        read_csv(_csv(tmp_path, f"Müller/a.jpg,{LINE}", encoding="latin-1"))


def test_json_beside_a_picture(tmp_path) -> None:
    path = tmp_path / "a.json"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_text(json.dumps({"keypoints": RIGHT_HAND.tolist()}), encoding=encoding)
        np.testing.assert_array_equal(read_json(path), RIGHT_HAND)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"keypoints": [[1, 2]] * 13}, "14 key points are needed, there are 13"),
        ({"keypoints": [[1, 2, 3]] * 14}, "too many values"),
        ({"keypoints": [["a", "b"]] * 14}, "could not convert"),
        ({"keypoints": None}, "no readable 'keypoints'"),
        ({"points": []}, "no readable 'keypoints'"),
        ([1, 2], "no readable 'keypoints'"),
        ("{", "no readable 'keypoints'"),
    ],
)
def test_wrong_json_names_the_file_and_the_reason(tmp_path, content, reason) -> None:
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=reason) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
