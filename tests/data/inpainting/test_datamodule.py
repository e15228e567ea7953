"""Loaders of holes and exemplars."""

from __future__ import annotations

import pytest
import torch
from hand_photographs import hand
from inpainters import hands
from pictures import save

from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import ConfigError, DataError


def ready(root, **settings):
    data = hands(root, **settings)
    data.prepare_data()
    data.setup("fit")
    return data


def test_people_are_disjoint_and_batches_have_what_modules_read(palms_root):
    data = ready(palms_root)
    parts = [{r.subject for r in part.records} for part in (data.train, data.val, data.test)]
    assert [len(part) for part in parts] == [2, 1, 1] and len(set.union(*parts)) == 4
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 3, 32, 32) and batch["mask"].any((1, 2, 3)).all()
    assert batch["exemplar"].shape == (2, 3, 32, 32) and batch["seed"].dtype == torch.int64
    assert sum(len(b["image"]) for b in data.val_dataloader()) == 5  # of 14, every third


def test_an_epoch_is_the_same_again_and_the_next_one_is_another(palms_root):
    def epoch(number, seed=0):
        loader = ready(palms_root, seed=seed).train_dataloader()
        loader.sampler.set_epoch(number)
        return list(loader)

    one, same, following, other = epoch(0), epoch(0), epoch(1), epoch(0, seed=1)
    assert len(one) == 2
    for name in ("image", "mask", "exemplar", "seed"):
        assert all(torch.equal(a[name], b[name]) for a, b in zip(one, same, strict=True))
        for different in (following, other):
            pairs = zip(one, different, strict=True)
            assert not any(torch.equal(a[name], b[name]) for a, b in pairs)


def test_validation_is_the_same_whatever_the_seed(palms_root):
    one, other = (ready(palms_root, seed=seed).val_dataloader() for seed in (0, 1))
    for a, b in zip(one, other, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


def test_photographs_of_people_train_and_bad_ones_are_problems(tmp_path):
    for person in range(4):
        save(tmp_path / f"in/person{person}/1.png", hand(person)[0])
    (tmp_path / "in/person0/bad.jpg").write_bytes(b"no picture")
    data = ready(str(tmp_path / "in"), domains=None, fractions=(0.5, 0.25, 0.25))
    assert [str(tmp_path / "in/person0/bad.jpg")] == list(data.problems)
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 3, 32, 32)


def test_a_picture_that_has_gone_is_a_problem(tmp_path):
    root = tmp_path / "palms"
    SyntheticPalms(num_identities=6, images_per_identity=1, size=64, domains=("IF",)).write(
        str(root)
    )
    gone = next(root.rglob("L_001/*.JPG"))
    gone.unlink()
    data = ready(str(root), fractions=(0.34, 0.33, 0.33), batch_size=1)
    assert data.problems == {str(gone): "left out: no such file"}
    assert len(data.train) + len(data.val) + len(data.test) == 5


@pytest.mark.parametrize(("settings", "message"), [
    ({"free_form": 1.5}, "free_form"),
    ({"margins": (0.3, 0.1)}, "margins"),
    ({"image_size": 8}, "8 and 32 pixels"),
    ({"synthetic": SyntheticPalms(what="rois", size=32)}, "rois show no hand"),
])  # fmt: skip
def test_settings_that_make_no_sense_are_refused(palms_root, settings, message):
    with pytest.raises(ConfigError, match=message):
        hands(palms_root, **settings)


def test_more_palms_a_batch_than_there_are_is_refused_before_training(palms_root):
    with pytest.raises(ConfigError, match=r"data\.batch_size: 5 are asked for"):
        hands(palms_root, batch_size=5).prepare_data()


def test_nothing_is_predicted_and_nothing_is_nowhere(palms_root, tmp_path):
    with pytest.raises(ConfigError, match="Deidentifier predicts"):
        hands(palms_root).setup("predict")
    with pytest.raises(DataError, match="no directory"):
        hands(str(tmp_path / "nowhere"), domains=None).prepare_data()
