"""Photographs without key points, in the DataModule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures import noise, save

from palmforge.data.datamodule import PalmDataModule
from palmforge.data.roi import extract_roi
from palmforge.data.roi_cache import RoiSettings
from palmforge.errors import ConfigError
from palmforge.localization import methods, point_cache
from palmforge.localization.hand_points import HandPointsLocalizer

METHOD = "python:truth_localizer:TruthLocalizer"


@pytest.fixture(autouse=True)
def _truth_localizer(monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def _tree(root: Path, size: tuple[int, int] = (400, 480)) -> Path:
    from truth_localizer import photograph

    for number, identity in enumerate(["L_001", "R_001", "R_002"]):
        for image in range(4):
            kind = "left" if identity.startswith("L") else "right"
            picture = photograph(kind, *size, seed=10 * number + image)
            save(root / "iPhone" / "Flash" / identity / f"IMG_{image}.png", picture)
    return root


def _data(root: Path, cache: Path, num_workers: int = 0, size: int = 40, **more) -> PalmDataModule:
    more = {"roi": RoiSettings(size=size), "localizer": METHOD, **more}
    data = PalmDataModule(
        str(root), cache_dir=str(cache / "cache"), image_size=32, train_images=2,
        identities_per_batch=2, images_per_identity=2, num_workers=num_workers, **more,
    )  # fmt: skip
    data.prepare_data()
    data.setup("fit")
    return data


def test_photographs_without_points_are_cut_by_those_found(tmp_path) -> None:
    from truth_localizer import photograph, truth

    data = _data(_tree(tmp_path / "palms"), tmp_path)
    assert data.problems == {} and len(data.train) == 6
    record = next(r for r in data.scan.records if r.identity == "L_001")
    quad = truth("left", 400, 480)[0].quad
    expected = extract_roi(photograph("left", 400, 480, seed=0), quad, 40).astype(int)
    roi = data.cache.load(data.cache.key(record)).astype(int)
    assert np.abs(roi - expected).max() <= 1  # points are kept to 1/100 pixel


def test_processes_find_the_same(tmp_path) -> None:
    root = _tree(tmp_path / "palms")
    data, parallel = (_data(root, tmp_path / str(n), num_workers=n) for n in (0, 2))
    for record in data.scan.records:
        first, second = (d.cache.load(d.cache.key(record)) for d in (data, parallel))
        assert np.array_equal(first, second)


def test_pictures_without_a_palm_or_with_another_hand_are_left_out(tmp_path) -> None:
    from truth_localizer import photograph

    root = _tree(tmp_path / "palms")
    nobody = save(root / "iPhone/Flash/R_001/IMG_8.png", photograph("none", 400, 480))
    other = save(root / "iPhone/Flash/R_001/IMG_9.png", photograph("left", 400, 480))
    problems = _data(root, tmp_path).problems
    assert problems.keys() == {nobody, other}
    assert problems[nobody] == "no palm found (data.localizer)"
    assert "a palm of the hand L was found, its folder says R" in problems[other]


def test_another_roi_size_needs_no_second_search(tmp_path, monkeypatch) -> None:
    root = _tree(tmp_path / "palms")
    _data(root, tmp_path)

    def never(*_):
        raise AssertionError("searched again")

    monkeypatch.setattr(point_cache, "map_with_localizer", never)
    assert _data(root, tmp_path, size=48).problems == {}


def test_a_localizer_looks_at_every_picture_small_square_ones_too(tmp_path) -> None:
    root = tmp_path / "palms"
    for image in range(4):
        for identity in ("R_001", "R_002"):
            save(root / identity / f"{image}.png", noise(280, 280, image))
    assert len(_data_problems(root, tmp_path, RoiSettings(size=40))) == 8  # noise has no palm


def _data_problems(root: Path, tmp_path: Path, roi: RoiSettings) -> dict[str, str]:
    data = PalmDataModule(
        str(root), localizer=METHOD, roi=roi, cache_dir=str(tmp_path / "cache"), num_workers=0
    )
    data.cache.fill(data.scan.records)
    return data.cache.problems(data.scan.records)


def test_without_a_localizer_all_is_as_it_was(tmp_path) -> None:
    root = _tree(tmp_path / "palms")
    data = PalmDataModule(str(root), cache_dir=str(tmp_path / "cache"), num_workers=0)
    data.cache.fill(data.scan.records)
    reasons = set(data.cache.problems(data.scan.records).values())
    assert len(reasons) == 1 and "no key points are known" in reasons.pop()


def test_a_localizer_of_whole_pictures_is_a_contradiction(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"data\.roi\.source=whole"):
        PalmDataModule(str(tmp_path), localizer=METHOD, roi=RoiSettings(source="whole"))


def test_a_localizer_is_known_by_its_files(tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(b"same")
    first, second = (methods.localizer_identity(f"dlib:{tmp_path / n}") for n in ("a", "b"))
    assert first == second
    (tmp_path / "b" / "weights").write_bytes(b"other")
    assert methods.localizer_identity(f"dlib:{tmp_path / 'b'}") != first


def test_a_detector_of_21_points_is_a_method_too(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_hands.py").write_text("def make():\n    return lambda image: []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    localizer = methods.load_localizer("python:my_hands:make")
    assert isinstance(localizer, HandPointsLocalizer)
    assert localizer.locate_all(np.zeros((8, 8, 3), np.uint8)) == []


def test_a_picture_that_cannot_be_read_keeps_its_reason(tmp_path) -> None:
    root = _tree(tmp_path / "palms")
    broken = root / "iPhone/Flash/R_001/IMG_8.png"
    broken.write_bytes(b"no picture")
    assert "not a picture" in _data(root, tmp_path).problems[str(broken)]
