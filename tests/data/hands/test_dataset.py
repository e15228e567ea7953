"""Views of hands: the truth goes where the pixels go, and nothing depends on anything but seeds."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hands import write_hands
from pictures import RIGHT_HAND, cut_short

from palmforge.data.hands.dataset import HandDataset, HandPictures
from palmforge.data.hands.records import HandPoints, read_hands
from palmforge.data.hands.views import HandPicture, landmark_crop, paste, without_hand


@pytest.fixture(scope="module")
def hands(tmp_path_factory):
    return read_hands(str(write_hands(tmp_path_factory.mktemp("hands"))))


def _dataset(hands, views, tmp_path, size=96, **more):
    pictures = HandPictures(hands.points, str(tmp_path / "cache"), **more)
    return HandDataset(hands.scan.records, pictures, views, size, seed=1)


@pytest.mark.parametrize("views", ["detector", "landmarks"])
def test_a_view_is_a_function_of_its_seeds(hands, tmp_path, views):
    one, other = _dataset(hands, views, tmp_path), _dataset(hands, views, tmp_path)
    for row in range(4):
        a, b, c = one[row, 7], other[row, 7], other[row, 8]
        assert all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a)
        assert not torch.equal(a["image"], c["image"])


def test_detector_views_hold_palms_of_all_directions_hands_and_counts(hands, tmp_path):
    dataset = _dataset(hands, "detector", tmp_path)
    palms = torch.stack([dataset[i % len(dataset), i]["palms"] for i in range(160)])
    there = palms[palms[..., 6] > 0]
    counts = palms[..., 6].sum(dim=1)
    assert {0, 1, 2} == set(counts.int().tolist())
    assert ((there[:, :2] > -0.5) & (there[:, :2] < 95.5)).all()
    angles = torch.atan2(there[:, 3], -there[:, 4])
    assert torch.histc(angles, 8, -torch.pi, torch.pi).min() > 3
    assert 0.3 < there[:, 5].mean() < 0.7
    torch.testing.assert_close(there[:, 3:5].norm(dim=1), torch.ones(len(there)))


def test_points_go_where_the_pixels_go():
    """Blobs of a colour of their own at the points are found at the points of the crop."""
    image = np.full((200, 240, 3), 128, np.uint8)
    for x, y in RIGHT_HAND[[0, 6, 12]].astype(int):
        cv2.circle(image, (int(x), int(y)), 4, (255, 0, 0), -1)
    points = np.concatenate([RIGHT_HAND, np.full((21, 2), np.nan)])
    picture = HandPicture(image, points, np.ones(35))
    seen = 0
    for seed in range(40):
        crop = landmark_crop(picture, None, 160, np.random.default_rng(seed))
        if not crop.present:
            continue
        assert not crop.weight[14:].any()
        for x, y in crop.points[[0, 6, 12]][crop.weight[[0, 6, 12]] > 0]:
            near = crop.image[max(0, int(y) - 1) : int(y) + 3, max(0, int(x) - 1) : int(x) + 3]
            far = np.median(crop.image.reshape(-1, 3), axis=0)
            seen += np.abs(near.mean(axis=(0, 1)) - far).sum() > 40
    assert seen > 40  # most; noise, patches and grey hide some


def test_a_small_paste_is_where_its_matrix_says(hands, tmp_path):
    picture = _dataset(hands, "detector", tmp_path).pictures.load(hands.scan.records[0].path)
    matrix = np.array([[0.2, 0, 30.0], [0, 0.2, 40.0], [0, 0, 1]])
    canvas = np.zeros((96, 96, 3), np.uint8)
    for seed in range(5):
        laid = paste(canvas, picture, matrix, np.random.default_rng(seed), outlined=True)
        rows, columns = np.nonzero(laid.sum(axis=2) > 30)
        # The edges are soft: up to 9 pixels of them.
        assert rows.min() >= 31 and rows.max() <= 81 and columns.min() >= 21
        assert len(rows) > 100


def test_without_its_hand_a_picture_has_no_palm_left(hands, tmp_path):
    picture = _dataset(hands, "detector", tmp_path).pictures.load(hands.scan.records[0].path)
    bare = without_hand(picture, np.random.default_rng(0))
    x, y = picture.frame.centre.astype(int)
    assert not np.array_equal(bare.image[y - 5 : y + 5, x - 5 : x + 5],
                              picture.image[y - 5 : y + 5, x - 5 : x + 5])  # fmt: skip
    assert bare.image.shape == picture.image.shape


def test_large_photographs_are_kept_reduced_and_their_points_with_them(tmp_path):
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), np.zeros((603, 400, 3), np.uint8))
    points = np.full((35, 2), 99.5, np.float32)
    store = HandPictures({str(path): HandPoints(points, points[:, 0])}, str(tmp_path), max_side=201)
    for _ in range(2):  # made, then read
        picture = store.load(str(path))
        assert picture.image.shape == (201, 133, 3)
        np.testing.assert_allclose(picture.points, (99.5 + 0.5) / 3 - 0.5)
    assert len(list((tmp_path / "hands").rglob("3.jpg"))) == 1


def test_a_broken_picture_gives_a_view_without_a_hand(tmp_path):
    hands = read_hands(str(write_hands(tmp_path, identities=2, captures=1)))
    cut_short(hands.scan.records[0].path)
    cut_short(hands.scan.records[1].path)
    for views in ("detector", "landmarks"):
        with pytest.warns(UserWarning, match="no hand in the view"):
            sample = _dataset(hands, views, tmp_path)[0, 1]
        assert sample["palms"].sum() == 0 if views == "detector" else sample["present"] == 0
