"""From a root to batches, and every error case by name."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import RIGHT_HAND, cut_short, noise, save, write_keypoints, write_tree
from PIL import Image

from palmforge.data.datamodule import PalmDataModule
from palmforge.data.roi import extract_roi, xjtu_roi_quad
from palmforge.data.roi_cache import RoiSettings
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """ROI crops: 4 identities × 7 images × (IF, IN). Not to be changed."""
    return write_tree(tmp_path_factory.mktemp("tree"))


def _data(root: Path | str, cache: Path, ready: bool = True, **arguments) -> PalmDataModule:
    settings = {
        "cache_dir": str(cache / "cache"),
        "roi": RoiSettings(size=40),
        "image_size": 32,
        "identities_per_batch": 2,
        "images_per_identity": 3,
        "eval_batch_size": 10,
        "num_workers": 0,
    }
    data = PalmDataModule(root=str(root), **{**settings, **arguments})
    if ready:
        data.prepare_data()
        data.setup("fit")
    return data


def _column(loader, name: str) -> list:
    return [value for batch in loader for value in torch.as_tensor(batch[name]).tolist()]


@pytest.mark.filterwarnings("error::UserWarning:palmforge")
def test_the_embedded_tree_in_batches(palms_root, tmp_path) -> None:
    data = _data(palms_root, tmp_path, identities_per_batch=4, images_per_identity=2)
    assert data.problems == {}
    batches = list(data.train_dataloader())
    assert len(batches) == 2
    for batch in batches:
        assert batch["image"].shape == (8, 3, 32, 32) and batch["image"].dtype == torch.uint8
        assert batch.keys() == {"image", "label", "domain", "index", "role", "seed"}
        assert [len(set(pair)) for pair in batch["label"].view(4, 2).tolist()] == [1] * 4
    assert sorted(_column(data.test_dataloader(), "index")) == list(range(8 * 2 * 2))
    assert set(_column(data.test_dataloader(), "domain")) == {0, 1}
    assert len(_column(data.val_dataloader(), "label")) == 8 * 5 * 2


def test_labels_count_through_the_class_names(tree, tmp_path) -> None:
    data = _data(tree, tmp_path)
    assert data.class_names == ["L_001", "L_002", "R_001", "R_002"]
    for dataset in (data.train, data.val, data.test):
        names = [data.class_names[label] for label in dataset.labels]
        assert names == [record.identity for record in dataset.records]


def test_class_names_are_known_before_any_picture_is_read(tree, tmp_path) -> None:
    data = _data(tree, tmp_path, ready=False)
    assert len(data.class_names) == 4
    assert not (tmp_path / "cache").exists()


def test_identities_never_trained_on_have_labels_beyond_the_classes(tmp_path) -> None:
    names = tuple(f"{hand}_{subject:03}" for hand in "LR" for subject in range(6))
    root = write_tree(tmp_path / "tree", ("IF",), names, images=3)
    data = _data(root, tmp_path, protocol="open_set", fractions=(0.5, 0.2, 0.3))
    assert set(data.train.labels) == set(range(len(data.class_names))) == set(range(6))
    assert set(data.val.labels + data.test.labels) == set(range(6, 12))
    assert len(set(_column(data.test_dataloader(), "label"))) == 4


def test_cross_domain_gives_roles(tree, tmp_path) -> None:
    cross = {"protocol": "cross_domain", "train_domains": ["IN"], "test_domains": ["IF"]}
    data = _data(tree, tmp_path, **cross)
    assert data.scan.domains == ["IF", "IN"]
    assert set(_column(data.train_dataloader(), "domain")) == {1}
    domains, roles = (_column(data.test_dataloader(), n) for n in ("domain", "role"))
    assert set(zip(domains, roles, strict=True)) == {(1, 1), (0, 2)}
    with pytest.raises(DataError, match=r"data\.train_domains"):
        _data(tree, tmp_path, protocol="cross_domain", test_domains=["IF"])


def test_a_second_start_cuts_nothing(tree, tmp_path, monkeypatch) -> None:
    first = _data(tree, tmp_path)
    monkeypatch.setattr("palmforge.data.roi_cache.extract", lambda *_: pytest.fail("cut again"))
    second = _data(tree, tmp_path)
    assert torch.equal(first.test[3]["image"], second.test[3]["image"])


def test_pictures_of_validation_and_test_are_not_augmented(tree, tmp_path) -> None:
    data = _data(tree, tmp_path, image_size=40, roi=RoiSettings(size=32), augmentation="strong")
    data = _data(tree, tmp_path, image_size=32, roi=RoiSettings(size=32), augmentation="strong")
    for dataset in (data.val, data.test, data.predict_dataset):
        original = np.asarray(Image.open(dataset.records[2].path))
        np.testing.assert_array_equal(dataset[2]["image"].permute(1, 2, 0), original)
        assert "key" in dataset[2]
    assert not torch.equal(data.train[2, 5]["image"], data.val[2]["image"])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_workers_and_go_on_in_mid_epoch(tree, tmp_path, workers) -> None:
    def batches(loader):
        return [{n: v.tolist() for n, v in batch.items()} for batch in loader]

    whole = _data(tree, tmp_path, seed=3).train_dataloader()
    whole.sampler.set_epoch(1)
    expected = batches(whole)
    loader = _data(tree, tmp_path, seed=3, num_workers=workers).train_dataloader()
    loader.load_state_dict({"epoch": 1, "done": 1})
    loader.sampler.set_epoch(1)
    assert batches(loader) == expected[1:]
    for one in (whole, loader):
        one.sampler.set_epoch(2)
    assert batches(loader) == batches(whole) != expected


def test_geometric_augmentation_and_seed_are_settings(tree, tmp_path) -> None:
    def first(**arguments):
        return next(iter(_data(tree, tmp_path, **arguments).train_dataloader()))

    assert not torch.equal(first(seed=1)["index"], first(seed=2)["index"])
    with_, without = first(), first(geometric_augmentation=False)
    assert torch.equal(with_["index"], without["index"])
    assert not torch.equal(with_["image"], without["image"])


def test_a_limited_number_of_views(tree, tmp_path) -> None:
    data = _data(tree, tmp_path, augmented_views=2)
    loader, keys = data.train_dataloader(), {}
    for epoch in range(30):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            for row, key in zip(batch["index"].tolist(), batch["key"], strict=True):
                keys.setdefault(row, set()).add(key)
    assert len(keys) == 40
    assert {len(of_row) for of_row in keys.values()} == {2}


@pytest.mark.parametrize(
    ("split", "count"), [("train", 40), ("val", 40), ("test", 16), ("all", 56)]
)
def test_predict_goes_through_a_split_in_order(tree, tmp_path, split, count) -> None:
    data = _data(tree, tmp_path, predict_split=split)
    index = _column(data.predict_dataloader(), "index")
    assert index == list(range(count)) == list(range(len(data.predict_dataset.records)))


def test_validation_images_can_be_held_out(tree, tmp_path) -> None:
    data = _data(tree, tmp_path, val_images=2)
    paths = [{record.path for record in d.records} for d in (data.train, data.val, data.test)]
    assert [len(part) for part in paths] == [24, 16, 16]
    assert not paths[0] & paths[1] and not paths[1] & paths[2]


def test_only_some_domains(tree, tmp_path) -> None:
    assert len(_data(tree, tmp_path, domains=["IN"]).train) == 20
    with pytest.raises(DataError, match=r"data\.domains: HF not in .*, which has IF, IN"):
        _data(tree, tmp_path, domains=["HF"])


# --- what is wrong with data, and what becomes of the run


def _break(root: Path) -> dict[str, str]:
    """Spoils one picture in every way; returns file → expected reason."""
    flash = root / "iPhone" / "Flash"
    paths = {name: flash / "L_001" / f"IMG_000{i}.JPG" for i, name in enumerate("?abcdefg")}
    cut_short(paths["a"])
    paths["b"].write_text("text")
    paths["c"].write_bytes(b"")
    save(paths["d"], noise(20, 40))
    paths["g"].write_bytes(paths["a"].read_bytes())  # one of the test images
    os.unlink(paths["e"])
    os.symlink("/nowhere.jpg", paths["e"])
    return {
        str(paths["a"]): "runcated",
        str(paths["b"]): "not a picture",
        str(paths["c"]): "not a picture",
        str(paths["d"]): "no square ROI",
        str(paths["e"]): "no such file",
        str(paths["g"]): "runcated",
    }


def test_bad_pictures_are_left_out_by_name_and_the_run_goes_on(tmp_path) -> None:
    root = write_tree(tmp_path / "tree")
    expected = _break(root)
    with pytest.warns(UserWarning, match=r"(?s)6 paths of .* are left out.*IMG_0001\.JPG"):
        data = _data(root, tmp_path)
    assert data.problems.keys() == expected.keys()
    for path, reason in expected.items():
        assert reason in data.problems[path]
    used = {r.path for d in (data.train, data.val, data.test) for r in d.records}
    assert not used & expected.keys()
    assert sum(label == 0 for label in data.train.labels) == 5  # of IN; who trains stays the same
    assert sum(label == 0 for label in data.test.labels) == 3
    assert len(list(data.train_dataloader())) == 2
    assert len(_column(data.predict_dataloader(), "index")) == 56 - 6


def test_kinds_of_pictures_make_no_difference(tmp_path) -> None:
    root = write_tree(tmp_path / "tree", ("IF",))
    folder = root / "iPhone" / "Flash" / "L_001"
    picture = Image.open(folder / "IMG_0001.JPG")
    sideways, exif = picture.rotate(90, expand=True), Image.Exif()
    exif[0x0112] = 6
    save(folder / "IMG_0002.JPG", picture.convert("L"))
    save(folder / "IMG_0003.JPG", picture.convert("CMYK"), quality=95)
    save(folder / "IMG_0004.JPG", sideways, exif=exif, quality=95)
    grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    save(folder / "IMG_0005.png", grey)
    save(folder / "IMG_0006.png", picture.quantize(256))
    data = _data(root, tmp_path, predict_split="all")
    assert data.problems == {}
    samples = [data.predict_dataset[row] for row in range(9)]
    assert [sample["label"] for sample in samples] == [0] * 9
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    grey = [(sample["image"] * luma).sum(0) for sample in samples]
    distances = [float((one - grey[0]).abs().mean()) for one in grey]
    names = [Path(r.path).name for r in data.predict_dataset.records[:9]]
    same = dict(zip(names, distances, strict=True))
    other = min(same.pop(name) for name in ("IMG_0005.JPG", "IMG_0006.JPG", "IMG_0007.JPG"))
    assert max(same.values()) < 6 < 20 < other, same


def test_all_pictures_bad_is_an_error_with_reasons(tmp_path) -> None:
    root = tmp_path / "tree"
    for number in range(12):
        save(root / "anna" / f"{number:02}.jpg", noise(20, 40))
    with pytest.raises(DataError, match=r"(?s)none of the selected.*00\.jpg: 40 × 20.*and 7 more"):
        _data(root, tmp_path)


def _photos(root: Path, points=RIGHT_HAND, size=(200, 240)) -> Path:
    """Photographs with key points; three identities of one domain."""
    folder = root / "LG" / "Nature"
    listed = {}
    for identity in ("L_001", "R_001", "R_002"):
        for number in range(7):
            name = f"{identity}/IMG_{number}.JPG"
            mirrored = points * [-1, 1] + [size[1] - 1, 0] if identity[0] == "L" else points
            image = noise(*size, seed=number)
            save(folder / name, image[:, ::-1] if identity[0] == "L" else image, quality=95)
            listed[name] = mirrored
    write_keypoints(folder, listed)
    return folder


def test_photographs_are_cut_by_key_points_into_one_frame(tmp_path) -> None:
    _photos(tmp_path / "tree")
    data = _data(tmp_path / "tree", tmp_path, roi=RoiSettings(size=32))
    left, right = data.val[0], data.val[5]
    assert (left["label"], right["label"]) == (0, 1)
    expected = extract_roi(noise(200, 240, seed=0), xjtu_roi_quad(RIGHT_HAND), 32)
    for sample in (left, right):
        image = sample["image"].permute(1, 2, 0).numpy().astype(int)
        assert np.abs(image - expected).mean() < 4


def test_key_points_of_another_picture_leave_it_out(tmp_path) -> None:
    folder = _photos(tmp_path / "tree")
    save(folder / "R_001" / "IMG_3.JPG", noise(60, 60))
    with pytest.warns(UserWarning, match="1 paths"):
        data = _data(tmp_path / "tree", tmp_path)
    (problem,) = data.problems.items()
    assert problem == (
        str(folder / "R_001/IMG_3.JPG"),
        "its key points put the ROI outside the picture",
    )


def test_wrong_key_point_counts_and_unlisted_pictures_leave_them_out(tmp_path) -> None:
    folder = _photos(tmp_path / "tree")
    lines = (folder / "keypoints.csv").read_text().splitlines()
    lines[1] = lines[1].rsplit(",", 2)[0]  # L_001/IMG_0: 13 points
    del lines[2]  # L_001/IMG_1
    (folder / "keypoints.csv").write_text("\n".join(lines))
    with pytest.warns(UserWarning, match="2 paths"):
        data = _data(tmp_path / "tree", tmp_path)
    reasons = {Path(path).name: reason for path, reason in data.problems.items()}
    assert "line 2: 14 key points are needed, there are 13" in reasons["IMG_0.JPG"]
    assert "not listed in" in reasons["IMG_1.JPG"]
    assert sum(label == 0 for label in data.train.labels) == 5  # of the five that are left


def test_a_wrong_header_of_key_points_is_an_error(tmp_path) -> None:
    folder = _photos(tmp_path / "tree")
    (folder / "keypoints.csv").write_text("picture,x,y\n")
    with pytest.raises(DataError, match=r"keypoints\.csv: the header must be"):
        _data(tmp_path / "tree", tmp_path)


def test_crops_need_no_points_and_photographs_without_points_are_refused(tmp_path) -> None:
    (_photos(tmp_path / "tree") / "keypoints.csv").unlink()
    with pytest.raises(
        DataError, match=r"(?s)no square ROI.*add a sidecar, or set data\.roi\.source"
    ):
        _data(tmp_path / "tree", tmp_path)
    whole = replace(RoiSettings(size=40), source="whole")
    assert len(_data(tmp_path / "tree", tmp_path, roi=whole).train) == 15


def test_few_images_and_empty_domains_are_reported(tmp_path, caplog) -> None:
    root = write_tree(tmp_path / "tree", ("IF",))
    for number in (6, 7):
        os.unlink(root / "iPhone/Flash/R_002" / f"IMG_{number:04}.JPG")
    (root / "Samsung" / "Flash").mkdir(parents=True)
    with pytest.warns(UserWarning, match="Samsung/Flash: domain SF is empty"):
        data = _data(root, tmp_path)
    assert "no image left to test: IF R_002" in data.split.notes
    with pytest.raises(DataError, match="the protocol leaves no image for test"):
        _data(root, tmp_path, train_images=7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"root": "/nowhere/at/all"}, r"data\.root: no directory"),
        ({"domains": []}, r"data\.domains: the list is empty"),
        ({"layout": "folder", "domains": ["IF"]}, "no image of the layout 'folder'"),
        ({"val_images": 5}, r"data\.val_images"),
        ({"protocol": "open_set", "fractions": (1.0, 0.0, 0.0)}, r"data\.fractions"),
    ],
)
def test_wrong_settings_are_named(tree, tmp_path, arguments, message) -> None:
    with pytest.raises(DataError, match=message):
        _data(**{"root": tree, "cache": tmp_path, **arguments})


def test_more_identities_than_there_are_are_refused(tree, tmp_path) -> None:
    with pytest.raises(ConfigError, match="identities_per_batch: 5 are asked for"):
        _data(tree, tmp_path, identities_per_batch=5).train_dataloader()


def test_a_cache_that_cannot_be_written_is_found_at_start(tree, tmp_path, monkeypatch) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(DataError, match=r"data\.cache_dir: cannot write to"):
        _data(tree, tmp_path)
    usage = namedtuple("Usage", "total used free")(10**9, 10**9, 0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DataError, match=r"data\.cache_dir: .* are needed"):
        _data(tree, tmp_path / "other")


# --- the embedded data set


def test_the_embedded_data_set_is_rendered_at_first_use(tmp_path) -> None:
    arguments = {
        "domains": ["SN"],
        "synthetic": SyntheticPalms(num_identities=2, images_per_identity=3, size=96, seed=5),
        "synthetic_dir": str(tmp_path / "synthetic"),
        "train_images": 2,
        "images_per_identity": 2,
    }
    data = _data("synthetic", tmp_path, **arguments)
    assert (len(data.train), len(data.test), data.problems) == (4, 2, {})
    assert Path(data.scan.root) == tmp_path / "synthetic" / "2x3-96px-seed5"
    before = [record.path for record in data.scan.records]
    stamps = [os.stat(path).st_mtime_ns for path in before]
    again = _data("synthetic", tmp_path, **arguments)
    assert [record.path for record in again.scan.records] == before
    assert [os.stat(path).st_mtime_ns for path in before] == stamps


def test_unknown_domains_and_unwritable_places_of_the_embedded_set_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"data\.domains: .*XX"):
        _data("synthetic", tmp_path, domains=["XX"], synthetic_dir=str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"data\.synthetic_dir: cannot write to"):
        _data("synthetic", tmp_path, synthetic_dir=str(tmp_path / "file" / "synthetic"))
