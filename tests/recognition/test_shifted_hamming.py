"""Shifted Hamming distances are those of a loop over bits, whatever the shape and the blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from palmforge.recognition import shifted_hamming as module
from palmforge.recognition.shifted_hamming import pack_maps, shifted_hamming, unpack_maps


def random_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4


def one_pair(a: np.ndarray, b: np.ndarray, max_shift: int) -> float:
    """Reference, [C, H, W] bools: one shift for all channels."""
    height, width = a.shape[1:]
    found = []
    for dy in range(-max_shift, max_shift + 1):
        for dx in range(-max_shift, max_shift + 1):
            left = a[:, max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
            right = b[:, max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)]
            found.append((left != right).mean())
    return min(found)


def test_two_rows_by_hand():
    a = torch.tensor([[1, 0, 1, 1, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0, 0]])
    b = torch.tensor([[0, 1, 1, 0, 0, 1, 0, 1], [1, 1, 1, 1, 1, 1, 1, 1]])
    packed = [pack_maps(maps.bool()[None, None]) for maps in (a, b)]
    assert packed[0].tolist() == [[[[0b10110010], [0]]]]
    # In place: rows differ in 6 (11010111) and 8 of 8 bits: 14 / 16.
    assert shifted_hamming(*packed, max_shift=0).item() == pytest.approx(14 / 16)
    # dx = 1, dy = 0: a's 0110010 on b's 0110010: none; the other rows 7 of 7: 7 / 14 = 0.5.
    # dx = -1, dy = 0: 1011001 on 1100101: 0111100, 4 of 7; and 7: 11 / 14.
    # dy = 1 puts a's zeros on b's first row, 01100101: 4 / 8 with dx = 0; with dx = 1 on its first
    # seven bits 0110010: 3 / 7; with dx = -1 on 1100101: 4 / 7.
    # dy = -1 puts a's first row on b's ones: its zeros count, 4 / 8; dx = 1: 0110010, 4 / 7;
    # dx = -1: 1011001, 3 / 7.   The least: 3 / 7.
    assert shifted_hamming(*packed, max_shift=1).item() == pytest.approx(3 / 7)


@pytest.mark.parametrize(
    ("shape", "max_shift", "together"),
    [
        ((12, 32, 32), 4, 1),
        ((12, 32, 32), 4, 6),
        ((3, 32, 32), 4, 3),
        ((2, 9, 24), 3, 1),
        ((1, 5, 64), 4, 1),
        ((4, 16, 16), 0, 2),
        ((1, 7, 8), 6, 1),
    ],
)
def test_equals_a_loop_over_pairs(shape, max_shift, together):
    a, b = random_maps(3, *shape), random_maps(4, *shape, seed=1)
    found = shifted_hamming(pack_maps(a), pack_maps(b), max_shift, together)
    groups = range(0, shape[0], together)
    expected = [
        [
            np.mean([one_pair(x[g : g + together], y[g : g + together], max_shift) for g in groups])
            for y in b.numpy()
        ]
        for x in a.numpy()
    ]
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_blocks_change_nothing(monkeypatch):
    a, b = pack_maps(random_maps(7, 2, 8, 8)), pack_maps(random_maps(11, 2, 8, 8, seed=1))
    whole = shifted_hamming(a, b)
    monkeypatch.setattr(module, "ROWS", 3)
    monkeypatch.setattr(module, "COLUMNS", 4)
    assert torch.equal(shifted_hamming(a, b), whole)
    assert torch.equal(shifted_hamming(b, a), whole.T)
    assert shifted_hamming(a[:0], b).shape == (0, 11)
    assert shifted_hamming(a, b[:0]).shape == (7, 0)


def test_what_is_moved_is_forgiven_up_to_the_largest_shift():
    field = random_maps(1, 3, 42, 48)
    base = pack_maps(field[..., 5:37, 8:40])
    for dy, dx in [(0, 0), (4, -4), (-4, 4), (1, 3), (-2, 0)]:
        moved = pack_maps(field[..., 5 + dy : 37 + dy, 8 + dx : 40 + dx])
        assert shifted_hamming(base, moved).item() == 0
        assert shifted_hamming(base, moved, together=3).item() == 0
    for dy, dx in [(5, 0), (0, 5), (-5, -5)]:
        moved = pack_maps(field[..., 5 + dy : 37 + dy, 8 + dx : 40 + dx])
        assert shifted_hamming(base, moved).item() > 0.35
        assert shifted_hamming(base, moved, max_shift=5).item() == 0


def test_packing_is_that_of_numpy_and_comes_back():
    maps = random_maps(2, 3, 5, 24)
    packed = pack_maps(maps)
    np.testing.assert_array_equal(packed.numpy(), np.packbits(maps.numpy(), axis=3))
    assert torch.equal(unpack_maps(packed), maps)


def test_what_does_not_fit_is_refused():
    maps = random_maps(2, 3, 8, 8)
    packed = pack_maps(maps)
    with pytest.raises(ValueError, match="bools expected"):
        pack_maps(maps.float())
    with pytest.raises(ValueError, match="multiple of 8"):
        pack_maps(maps[..., :7])
    with pytest.raises(ValueError, match="packed bit maps"):
        shifted_hamming(maps, maps)
    with pytest.raises(ValueError, match="packed bit maps"):
        shifted_hamming(packed[0], packed[0])
    with pytest.raises(ValueError, match="cannot be compared"):
        shifted_hamming(packed, packed[:, :2])
    with pytest.raises(ValueError, match="max_shift 8 does not fit"):
        shifted_hamming(packed, packed, max_shift=8)
    with pytest.raises(ValueError, match="groups of 2"):
        shifted_hamming(packed, packed, together=2)
    wide = pack_maps(random_maps(1, 1, 8, 72))
    with pytest.raises(ValueError, match="72 columns"):
        shifted_hamming(wide, wide)
