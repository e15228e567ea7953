"""Loaders of hands."""

from __future__ import annotations

import pytest
import torch
from hands import write_hands
from pictures import RIGHT_HAND, noise, save, write_keypoints

from palmforge.data.hands.datamodule import HandDataModule


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(write_hands(tmp_path_factory.mktemp("hands")))


def _module(root, tmp_path, **more):
    module = HandDataModule(
        root=root, image_size=64, fractions=(0.5, 0.25, 0.25), cache_dir=str(tmp_path),
        identities_per_batch=2, num_workers=0, **more,
    )  # fmt: skip
    module.prepare_data()
    module.setup("fit")
    return module


def test_people_are_disjoint(root, tmp_path):
    module = _module(root, tmp_path)
    parts = [module.train, module.val, module.test]
    people = [{r.subject for r in part.records} for part in parts]
    assert [len(p) for p in people] == [2, 1, 1] and len(set.union(*people)) == 4


@pytest.mark.parametrize("views", ["detector", "landmarks"])
def test_batches_have_what_the_modules_read(root, tmp_path, views):
    batch = next(iter(_module(root, tmp_path, views=views).train_dataloader()))
    assert batch["image"].shape == (2, 3, 64, 64) and batch["image"].dtype == torch.uint8
    if views == "detector":
        assert batch["palms"].shape == (2, 2, 7)
    else:
        assert batch["points"].shape == (2, 35, 2)
        assert batch["weight"].shape == batch["visible"].shape == (2, 35)
        assert batch["present"].dtype == batch["mirrored"].dtype == torch.float32


def test_validation_sees_the_same_views_whatever_the_seed(root, tmp_path):
    one, other = (_module(root, tmp_path, seed=seed).val_dataloader() for seed in (0, 1))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a["image"], b["image"])


def test_evaluation_takes_no_more_than_it_was_told(root, tmp_path):
    loader = _module(root, tmp_path, max_eval_images=2).val_dataloader()
    assert sum(len(batch["image"]) for batch in loader) == 2


def test_plain_photographs_with_key_points_just_work(tmp_path):
    folder, names = tmp_path / "photographs" / "iPhone" / "Nature", []
    for subject in range(1, 6):
        names.append(f"R_{subject:03d}/IMG_1.JPG")
        save(folder / names[-1], noise(200, 240, seed=subject))
    write_keypoints(folder, dict.fromkeys(names, RIGHT_HAND))
    module = _module(str(tmp_path / "photographs"), tmp_path / "cache")
    samples = [module.train[row, seed] for row in range(2) for seed in range(6)]
    weight = torch.stack([sample["weight"] for sample in samples])
    assert weight[:, :14].sum() > 50 and weight[:, 14:].sum() == 0
    assert all((sample["visible"][14:] <= 0).all() for sample in samples)
