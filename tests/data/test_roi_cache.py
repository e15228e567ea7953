"""ROIs are cut once, whoever asks, and never stale."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pictures import RIGHT_HAND, cut_short, noise, record, save

from palmforge.data import roi_cache
from palmforge.data.images import read_image
from palmforge.data.layouts import scan
from palmforge.data.roi import extract_roi, xjtu_roi_quad
from palmforge.data.roi_cache import RoiCache, RoiSettings, extract
from palmforge.errors import BadImage, DataError

SMALL = RoiSettings(size=24)


def _records(folder: Path, count: int = 4, size: int = 40):
    return [record(save(folder / f"{i}.png", noise(size, size, i))) for i in range(count)]


def _files(cache: RoiCache) -> dict[str, int]:
    """Every file of the cache and when it was written."""
    paths = [p for p in cache.directory.rglob("*") if p.is_file()]
    return {str(p.relative_to(cache.directory)): p.stat().st_mtime_ns for p in paths}


def test_an_entry_is_what_extract_gives(tmp_path) -> None:
    records, cache = _records(tmp_path), RoiCache(str(tmp_path / "cache"), SMALL)
    cache.fill(records, num_threads=3)
    for one in records:
        np.testing.assert_array_equal(cache.load(cache.key(one)), extract(one, SMALL))
    assert cache.problems(records) == {}


def test_the_second_fill_does_nothing(tmp_path, monkeypatch) -> None:
    records, cache = _records(tmp_path), RoiCache(str(tmp_path / "cache"), SMALL)
    (tmp_path / "text.jpg").write_text("no")
    records.append(record(str(tmp_path / "text.jpg")))
    cache.fill(records)
    before = _files(cache)
    monkeypatch.setattr(roi_cache, "extract", lambda *_: pytest.fail("cut again"))
    monkeypatch.setattr(roi_cache, "check_writable", lambda *_: pytest.fail("wrote"))
    cache.fill(records)
    assert _files(cache) == before


def test_another_picture_other_points_or_settings_are_another_entry(tmp_path) -> None:
    one = _records(tmp_path, 1)[0]
    cache = RoiCache(str(tmp_path / "cache"), SMALL)
    keys = [cache.key(one), cache.key(replace(one, keypoints=tuple(map(tuple, RIGHT_HAND))))]
    moved = RIGHT_HAND + np.eye(14, 2) * 1e-3
    keys.append(cache.key(replace(one, keypoints=tuple(map(tuple, moved)))))
    for settings in (replace(SMALL, size=25), replace(SMALL, source="whole")):
        keys.append(RoiCache(str(tmp_path / "cache"), settings).key(one))
    stat = os.stat(one.path)
    os.utime(one.path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**6))
    keys.append(cache.key(one))
    with open(one.path, "ab") as file:
        file.write(b"0")
    os.utime(one.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    keys.append(cache.key(one))
    os.unlink(one.path)
    keys.append(cache.key(one))
    assert len(set(keys)) == len(keys)
    assert cache.key(replace(one, identity="L_9", domain="IF")) == keys[-1]  # nothing of the pixels


def test_a_changed_picture_is_cut_again(tmp_path) -> None:
    one, cache = _records(tmp_path, 1)[0], RoiCache(str(tmp_path / "cache"), SMALL)
    cache.fill([one])
    save(Path(one.path), noise(40, 40, seed=99))
    cache.fill([one])
    np.testing.assert_array_equal(cache.load(cache.key(one)), extract(one, SMALL))
    within = np.s_[1:-1, 1:-1]  # at its edge a picture goes on, where a quad would find black
    whole = np.array([[0, 0], [40, 0], [40, 40], [0, 40]]) - 0.5
    bare = extract_roi(noise(40, 40, 99), whole, 24)
    np.testing.assert_array_equal(extract(one, SMALL)[within], bare[within])


@pytest.mark.parametrize("side", [12, 24, 30, 40, 100])
def test_a_whole_picture_has_no_dark_edge_at_any_size(tmp_path, side) -> None:
    one = _records(tmp_path, 1)[0]
    save(Path(one.path), np.full((side, side, 3), 90, np.uint8))
    assert (extract(one, SMALL) == 90).all()


def test_bad_pictures_are_remembered_with_their_reason(tmp_path) -> None:
    good, short, gone = _records(tmp_path, 3)
    cut_short(short.path)
    os.unlink(gone.path)
    cache = RoiCache(str(tmp_path / "cache"), SMALL)
    cache.fill([good, short, gone])
    again = RoiCache(str(tmp_path / "cache"), SMALL)
    problems = again.problems([good, short, gone])
    assert problems.keys() == {short.path, gone.path}
    assert problems[gone.path] == "no such file"
    assert problems[short.path]
    with pytest.raises(DataError, match="cannot be read"):
        again.load(again.key(short))
    save(Path(short.path), noise(40, 40))  # mended
    again.fill([short])
    assert again.problems([short]) == {}


def test_a_truncated_entry_is_made_again(tmp_path) -> None:
    one, cache = _records(tmp_path, 1)[0], RoiCache(str(tmp_path / "cache"), SMALL)
    cache.fill([one])
    (entry,) = cache.directory.rglob("*.rgb")
    cut_short(entry)
    with pytest.raises(DataError, match=r"data\.cache_dir: entry .*\.rgb cannot be read"):
        cache.load(cache.key(one))
    cache.fill([one])
    np.testing.assert_array_equal(cache.load(cache.key(one)), extract(one, SMALL))


def _fill(directory, records, barrier) -> None:
    barrier.wait()
    RoiCache(directory, SMALL).fill(records, num_threads=2)


def test_two_processes_at_once_leave_whole_entries_and_nothing_else(tmp_path) -> None:
    records = _records(tmp_path, 24)
    cut_short(records[5].path)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    arguments = (str(tmp_path / "cache"), records, barrier)
    processes = [context.Process(target=_fill, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    cache = RoiCache(str(tmp_path / "cache"), SMALL)
    assert cache.problems(records).keys() == {records[5].path}
    for one in records[:5] + records[6:]:
        np.testing.assert_array_equal(cache.load(cache.key(one)), extract(one, SMALL))
    assert sorted(Path(name).suffix for name in _files(cache)) == [".bad"] + [".rgb"] * 23


def test_an_unwritable_directory_is_found_at_start(tmp_path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file" / "cache", Path("/proc/1/cache")):
        with pytest.raises(DataError, match=r"data\.cache_dir: cannot write to"):
            RoiCache(str(directory), SMALL).fill(_records(tmp_path))


def test_a_full_disk_is_found_at_start(tmp_path, monkeypatch) -> None:
    usage = namedtuple("Usage", "total used free")(10**9, 10**9, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    cache = RoiCache(str(tmp_path / "cache"), SMALL)
    with pytest.raises(DataError, match=r"data\.cache_dir: .* MiB are needed"):
        cache.fill(_records(tmp_path))
    assert _files(cache) == {}


@pytest.mark.parametrize("size", [15, 5000])
def test_sizes_out_of_range_are_refused(size) -> None:
    with pytest.raises(DataError, match=r"data\.roi\.size"):
        RoiSettings(size=size)


def test_a_photograph_is_cut_by_its_points(palms_root) -> None:
    one = scan(palms_root).records[3]
    image, _ = read_image(one.path)
    expected = extract_roi(image, xjtu_roi_quad(one.keypoints), 64)
    np.testing.assert_array_equal(extract(one, RoiSettings(size=64)), expected)
    assert (expected.reshape(-1, 3).max(axis=1) > 0).mean() > 0.99  # it lies in the picture


def test_a_large_jpeg_is_decoded_small_for_a_small_roi(tmp_path, monkeypatch) -> None:
    path = save(tmp_path / "a.jpg", noise(800, 960, smooth=20), quality=95)
    scales = []

    def spy(path: str, min_scale: float) -> tuple[np.ndarray, float]:
        image, scale = read_image(path, min_scale)
        scales.append(scale)
        return image, scale

    monkeypatch.setattr(roi_cache, "read_image", spy)
    small = extract(record(path, keypoints=tuple(map(tuple, 4 * RIGHT_HAND))), SMALL)
    whole = extract_roi(read_image(path)[0], xjtu_roi_quad(4 * RIGHT_HAND), 24)
    assert scales == [0.25]
    assert np.abs(small.astype(float) - whole).mean() < 1.5


def test_square_crops_need_no_points_and_others_are_refused(tmp_path) -> None:
    square = record(save(tmp_path / "a.png", noise(50, 50)))
    almost = record(save(tmp_path / "b.png", noise(50, 52)))
    photo = record(save(tmp_path / "c.png", noise(50, 70)))
    np.testing.assert_array_equal(extract(square, RoiSettings(size=50)), noise(50, 50))
    assert extract(almost, SMALL).shape == (24, 24, 3)
    with pytest.raises(BadImage, match=r"70 × 50 pixels are no square ROI.*data\.roi\.source"):
        extract(photo, SMALL)
    assert extract(photo, replace(SMALL, source="whole")).shape == (24, 24, 3)
    with pytest.raises(BadImage, match="no key points"):
        extract(square, replace(SMALL, source="keypoints"))


def test_source_whole_does_not_look_at_points(tmp_path) -> None:
    one = record(save(tmp_path / "a.png", noise(50, 50)), keypoints=tuple(map(tuple, RIGHT_HAND)))
    np.testing.assert_array_equal(extract(one, RoiSettings(size=50, source="whole")), noise(50, 50))


def test_crops_of_left_hands_are_mirrored_on_demand(tmp_path) -> None:
    path = save(tmp_path / "a.png", noise(50, 50))
    settings = RoiSettings(size=50, mirror_left_crops=True)
    np.testing.assert_array_equal(extract(record(path, "L_001"), settings), noise(50, 50)[:, ::-1])
    np.testing.assert_array_equal(extract(record(path, "R_001"), settings), noise(50, 50))
    cache = RoiCache(str(tmp_path / "cache"), settings)
    assert cache.key(record(path, "L_001")) != cache.key(record(path, "R_001"))


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (RIGHT_HAND + 1000, "outside the picture"),
        (np.zeros((14, 2)), "coincide"),
        (RIGHT_HAND * np.nan, "finite"),
    ],
)
def test_points_of_another_picture_are_refused(tmp_path, points, reason) -> None:
    path = save(tmp_path / "a.jpg", noise(200, 240))
    with pytest.raises(BadImage, match=reason) as caught:
        extract(record(path, keypoints=tuple(map(tuple, points))), SMALL)
    assert caught.value.path == path
