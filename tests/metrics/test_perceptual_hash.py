"""Hashes of copies are near, of others far; looked for in blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pictures import noise

from palmforge.evaluation.privacy_changes import CHANGES
from palmforge.metrics.hamming import hamming_distances
from palmforge.metrics.perceptual_hash import (
    BITS,
    VIEWS,
    View,
    is_flat,
    nearest_hash,
    perceptual_hash,
)


def _stack(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())


PICTURES = [noise(96, 96, seed, 4.0) for seed in range(40)]


def test_copies_are_near_in_some_view_and_others_far():
    whole = perceptual_hash(_stack(PICTURES)).numpy()
    assert whole.shape == (40, BITS // 8)
    views = np.stack([perceptual_hash(_stack(PICTURES), view).numpy() for view in VIEWS], 1)
    others = hamming_distances(whole, whole)[~np.eye(40, dtype=bool)]
    for name, change in CHANGES.items():
        copies = perceptual_hash(_stack([change(image) for image in PICTURES])).numpy()
        found = nearest_hash(copies, views.reshape(-1, BITS // 8))
        assert (found.row // len(VIEWS) == np.arange(40)).all(), name
        assert found.distance.max() < 0.6 * others.min(), name


def test_a_brighter_picture_and_a_float_one_have_the_same_hash():
    images = _stack(PICTURES[:4])
    hashes = perceptual_hash(images)
    assert torch.equal(hashes, perceptual_hash(images.float() / 255))
    assert torch.equal(hashes, perceptual_hash(images.float() / 255 * 0.7))


def test_the_nearest_is_the_same_however_it_is_cut(monkeypatch):
    rng = np.random.default_rng(0)
    few, many = (rng.integers(0, 4, (n, 32), np.uint8) for n in (50, 300))
    whole = hamming_distances(few, many)
    monkeypatch.setattr("palmforge.metrics.perceptual_hash._ROWS", 7)
    monkeypatch.setattr("palmforge.metrics.perceptual_hash._COLUMNS", 11)
    found = nearest_hash(few, many)
    assert (found.distance == whole.min(1)).all() and (found.row == whole.argmin(1)).all()
    with pytest.raises(ValueError, match="no neighbour"):
        nearest_hash(few, many[:0])


def test_a_picture_of_one_grey_is_told():
    images = torch.full((2, 3, 32, 32), 90, dtype=torch.uint8)
    images[1, :, ::4] = 120
    assert is_flat(images).tolist() == [True, False]


def test_bad_pictures_and_views_are_refused():
    with pytest.raises(ValueError, match=r"\[N, 3, H, W\]"):
        perceptual_hash(torch.zeros(2, 1, 8, 8))
    for view in (View(0.5, 0.0, 0.6), View(-0.1), View(side=0.0)):
        with pytest.raises(ValueError, match="beyond"):
            perceptual_hash(torch.zeros(1, 3, 8, 8), view)
