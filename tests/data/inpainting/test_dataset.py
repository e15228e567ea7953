"""Samples: a function of (seed, row, draw), and an exemplar that shows what is masked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hand_photographs import hand
from pictures import save
from runs import assert_same_bits

from palmforge.data.hands.dataset import HandPictures
from palmforge.data.hands.records import HandPoints
from palmforge.data.inpainting.dataset import HoleDataset, HoleSettings
from palmforge.data.records import PalmRecord
from palmforge.errors import DataError

SETTINGS = HoleSettings(image_size=64, exemplar_size=24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    top = tmp_path_factory.mktemp("hands")
    for identity in range(3):
        save(top / f"{identity}.png", hand(identity)[0])
    return top


def holes(folder, settings=SETTINGS, seed=0, count=3):
    paths = [str(folder / f"{n}.png") for n in range(count)]
    records = [PalmRecord(path, path, "", path) for path in paths]
    known = {
        path: HandPoints(
            np.concatenate([np.full((14, 2), np.nan), hand(n % 3)[1]]), np.full(35, np.nan)
        )
        for n, path in enumerate(paths)
    }
    return HoleDataset(records, HandPictures(known, str(folder / "cache")), settings, seed)


def test_a_sample_is_a_function_of_seed_row_and_draw(folder):
    one, other = holes(folder), holes(folder, seed=1)
    same = [one[(1, 5)], holes(folder)[(1, 5)]]
    assert_same_bits(*same)
    for different in (one[(1, 6)], one[(0, 5)], other[(1, 5)]):
        assert not torch.equal(different["mask"], same[0]["mask"])
        assert not torch.equal(different["exemplar"], same[0]["exemplar"])
        assert different["seed"] != same[0]["seed"]
    assert torch.equal(one[2]["image"], one[(2, 0)]["image"])


def test_a_sample_has_what_the_module_reads(folder):
    sample = holes(folder)[(0, 1)]
    assert sample["image"].shape == (3, 64, 64) and sample["image"].dtype == torch.uint8
    assert sample["mask"].shape == (1, 64, 64) and sample["mask"].dtype == torch.bool
    assert sample["exemplar"].shape == (3, 24, 24) and sample["exemplar"].dtype == torch.uint8
    assert sample["index"] == 0 and 0 <= sample["seed"] < 2**32


@pytest.mark.parametrize("mirror", [False, True])
def test_the_exemplar_comes_from_inside_the_masks_box(folder, monkeypatch, mirror):
    """Where each pixel's colour says where it is, the exemplar's colours lie within the box's."""
    rows, columns = np.mgrid[0:160, 0:160].astype(np.uint8)
    made = np.stack([columns, rows, np.zeros_like(rows)], axis=2)
    settings = replace(SETTINGS, image_size=160, mirror=mirror)
    data = holes(folder, settings)
    load = data.pictures.load
    monkeypatch.setattr(data.pictures, "load", lambda path: replace(load(path), image=made))
    monkeypatch.setattr("palmforge.data.inpainting.exemplars._changed", lambda found, rng: found)
    for draw in range(25):
        sample = data[(draw % 3, draw)]
        mask, image = sample["mask"][0].numpy(), sample["image"].numpy().astype(int)
        inside = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = image[:, inside[0][0] : inside[0][-1] + 1, inside[1][0] : inside[1][-1] + 1]
        for channel in (0, 1):
            shown = sample["exemplar"][channel].numpy().astype(int)
            assert box[channel].min() - 2 <= shown.min() and shown.max() <= box[channel].max() + 2


def test_half_of_the_hands_are_mirrored_and_none_where_it_is_off(folder):
    def sides(mirror):
        data = holes(folder, replace(SETTINGS, mirror=mirror, shift=0.0, margins=(0.1, 0.1)))
        return len({data[(0, n)]["image"].numpy().tobytes() for n in range(12)})

    assert (sides(False), sides(True)) == (1, 2)


def test_a_picture_that_cannot_be_read_gives_its_place_to_the_next(folder, tmp_path):
    for number in (0, 2):
        save(tmp_path / f"{number}.png", hand(number)[0])
    (tmp_path / "1.png").write_bytes(b"no picture")
    data = holes(tmp_path)
    with pytest.warns(UserWarning, match=r"another hand in its place: .*1\.png"):
        sample = data[(1, 4)]
    assert sample["index"] == 1 and sample["image"].float().std() > 10


def test_a_folder_of_pictures_that_are_none_ends_with_a_message(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
    with (
        pytest.warns(UserWarning, match="another hand in its place"),
        pytest.raises(DataError, match=r"0\.png and the 7 pictures"),
    ):
        holes(tmp_path)[0]
