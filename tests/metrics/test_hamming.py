"""Packed codes against plain Python."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from palmforge.metrics.hamming import (
    hamming_counts,
    hamming_distances,
    hamming_histograms,
    pack_codes,
    unpack_codes,
)
from palmforge.metrics.verification import equal_error_rate

RNG = np.random.default_rng(3)


def _codes(count: int, bits: int) -> np.ndarray:
    return RNG.normal(size=(count, bits)).astype(np.float32)


def _brute_force(codes, labels, gallery=None, gallery_labels=None):
    found = {True: [0] * (codes.shape[1] + 1), False: [0] * (codes.shape[1] + 1)}
    for i in range(len(codes)):
        others = range(i + 1, len(codes)) if gallery is None else range(len(gallery))
        for j in others:
            other = codes[j] if gallery is None else gallery[j]
            label = labels[j] if gallery is None else gallery_labels[j]
            found[bool(labels[i] == label)][int(((codes[i] >= 0) != (other >= 0)).sum())] += 1
    return found[True], found[False]


def test_pack_puts_signs_in_bits_and_zero_is_plus_one() -> None:
    codes = np.array([[1, -1, 0, -0.0, -1e-9, 0.3, -0.9, 1]], np.float32)
    assert pack_codes(codes).tolist() == [[0b10110101]]
    assert pack_codes(torch.from_numpy(codes)).tolist() == [[0b10110101]]
    assert unpack_codes(pack_codes(codes)).tolist() == [[1, -1, 1, 1, -1, 1, -1, 1]]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64, torch.int8, torch.bool])
def test_pack_takes_any_kind_of_signs(kind) -> None:
    signs = torch.from_numpy(np.sign(_codes(5, 16)))
    codes = (
        signs > 0 if kind is torch.bool else signs.to(kind).requires_grad_(kind.is_floating_point)
    )
    np.testing.assert_array_equal(unpack_codes(pack_codes(codes)), signs.numpy())


def test_bad_codes_are_errors() -> None:
    for shape in ((3, 12), (3, 0), (8,)):
        with pytest.raises(ValueError, match="multiple of 8"):
            pack_codes(torch.zeros(shape))
    with pytest.raises(ValueError, match="NaN in 1 rows, the first is 1"):
        pack_codes(np.array([[0.0] * 8, [np.nan] * 8]))
    with pytest.raises(ValueError, match="already packed"):
        pack_codes(np.zeros((1, 8), np.uint8))
    packed = pack_codes(_codes(4, 64))
    with pytest.raises(ValueError, match="64 bits cannot be compared with 128"):
        hamming_distances(packed, pack_codes(_codes(4, 128)))
    with pytest.raises(ValueError, match="4 codes but 3 labels"):
        hamming_histograms(packed, np.arange(3))
    with pytest.raises(ValueError, match="1-D integers"):
        hamming_histograms(packed, np.zeros(4))
    with pytest.raises(ValueError, match="without gallery_labels"):
        hamming_histograms(packed, np.arange(4), packed)


@pytest.mark.parametrize("bits", [8, 40, 128, 248, 256, 264, 512])
def test_distances_of_every_code_length(bits) -> None:
    a, b = _codes(30, bits), _codes(17, bits)
    b[0] = -a[0]
    found = hamming_distances(pack_codes(a), torch.from_numpy(pack_codes(b)))
    expected = ((a[:, None] >= 0) != (b[None] >= 0)).sum(-1)
    np.testing.assert_array_equal(found, expected)
    assert found[0, 0] == bits
    assert found.dtype == (np.uint8 if bits < 256 else np.uint16)


def test_distances_are_half_of_cdist_over_many_tiles_and_into_given_memory() -> None:
    a, b = _codes(700, 128), _codes(900, 128)
    out = np.full((700, 900), -1, np.int32)
    hamming_distances(pack_codes(a), pack_codes(b), out)
    signs = [torch.where(torch.from_numpy(c) >= 0, 1.0, -1.0) for c in (a, b)]
    np.testing.assert_array_equal(2 * out, torch.cdist(*signs, p=1).numpy())
    with pytest.raises(ValueError, match="out must be"):
        hamming_distances(pack_codes(a), pack_codes(a), out)
    assert hamming_distances(pack_codes(a)[:0], pack_codes(b)).shape == (0, 900)


@pytest.mark.parametrize("block", [1, 7, 64, 1000, 10**6])
@pytest.mark.parametrize("bits", [16, 256])
def test_histograms_equal_brute_force_for_every_block_size(block, bits) -> None:
    rng = np.random.default_rng(bits)
    codes, labels = rng.normal(size=(41, bits)), rng.integers(-2, 6, 41)
    gallery, gallery_labels = rng.normal(size=(23, bits)), rng.integers(0, 9, 23)
    a, b = pack_codes(codes), pack_codes(gallery)
    ours = hamming_histograms(a, labels, block=block)
    np.testing.assert_array_equal(ours, _brute_force(codes, labels))
    ours = hamming_histograms(a, labels, b, gallery_labels, block=block)
    np.testing.assert_array_equal(ours, _brute_force(codes, labels, gallery, gallery_labels))


def test_one_identity_only_and_tiny_sets() -> None:
    packed = pack_codes(_codes(50, 64))
    genuine, impostor = hamming_histograms(packed, np.zeros(50, np.int64), block=100)
    assert (genuine.sum(), impostor.sum()) == (50 * 49 // 2, 0)
    for count in (0, 1):
        genuine, impostor = hamming_histograms(packed[:count], np.zeros(count, np.int64))
        assert genuine.sum() == impostor.sum() == 0
    genuine, impostor = hamming_histograms(packed, np.arange(50), packed[:0], np.arange(0))
    assert genuine.sum() == impostor.sum() == 0


def test_counts_give_the_rates_of_the_raw_distances() -> None:
    labels = np.repeat(np.arange(40), 5)
    codes = _codes(40, 128)[labels] + 1.1 * _codes(200, 128)
    distances = hamming_distances(pack_codes(codes), pack_codes(codes))
    same, upper = labels[:, None] == labels, np.triu(np.ones((200, 200), bool), 1)
    raw = equal_error_rate(distances[same & upper], distances[~same & upper])
    assert hamming_counts(pack_codes(codes), labels).equal_error_rate() == raw
    assert 0 < raw[0] < 0.2


def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    packed, labels = RNG.integers(0, 256, (12_000, 16), np.uint8), RNG.integers(0, 600, 12_000)
    tracemalloc.start()
    genuine, impostor = hamming_histograms(packed, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert genuine.sum() + impostor.sum() == 12_000 * 11_999 // 2
    assert peak < 12e6  # of 72 million pairs
