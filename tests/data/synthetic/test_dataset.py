import csv
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from palmforge.data.synthetic import SyntheticPalms, render_palm
from palmforge.errors import DataError

PALMS = SyntheticPalms(num_identities=3, images_per_identity=2, domains=("IF", "HN"), size=128)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("palms")
    PALMS.write(str(root))
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_files_lie_as_in_xjtu_up(written):
    palms = ["L_001", "R_001", "L_002"]
    pictures = {
        f"{domain}/{palm}/IMG_{capture:04d}.JPG"
        for domain in ("iPhone/Flash", "huawei/Nature")
        for palm in palms
        for capture in (1, 2)
    }
    others = {"synthetic.json", "iPhone/Flash/keypoints.csv", "huawei/Nature/keypoints.csv"}
    others.add("manifest.parquet")
    assert set(contents(written)) == pictures | others


def test_the_sidecar_holds_the_points_of_every_picture(written):
    with open(written / "huawei/Nature/keypoints.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][:5] == ["file", "x0", "y0", "x1", "y1"] and rows[0][-1] == "y13"
    files = [row[0] for row in rows[1:]]
    assert files == sorted(files) and len(files) == 6
    row = rows[1 + files.index("R_001/IMG_0002.JPG")]
    _, truth = render_palm(identity=1, capture=2, preset="HN", size=128, seed=0)
    assert all(len(value.split(".")[1]) == 2 for value in row[1:])
    points = np.array(row[1:], dtype=float).reshape(14, 2)
    np.testing.assert_allclose(points, truth.keypoints14, atol=0.0051)


def test_settings_and_format_version_are_recorded(written):
    recorded = json.loads((written / "synthetic.json").read_text())
    assert recorded == {
        "format_version": 2,
        "num_identities": 3,
        "images_per_identity": 2,
        "domains": ["IF", "HN"],
        "size": 128,
        "seed": 0,
        "what": "hands",
        "frame_error": 0.0,
        "shard_size": 0,
    }


def test_two_processes_write_the_bytes_of_one(written, tmp_path):
    PALMS.write(str(tmp_path), num_workers=2)
    assert contents(tmp_path) == contents(written)


def test_an_interrupted_run_is_completed_to_the_same_bytes(tmp_path):
    PALMS.write(str(tmp_path))
    before = contents(tmp_path)
    untouched = tmp_path / "huawei/Nature/L_001/IMG_0001.JPG"
    stamp = untouched.stat().st_mtime_ns
    (tmp_path / "iPhone/Flash/R_001/IMG_0002.JPG").unlink()
    (tmp_path / "huawei/Nature/keypoints.csv").unlink()
    PALMS.write(str(tmp_path))
    assert contents(tmp_path) == before
    assert untouched.stat().st_mtime_ns == stamp


def test_the_manifest_names_every_number_of_every_picture(written):
    table = pq.read_table(written / "manifest.parquet")
    rows = {row["file"]: row for row in table.to_pylist()}
    row = rows["huawei/Nature/R_001/IMG_0002.JPG"]
    _, truth = render_palm(identity=1, capture=2, preset="HN", size=128, seed=0)
    assert len(rows) == 12
    assert (row["identity"], row["hand"], row["preset"], row["capture"]) == (1, "R", "HN", 2)
    np.testing.assert_allclose(np.reshape(row["keypoints21"], (21, 2)), truth.keypoints21)
    assert row["visible14"] == truth.visible14.tolist()
    assert row["viewpoint.roll"] == truth.capture.viewpoint.roll
    assert row["background.kind"] == truth.background.kind
    drawn = {"pose.flexion.1.0", "light.directions.0.2", "device.noise", "worn.cuff", "blotches"}
    assert drawn <= set(row)
    other = rows["huawei/Nature/R_001/IMG_0001.JPG"]  # what identifies the palm stays the same
    fixed = [name for name in row if name.startswith(("skin.", "hand."))]
    assert len(fixed) > 15 and all(row[name] == other[name] for name in fixed)
    assert row["skin.palm.0"] != rows["huawei/Nature/L_002/IMG_0001.JPG"]["skin.palm.0"]


def test_wild_rois_come_without_key_points_and_lie_by_identity(tmp_path):
    palms = SyntheticPalms(2, 2, ("wild",), size=48, what="rois", frame_error=1.0)
    palms.write(str(tmp_path))
    files = {name for name in contents(tmp_path) if name.endswith(".JPG")}
    assert files == {f"{palm}/IMG_000{n}.JPG" for palm in ("L_001", "R_001") for n in (1, 2)}
    assert not (tmp_path / "keypoints.csv").exists()
    rows = pq.read_table(tmp_path / "manifest.parquet").to_pylist()
    assert all(row["source_side"] > 0 and row["frame_error"] == 1.0 for row in rows)
    before = contents(tmp_path)
    (tmp_path / "R_001/IMG_0001.JPG").unlink()
    palms.write(str(tmp_path))
    assert contents(tmp_path) == before


def test_shards_hold_each_picture_once_with_its_row(tmp_path):
    palms = SyntheticPalms(3, 2, ("wild",), size=48, what="rois", shard_size=4)
    palms.write(str(tmp_path), num_workers=2)
    names = {}
    for shard in sorted(tmp_path.glob("*.tar")):
        with tarfile.open(shard) as file:
            for entry in file:
                names[entry.name] = file.extractfile(entry).read()
    keys = {f"{palm}-IMG_000{n}" for palm in ("L_001", "R_001", "L_002") for n in (1, 2)}
    assert set(names) == {f"{key}.{suffix}" for key in keys for suffix in ("jpg", "json")}
    row = json.loads(names["R_001-IMG_0002.json"])
    assert (row["identity"], row["capture"], row["shard"]) == (1, 2, "shard-wild-0000000.tar")
    before = contents(tmp_path)
    (tmp_path / "shard-wild-0000002.tar").unlink()
    palms.write(str(tmp_path))
    assert contents(tmp_path) == before


def test_other_settings_do_not_mix_with_what_is_there(written):
    with pytest.raises(DataError, match="other settings"):
        SyntheticPalms(num_identities=3, seed=1).write(str(written))


@pytest.mark.parametrize(
    "bad",
    [
        {"domains": ("IX",)},
        {"domains": ()},
        {"num_identities": 0},
        {"size": 8},
        {"what": "feet"},
        {"frame_error": -1.0},
        {"frame_error": 1.0},
        {"domains": ("wild", "IF")},
        {"domains": "wild"},
        {"size": 128.5},
    ],
)
def test_settings_that_cannot_be_rendered_are_refused(bad):
    with pytest.raises(ValueError):
        SyntheticPalms(**bad)
