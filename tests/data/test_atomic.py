"""Files are there whole or not at all; directories that cannot be used are found at once."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest

from palmforge.data.atomic import check_writable, write_aside
from palmforge.errors import DataError


def test_a_file_appears_whole_and_in_a_new_folder(tmp_path) -> None:
    path = tmp_path / "new" / "a.txt"
    with write_aside(path) as aside:
        aside.write_text("half")
        assert not path.exists()
        assert (aside.parent, aside.suffix) == (path.parent, ".txt")
    assert path.read_text() == "half"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with write_aside(path) as aside:
            aside.write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_writable_folder_is_made_and_left_empty(tmp_path) -> None:
    check_writable(tmp_path / "a" / "b", "key")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_below_a_file_is_named_with_its_key(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"data\.cache_dir: cannot write to '.*file/cache'"):
        check_writable(tmp_path / "file" / "cache", "data.cache_dir")


def test_a_full_disk_is_found_before_writing(tmp_path, monkeypatch) -> None:
    usage = namedtuple("Usage", "total used free")(100 * 2**20, 97 * 2**20, 3 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    check_writable(tmp_path, "key", 3 * 2**20)
    with pytest.raises(DataError, match=r"key: 5 MiB are needed in .*, 3 MiB are free"):
        check_writable(tmp_path, "key", 5 * 2**20)
