"""Palms that train besides a data set's own, and smaller training sets."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from pictures import cut_short, noise, save, write_tree
from runs import STUDENT, callbacks_yaml, load, newest

from palmforge.data.added import ADDED, read_added
from palmforge.data.datamodule import PalmDataModule
from palmforge.data.roi_cache import RoiSettings
from palmforge.errors import ConfigError, DataError

NAMES = tuple(f"{hand}_{subject:03}" for hand in "LR" for subject in range(10))
OPEN = {"protocol": "open_set", "fractions": (0.5, 0.2, 0.3)}  # of 10 people, 20 palms


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """ROI crops: 20 palms × 3 images × (IF, IN). Not to be changed."""
    return write_tree(tmp_path_factory.mktemp("tree"), ("IF", "IN"), NAMES, images=3)


@pytest.fixture
def made(tmp_path) -> str:
    """Generated palms: 4 identities × 3 pictures of 24 × 24, of which no localiser knows points."""
    for identity in range(4):
        for capture in range(3):
            path = tmp_path / "made" / f"{identity:06}" / f"{capture:03}.png"
            save(path, noise(24, 24, 100 + 10 * identity + capture))
    return str(tmp_path / "made")


def _data(root: Path, cache: Path, **arguments) -> PalmDataModule:
    settings = {
        "cache_dir": str(cache / "cache"), "roi": RoiSettings(size=32), "image_size": 32,
        "identities_per_batch": 2, "images_per_identity": 3, "num_workers": 0,
        "augmentation": "none", **OPEN,
    }  # fmt: skip
    data = PalmDataModule(root=str(root), **{**settings, **arguments})
    data.prepare_data()
    data.setup("fit")
    return data


def _identities(dataset) -> set[str]:
    return {record.identity for record in dataset.records}


def test_added_palms_train_as_classes_of_their_own_and_nothing_else_changes(tree, made, tmp_path):
    plain, data = _data(tree, tmp_path), _data(tree, tmp_path, added=[made])
    new = {f"{made}/{identity:06}" for identity in range(4)}
    assert _identities(data.train) == _identities(plain.train) | new
    assert data.class_names == sorted(_identities(data.train)) and len(data.class_names) == 14
    assert [data.class_names[label] for label in data.train.labels] == [
        record.identity for record in data.train.records
    ]
    assert len(data.train) == len(plain.train) + 12
    for part in ("val", "test", "predict_dataset"):
        assert getattr(data, part).records == getattr(plain, part).records
    assert min(data.test.labels + data.val.labels) == 14
    assert f"added: 12 images of 4 identities from {made}" in str(data.split)
    assert "train: 72 images of 14 identities" in str(data.split)


def test_batches_hold_both_kinds_with_domains_of_their_own(tree, made, tmp_path):
    data = _data(tree, tmp_path, added=[made], identities_per_batch=7)
    seen = {}
    for batch in data.train_dataloader():
        for label, domain in zip(batch["label"].tolist(), batch["domain"].tolist(), strict=True):
            seen.setdefault(data.class_names[label].startswith(made), set()).add(domain)
    assert seen == {True: {2}, False: {0, 1}}  # IF, IN, added


def test_added_pictures_are_rois_whatever_the_data_set_is(palms_root, made, tmp_path):
    """The data set: photographs with key points, the left hands of which would be mirrored."""
    roi = RoiSettings(size=24, source="keypoints", mirror_left_crops=True)
    data = _data(
        palms_root, tmp_path, added=[made], roi=roi, image_size=24,
        protocol="first_five", train_images=2,
    )  # fmt: skip
    assert data.problems == {}
    row = next(i for i, record in enumerate(data.train.records) if record.domain == ADDED)
    expected = torch.from_numpy(noise(24, 24, 100)).permute(2, 0, 1)
    assert torch.equal(data.train.plain(row), expected)


def test_only_added_palms_train(tree, made, tmp_path):
    data = _data(tree, tmp_path, added=[made], train_identities=0)
    assert _identities(data.train) == {f"{made}/{identity:06}" for identity in range(4)}
    assert set(data.train.labels) == {0, 1, 2, 3} and min(data.test.labels) >= 4
    with pytest.raises(ConfigError, match=r"data\.train_identities: 0 .* give data\.added"):
        _data(tree, tmp_path, train_identities=0)


def test_fewer_palms_are_among_the_many_and_the_test_stays(tree, made, tmp_path):
    few, more = (_data(tree, tmp_path, train_identities=count) for count in (3, 6))
    assert len(_identities(few.train)) == 3 and len(_identities(more.train)) == 6
    assert _identities(few.train) < _identities(more.train)
    assert few.test.records == more.test.records and few.val.records == more.val.records
    others = _data(tree, tmp_path, train_identities=3, split_seed=1)
    assert _identities(others.train) != _identities(few.train)
    added = _data(tree, tmp_path, added=[made], added_identities=2, train_identities=3)
    assert len(added.class_names) == 5


def test_fewer_images_come_evenly_from_all_domains(tree, tmp_path):
    data = _data(tree, tmp_path, open_set_images=4, images_per_identity=2)
    names = [(record.identity, record.domain) for record in data.train.records]
    assert {names.count(name) for name in names} == {2} and len(data.train) == 10 * 4
    closed = {"protocol": "first_five", "train_images": 2}
    plain = _data(tree, tmp_path, **closed)
    assert _data(tree, tmp_path, open_set_images=1, **closed).train.records == plain.train.records


def test_neither_the_people_nor_the_cameras_of_the_test_train(tree, tmp_path):
    data = _data(tree, tmp_path, train_domains=["IF"], test_domains=["IN"])
    domains = [{r.domain for r in part.records} for part in (data.train, data.val, data.test)]
    assert domains == [{"IF"}, {"IF"}, {"IN"}]
    assert not _identities(data.train) & _identities(data.test)
    assert _identities(data.test) == _identities(_data(tree, tmp_path).test)
    with pytest.raises(DataError, match=r"data\.test_domains: \['SN'\] must name domains"):
        _data(tree, tmp_path, test_domains=["SN"])


def test_a_limited_closed_set_is_none_any_more(tree, made, tmp_path):
    closed = {"protocol": "first_five", "train_images": 2}
    assert _data(tree, tmp_path, **closed).split.closed_set
    assert _data(tree, tmp_path, added=[made], **closed).split.closed_set
    assert not _data(tree, tmp_path, train_identities=3, **closed).split.closed_set


def test_bad_added_pictures_are_left_out_by_name(tree, made, tmp_path):
    bad = Path(made) / "000001" / "002.png"
    cut_short(bad)
    (Path(made) / "000009").mkdir()
    with pytest.warns(UserWarning, match=rf"2 paths of {tree}, {made} are left out"):
        data = _data(tree, tmp_path, added=[made])
    assert set(data.problems) == {str(bad), f"{made}/000009"}
    assert len(data.class_names) == 14 and len(data.train) == 60 + 11


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (["/nowhere"], r"data\.added: no directory '/nowhere'"),
        (["{empty}"], r"data\.added: .*empty: no image"),
        (["{made}", "{made}"], r"data\.added: .* is given twice"),
        (["{tree}/iPhone/Flash"], r"data\.added: .* is a picture of data\.root too"),
    ],
)
def test_wrong_folders_are_named_before_anything_is_read(tree, made, tmp_path, added, message):
    (tmp_path / "empty").mkdir()
    folders = [name.format(empty=tmp_path / "empty", made=made, tree=tree) for name in added]
    data = PalmDataModule(root=str(tree), added=folders, cache_dir=str(tmp_path / "c"), **OPEN)
    with pytest.raises(ConfigError, match=message):
        data.class_names  # noqa: B018  (what the CLI asks for first)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("numbers", [{"train_identities": -1}, {"open_set_images": 0}])
def test_impossible_numbers_are_refused(tree, tmp_path, numbers):
    with pytest.raises(DataError, match=r"data\.train_identities must be 0 or more and"):
        _data(tree, tmp_path, **numbers)


def test_the_same_name_in_two_folders_is_two_palms(made, tmp_path):
    save(tmp_path / "more" / "000000" / "0.png", noise(24, 24, 5))
    added = read_added([made, str(tmp_path / "more")], most=1)
    assert [record.identity for record in added.records] == [f"{made}/000000"] * 3 + [
        f"{tmp_path}/more/000000"
    ]


def test_two_processes_train_on_added_palms_as_one(cli, tree, made, tmp_path, logs):
    labels, losses, weights = [], [], []
    for name, devices in (("one", []), ("two", ["--trainer.devices=2"])):
        strategy = ["--trainer.strategy=ddp_fork"] if devices else []
        cli(
            "fit", *STUDENT, f"--name={name}", f"--data.root={tree}", f"--data.added=[{made}]",
            "--data.protocol=open_set", "--data.fractions=[0.5,0.2,0.3]", "--data.num_workers=0",
            "--data.train_identities=4", "--data.identities_per_batch=4",
            "--trainer.accelerator=cpu", "--trainer.precision=64-true", "--trainer.max_steps=3",
            "--trainer.log_every_n_steps=1", "--trainer.val_check_interval=3",
            "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
            callbacks_yaml(tmp_path / "callbacks.yaml"), *devices, *strategy,
        )  # fmt: skip
        checkpoint = load(newest(logs / name, "last.ckpt"))
        labels.append(checkpoint["class_names"])
        weights.append(checkpoint["state_dict"])
        with (logs / name / "version_0" / "metrics.csv").open() as file:
            losses.append([float(r["train/loss"]) for r in csv.DictReader(file) if r["train/loss"]])
    assert labels[0] == labels[1] and len(labels[0]) == 8
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len(losses[0]) == 3
    torch.testing.assert_close(*weights, rtol=1e-6, atol=1e-8)
