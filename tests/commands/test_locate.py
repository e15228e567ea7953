"""`locate predict`, `fit` and `evaluate`."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import cut_short, noise, save
from PIL import Image

from palmforge.commands import locate
from palmforge.commands.locate_results import Journal, PictureResult
from palmforge.data.images import read_image
from palmforge.data.layouts import scan
from palmforge.data.roi import extract_roi, xjtu_roi_quad
from palmforge.errors import ConfigError, DataError
from palmforge.localization.photographs import Acceptance

METHOD = "python:truth_localizer:TruthLocalizer"


@pytest.fixture(autouse=True)
def _truth_localizer(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "localization"))


def _fill(top: Path) -> Path:
    """What the issue names, and more."""
    from truth_localizer import photograph

    save(top / "a" / "right.JPG", photograph("right"), quality=95)
    save(top / "a" / "left.png", photograph("left", seed=1))
    save(top / "b" / "two hands.jpg", photograph("both", 400, 480, seed=2), quality=95)
    save(top / "b" / "nobody.webp", photograph("none", seed=3))
    save(top / "b" / "tiny.png", photograph("right", 64, 64, seed=4))
    save(top / "b" / "unsure.png", photograph("unsure", seed=5))
    save(top / "huge.jpg", photograph("right", 4800, 6300, seed=6), quality=60)
    save(top / "right.png", photograph("right", seed=8))
    cut_short(save(top / "cut.jpg", noise(200, 240)))
    (top / "notes.jpg").write_text("not a picture")
    (top / "readme.txt").write_text("not looked at")
    return top


@pytest.fixture(scope="module")
def _module_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "localization"))
        yield


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, _module_path) -> Path:
    """Not to be changed."""
    return _fill(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def located(photographs, tmp_path_factory) -> Path:
    """Not to be changed."""
    out = tmp_path_factory.mktemp("located") / "out"
    locate.predict(str(photographs), str(out), METHOD, size=64, num_workers=1)
    return out


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _files(top: Path) -> dict[str, bytes]:
    return {p.relative_to(top).as_posix(): p.read_bytes() for p in top.rglob("*") if p.is_file()}


def test_every_picture_is_in_one_of_two_tables(located) -> None:
    palms = [(r["file"], r["palm"], r["handedness"]) for r in _rows(located / "locations.csv")]
    assert palms == [
        ("huge.jpg", "1", "R"), ("right.png", "1", "R"), ("a/left.png", "1", "L"),
        ("a/right.JPG", "1", "R"), ("b/two hands.jpg", "1", "R"), ("b/two hands.jpg", "2", "L"),
    ]  # fmt: skip
    rejected = {row["file"]: row["reason"] for row in _rows(located / "rejected.csv")}
    assert rejected.keys() == {
        "cut.jpg", "notes.jpg", "b/nobody.webp", "b/tiny.png", "b/unsure.png"
    }  # fmt: skip
    assert rejected["cut.jpg"].startswith("corrupt: ")
    assert rejected["b/nobody.webp"] == "no palm found"
    assert rejected["b/tiny.png"].startswith("palm too small: its ROI is 17 pixels wide")
    assert rejected["b/unsure.png"] == "low confidence: 0.20 < 0.5"


def test_coordinates_are_those_of_the_full_picture(located) -> None:
    from truth_localizer import truth

    rows = {row["file"]: row for row in _rows(located / "locations.csv")}
    for file, size in (("huge.jpg", (4800, 6300)), ("right.png", (200, 240))):
        palm = truth("right", *size)[0]
        row = rows[file]
        points = np.array([[float(row[f"x{i}"]), float(row[f"y{i}"])] for i in range(14)])
        quad = np.array([[float(row[f"quad_{a}{i}"]) for a in "xy"] for i in range(4)])
        assert np.allclose(points, palm.keypoints14, atol=1e-3 * size[0])
        assert np.allclose(quad, palm.quad, atol=1e-3 * size[0])
    assert rows["huge.jpg"]["hand_x20"] != "" and rows["a/left.png"]["hand_x20"] == ""


def test_rois_are_the_crops_of_the_pictures(located, photographs) -> None:
    from truth_localizer import truth

    assert sorted(p.relative_to(located).as_posix() for p in located.glob("rois/**/*.png")) == [
        "rois/a/left.png.png", "rois/a/right.JPG.png", "rois/b/two hands.jpg.png",
        "rois/b/two hands.jpg_2.png", "rois/huge.jpg.png", "rois/right.png.png",
    ]  # fmt: skip
    image, _ = read_image(photographs / "a" / "left.png")
    roi, _ = read_image(located / "rois" / "a" / "left.png.png")
    assert np.array_equal(roi, extract_roi(image, truth("left")[0].quad, 64))


def test_a_turned_photograph_has_the_points_of_the_upright_one(tmp_path) -> None:
    from truth_localizer import photograph, truth

    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: the file's rows are columns
    stored = np.ascontiguousarray(np.rot90(photograph("right", 400, 480)))
    save(tmp_path / "in" / "x.png", stored, exif=exif)
    locate.predict(str(tmp_path / "in"), str(tmp_path / "out"), METHOD, num_workers=1)
    row = _rows(tmp_path / "out" / "locations.csv")[0]
    expected = truth("right", 400, 480)[0].keypoints14
    assert [float(row["x0"]), float(row["y0"])] == pytest.approx(expected[0], abs=0.01)


def test_the_inputs_are_not_touched(photographs, located) -> None:
    assert {p.name for p in photographs.iterdir()} == {
        "a", "b", "huge.jpg", "right.png", "cut.jpg", "notes.jpg", "readme.txt"
    }  # fmt: skip


def test_processes_change_nothing(photographs, located, tmp_path) -> None:
    locate.predict(str(photographs), str(tmp_path / "out"), METHOD, size=64, num_workers=2)
    assert _files(tmp_path / "out") == _files(located)


def test_it_goes_on_where_it_was_stopped(photographs, located, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    locate.predict(str(photographs), str(out), METHOD, size=64, num_workers=1, montage=False)
    journal = out / "results.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:6]) + lines[6][:20])  # killed while it wrote a line
    for name in ("locations.csv", "rejected.csv"):
        (out / name).unlink()
    old = (out / "rois" / "right.png.png").stat().st_mtime_ns
    capsys.readouterr()
    locate.predict(str(photographs), str(out), METHOD, size=64, num_workers=1)
    assert "(6 known from an earlier run" in capsys.readouterr().out
    assert (out / "rois" / "right.png.png").stat().st_mtime_ns == old
    assert _files(out) == _files(located)


def test_a_changed_picture_is_looked_at_again(tmp_path, capsys) -> None:
    from truth_localizer import photograph

    top, out = tmp_path / "in", tmp_path / "out"
    for name in ("x.png", "y.png"):
        save(top / name, photograph("none"))
    locate.predict(str(top), str(out), METHOD, num_workers=1, montage=False)
    save(top / "x.png", photograph("right"))
    os.utime(top / "x.png", ns=(1, 1))
    locate.predict(str(top), str(out), METHOD, num_workers=1, montage=False)
    assert [row["file"] for row in _rows(out / "locations.csv")] == ["x.png"]
    assert [row["file"] for row in _rows(out / "rejected.csv")] == ["y.png"]
    (top / "y.png").unlink()
    locate.predict(str(top), str(out), METHOD, num_workers=1, montage=False)
    assert _rows(out / "rejected.csv") == []


def test_another_runs_results_are_not_overwritten(photographs, located, tmp_path) -> None:
    before = _files(located)
    with pytest.raises(ConfigError, match="size: 64 → 128"):
        locate.predict(str(photographs), str(located), METHOD, size=128)
    (tmp_path / "mine.txt").write_text("a file of the user's")
    with pytest.raises(ConfigError, match="not of `locate predict`"):
        locate.predict(str(photographs), str(tmp_path), METHOD)
    assert _files(located) == before


def test_sidecars_are_read_by_the_layouts(tmp_path) -> None:
    from truth_localizer import photograph

    for layout, names in {
        "xjtu_up": ["iPhone/Flash/R_001/IMG_1.JPG", "LG/Nature/R_002/IMG_1.JPG"],
        "folder": ["R_001/one.png", "R_002/one.png", "R_002/none.png"],
    }.items():
        top, out = tmp_path / layout / "in", tmp_path / layout / "out"
        for name in names:
            save(top / name, photograph("none" if "none" in name else "right", 400, 480))
        locate.predict(str(top), str(out), METHOD, num_workers=1, montage=False)
        for sidecar in (out / "keypoints").rglob("*.csv"):
            target = top / sidecar.relative_to(out / "keypoints")
            target.write_bytes(sidecar.read_bytes())
        found = scan(str(top))
        assert found.layout == layout and len(found.records) == 2
        assert all(record.keypoints is not None for record in found.records)
        assert list(found.problems) == [str(top / n) for n in names if "none" in n]


def test_a_palm_that_leaves_the_picture(tmp_path) -> None:
    from truth_localizer import photograph

    image = photograph("right")
    save(tmp_path / "in" / "x.png", image)
    accept = Acceptance(max_outside=-1)  # even a palm in the middle is too far out
    locate.predict(str(tmp_path / "in"), str(tmp_path / "out"), METHOD, accept=accept)
    assert _rows(tmp_path / "out" / "rejected.csv")[0]["reason"].startswith(
        "the ROI leaves the picture: 0 % of it is outside"
    )


def test_the_montage_and_the_summary(located, capsys, photographs) -> None:
    assert cv2.imread(str(located / "montage.png")).shape[0] > 300
    locate.predict(str(photographs), str(located), METHOD, size=64, num_workers=1)
    text = capsys.readouterr().out
    assert "10 pictures (10 known from an earlier run)" in text
    assert "5 with 6 palms" in text and "5 without" in text
    assert " 2 corrupt" in text and " 1 palm too small" in text


def test_no_pictures_and_no_folder(tmp_path) -> None:
    with pytest.raises(DataError, match="no directory"):
        locate.predict(str(tmp_path / "nowhere"), str(tmp_path / "out"), METHOD)
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="no picture"):
        locate.predict(str(tmp_path / "in"), str(tmp_path / "out"), METHOD)
    save(tmp_path / "in" / "x.png", noise(64, 64))
    with pytest.raises(ConfigError, match="no_such_module"):
        locate.predict(str(tmp_path / "in"), str(tmp_path / "out"), "python:no_such_module:f")


def test_a_journal_keeps_the_newest_line(tmp_path) -> None:
    journal = Journal(tmp_path / "j")
    journal.add(PictureResult("é.jpg", (1, 2), [], ["old"]))
    journal.add(PictureResult("é.jpg", (1, 3), [], ["new"]))
    journal.close()
    again = Journal(tmp_path / "j")
    assert again.has("é.jpg", (1, 3)) and not again.has("é.jpg", (1, 2))
    assert [result.reasons for result in again.read(["é.jpg"])] == [["new"]]
    again.close()


def _evaluation_set(top: Path) -> None:
    """A manifest of four pictures: right, a wrong hand, upside down, not found."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from truth_localizer import photograph, truth

    palm = truth("right", 400, 480)[0].keypoints14
    mirrored = np.stack([479 - palm[:, 0], palm[:, 1]], axis=1)
    rows = []
    for number, (kind, points) in enumerate(
        [("right", palm), ("right", mirrored), ("right", [479, 399] - palm), ("none", palm)]
    ):
        save(top / f"{number}.png", photograph(kind, 400, 480, seed=number))
        rows.append(
            {
                "file": f"{number}.png", "keypoints14": np.ravel(points).tolist(),
                "preset": "wild", "size": 480, "viewpoint.tilt.0": 3.0,
                "viewpoint.tilt.1": 4.0 + 10 * (number > 1),
            }
        )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), top / "manifest.parquet")


def test_evaluation_by_group(tmp_path) -> None:
    _evaluation_set(tmp_path / "set")
    locate.evaluate(str(tmp_path / "set"), str(tmp_path / "out"), METHOD, num_workers=1)
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    groups = content["methods"][METHOD]["groups"]
    whole = groups["all"]["all"]
    assert whole["images"] == 4 and whole["found"] == 0.75
    assert whole["mirrored"] == 0.25 and whole["flipped"] == 0.25
    assert whole["iou_over_0.7"] == 0.25 and whole["failure_10"] == 0.75
    assert groups["rotation"].keys() == {"0–15°", "135–180°"}
    assert groups["tilt"]["0–10°"]["images"] == 2 and groups["preset"].keys() == {"wild"}
    table = (tmp_path / "out" / "evaluation.md").read_text()
    assert f"| all | {METHOD} | 4 | 75.0 |" in table and "## tilt" in table


def test_dlib_is_trained_from_a_layout_and_compared(palms_root, tmp_path, capsys) -> None:
    pytest.importorskip("dlib")
    from palmforge.localization.dlib_reference import DlibSettings

    quick = DlibSettings(trees_per_level=40, cascade_depth=6, oversampling=3, svm_epsilon=0.1)
    model = str(tmp_path / "model")
    locate.fit(model, palms_root, num_images=40, settings=quick, num_workers=1)
    assert f"dlib:{model}" in capsys.readouterr().out
    locate.evaluate(palms_root, str(tmp_path / "out"), f"dlib:{model}", 8, num_workers=1)
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    groups = content["methods"][f"dlib:{model}"]["groups"]
    assert groups["all"]["all"]["images"] == 8 and groups["all"]["all"]["iou_over_0.7"] > 0.5
    assert groups["preset"].keys() == {"IF", "IN"}


def test_the_quad_of_a_row_is_that_of_its_points(located) -> None:
    for row in _rows(located / "locations.csv"):
        points = np.array([[float(row[f"{a}{i}"]) for a in "xy"] for i in range(14)])
        quad = [[float(row[f"quad_{a}{i}"]) for a in "xy"] for i in range(4)]
        assert np.allclose(xjtu_roi_quad(points), quad, atol=0.02)
