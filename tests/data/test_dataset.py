"""One ROI as the networks get it; views, and their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import noise, record, save
from torch.utils.data import DataLoader

from palmforge.data.augmentation import RoiAugmentation
from palmforge.data.dataset import PalmDataset, limit_threads
from palmforge.data.protocols import Role
from palmforge.data.roi_cache import RoiCache, RoiSettings

LABELS = {"L_1": 0, "R_1": 1}


@pytest.fixture
def parts(tmp_path: Path):
    records = [
        record(save(tmp_path / f"{i}.png", noise(40, 40, i)), identity, domain=domain)
        for i, (identity, domain) in enumerate([("R_1", "IF"), ("L_1", "IN"), ("L_1", "IF")])
    ]
    cache = RoiCache(str(tmp_path / "cache"), RoiSettings(size=40))
    cache.fill(records)
    return records, cache


def _dataset(parts, preset="strong", **arguments) -> PalmDataset:
    records, cache = parts
    augmentation = RoiAugmentation(preset, True, 32)
    return PalmDataset(records, LABELS, cache, augmentation, ["IF", "IN"], **arguments)


def test_a_row_is_the_picture_and_its_numbers(parts) -> None:
    roles = [Role.GALLERY, Role.PROBE, Role.ALL]
    dataset = _dataset(parts, "none", roles=roles)
    assert len(dataset) == 3
    rows = [dataset[row] for row in range(3)]
    for row, sample in enumerate(rows):
        expected = dataset.augmentation(noise(40, 40, row), 0)
        assert sample["image"].shape == (3, 32, 32) and sample["image"].dtype == torch.uint8
        np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), expected)
    assert [s["label"] for s in rows] == [1, 0, 0]
    assert [s["domain"] for s in rows] == [0, 1, 0]
    assert [s["index"] for s in rows] == [0, 1, 2]
    assert [s["role"] for s in rows] == [1, 2, 0]


def test_the_seed_comes_with_the_row(parts) -> None:
    dataset = _dataset(parts)
    a, again, b = dataset[1, 5], dataset[1, 5], dataset[1, 6]
    assert torch.equal(a["image"], again["image"]) and not torch.equal(a["image"], b["image"])
    assert (a["seed"], b["seed"]) == (5, 6)
    assert "key" not in a  # any number of views: nothing to keep


@pytest.mark.parametrize("seed", [0, 7])
def test_views_are_limited_and_keys_tell_pictures_apart(parts, seed) -> None:
    dataset = _dataset(parts, views=3, seed=seed)
    pictures = {}
    for row in range(3):
        for draw in range(40):
            sample = dataset[row, draw * 12346]
            pictures.setdefault(sample["key"], set()).add(sample["image"].numpy().tobytes())
    assert len(pictures) == 9
    assert all(len(same) == 1 for same in pictures.values())
    assert len(set.union(*pictures.values())) == 9


def test_keys_change_with_what_changes_the_picture_and_with_nothing_else(parts) -> None:
    records, cache = parts
    keys = [_dataset(parts, views=2)[0]["key"], _dataset(parts, views=2, seed=1)[0]["key"],
            _dataset(parts, "mild", views=2)[0]["key"], _dataset(parts, "none")[0]["key"],
            _dataset(parts, "none")[1]["key"]]  # fmt: skip
    assert len(set(keys)) == len(keys)
    # The same picture in another split, at another row, in a run with another seed:
    other = _dataset((records[::-1], cache), "none", seed=9)[2]
    assert other["key"] == keys[3]
    assert torch.equal(other["image"], _dataset(parts, "none")[0]["image"])


@pytest.mark.parametrize("workers", [1, 2])
def test_bits_do_not_depend_on_the_number_of_workers(parts, workers) -> None:
    items = [(row, seed) for seed in range(4) for row in range(3)]
    dataset = _dataset(parts)
    settings = {"batch_size": 4, "sampler": items}
    alone = torch.cat([batch["image"] for batch in DataLoader(dataset, **settings)])
    loader = DataLoader(dataset, num_workers=workers, worker_init_fn=limit_threads, **settings)
    assert torch.equal(torch.cat([batch["image"] for batch in loader]), alone)
