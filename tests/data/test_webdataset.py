"""Tar files as WebDataset reads them."""

from __future__ import annotations

import json
import tarfile

import pytest

from palmforge.data.webdataset import picture_names, read_pictures, write_shard
from palmforge.errors import DataError

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


@pytest.mark.parametrize("damage", [lambda data: b"no tar", lambda data: data[:2000]])
def test_a_damaged_one_is_named(tmp_path, damage):
    write_shard(tmp_path / "a.tar", SAMPLES)
    (tmp_path / "a.tar").write_bytes(damage((tmp_path / "a.tar").read_bytes()))
    with pytest.raises(DataError, match=r"a\.tar: damaged"):
        picture_names(tmp_path / "a.tar")
