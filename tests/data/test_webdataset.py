"""Tar files as WebDataset reads them."""

from __future__ import annotations

import json
import os
import tarfile

import numpy as np
import pytest
from pictures import noise, save

from palmforge.data.added import AddedRoiCache, read_added
from palmforge.data.images import read_image
from palmforge.data.layouts import scan
from palmforge.data.roi_cache import RoiCache, RoiSettings
from palmforge.data.webdataset import file_of, picture_names, read_pictures, write_shard
from palmforge.errors import BadImage, DataError

SAMPLES = [("L_001/a.b.PNG", b"one", {"seed": 1}), ("R_002/c.png", b"two" * 999, {"prompt": "ä"})]


def test_a_shard_has_a_picture_and_a_json_of_one_key(tmp_path):
    write_shard(tmp_path / "a.tar", SAMPLES)
    with tarfile.open(tmp_path / "a.tar") as shard:
        names = shard.getnames()
        assert json.load(shard.extractfile(names[3])) == {"prompt": "ä"}
    assert names == ["L_001-a_b.png", "L_001-a_b.json", "R_002-c.png", "R_002-c.json"]
    assert read_pictures(tmp_path / "a.tar") == {names[0]: b"one", names[2]: b"two" * 999}
    assert picture_names(tmp_path / "a.tar") == [names[0], names[2]]


def test_the_same_samples_are_the_same_bytes(tmp_path):
    for name in ("a.tar", "b.tar"):
        write_shard(tmp_path / name, SAMPLES)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_shard_is_there_whole_or_not_at_all(tmp_path):
    def break_off():
        yield SAMPLES[0]
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "a.tar", break_off())
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def made(tmp_path):
    """A factory's directory: two palms in a shard, a third one loose; and the pictures."""
    files = [f"00000{palm}/00{capture}.png" for palm in (0, 1, 7) for capture in (0, 1)]
    pictures = {file: noise(16, 16, seed) for seed, file in enumerate(files)}
    for file, picture in pictures.items():
        save(tmp_path / file, picture)
    packed = [(file, (tmp_path / file).read_bytes(), {}) for file in files[:4]]
    write_shard(tmp_path / "shard-000000.tar", packed)
    for file in files[:4]:
        (tmp_path / file).unlink()
    for palm in ("000000", "000001"):
        (tmp_path / palm).rmdir()
    return tmp_path, pictures


def test_pictures_in_a_factorys_shard_are_read_where_they_are(made):
    root, pictures = made
    found = scan(str(root))
    assert found.problems == {} and found.layout == "folder"
    assert [record.identity for record in found.records] == [file[:6] for file in pictures]
    for record, picture in zip(found.records, pictures.values(), strict=True):
        assert np.array_equal(read_image(record.path)[0], np.asarray(picture))
    assert found.records[2].path == str(root / "shard-000000.tar/000001-000.png")
    assert file_of(found.records[2].path) == str(root / "shard-000000.tar")
    assert file_of(found.records[5].path) == found.records[5].path


def test_a_recogniser_trains_on_added_palms_in_shards(made, tmp_path_factory):
    root, pictures = made
    added = read_added([str(root)]).records
    cache = AddedRoiCache(str(tmp_path_factory.mktemp("cache")), RoiSettings(size=16))
    cache.fill(added)
    assert cache.problems(added) == {}
    for record, picture in zip(added, pictures.values(), strict=True):
        assert np.array_equal(cache.load(cache.key(record)), picture)


def test_a_shard_that_was_written_anew_is_read_anew(made, tmp_path_factory):
    root, _ = made
    cache = RoiCache(str(tmp_path_factory.mktemp("cache")), RoiSettings(size=16))
    record, file = scan(str(root)).records[0], "000000/000.png"
    before, key = read_image(record.path)[0], cache.key(record)
    other = save(root.parent / "other.png", noise(16, 16, 99))
    with open(other, "rb") as picture:
        write_shard(root / "shard-000000.tar", [(file, picture.read(), {"seed": 1})])
    os.utime(root / "shard-000000.tar", ns=(1, 1))
    assert not np.array_equal(read_image(record.path)[0], before)
    assert cache.key(record) != key
    with pytest.raises(BadImage, match="no such file"):
        read_image(record.path.replace("000.png", "009.png"))
    (root / "shard-000000.tar").write_bytes(b"no tar")
    with pytest.raises(BadImage, match="damaged"):
        read_image(record.path)


def test_shards_of_others_are_named_and_not_read(tmp_path):
    write_shard(tmp_path / "shard-IF-0000000.tar", SAMPLES)  # of hands, with key points
    with pytest.raises(DataError, match=r"Of tar files only a factory's .*shard_identities=0"):
        scan(str(tmp_path))


@pytest.mark.parametrize("damage", [lambda data: b"no tar", lambda data: data[:2000]])
def test_a_damaged_one_is_named(tmp_path, damage):
    write_shard(tmp_path / "a.tar", SAMPLES)
    (tmp_path / "a.tar").write_bytes(damage((tmp_path / "a.tar").read_bytes()))
    with pytest.raises(DataError, match=r"a\.tar: damaged"):
        picture_names(tmp_path / "a.tar")
