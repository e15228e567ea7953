"""Hamming distances of bit maps that may lie a few pixels apart.

A shift moves whole rows of bits: a slice, a bit shift and a mask. What then hangs over is zero on
both sides, so that XOR and popcount (FAISS, AVX-512) see the overlap only. 1,000 × 1,000 times MTCC
(12 maps of 1,024 bits, 81 shifts) take 4 s of one core: 300 times as fast as NumPy pair by pair,
5 times as fast as a product of ±1 matrices for each shift (benchmarks/shifted_hamming.py).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Words = NDArray[np.unsignedinteger]
ROWS, COLUMNS = 128, 1024  # templates in a tile: 1.5 MB of counts, distances and minima
_MOST_COLUMNS = 64  # bits of the widest word


def pack_maps(maps: Tensor) -> Tensor:
    """[N, C, H, W] bool → [N, C, H, W / 8] uint8, in the bit order of `numpy.packbits`.

    Raises:
        ValueError: Not bools of that shape, or W is no multiple of 8.
    """
    if maps.ndim != 4 or maps.dtype != torch.bool or maps.shape[3] % 8 or maps.shape[3] == 0:
        raise ValueError(
            f"bit maps [N, C, H, W] of bools expected, W a multiple of 8; got {maps.dtype} "
            f"{list(maps.shape)}"
        )
    values = torch.tensor((128, 64, 32, 16, 8, 4, 2, 1), dtype=torch.uint8, device=maps.device)
    return (maps.unflatten(3, (-1, 8)) * values).sum(4, dtype=torch.uint8)


def unpack_maps(packed: Tensor) -> Tensor:
    """The inverse of `pack_maps`: [N, C, H, W / 8] uint8 → [N, C, H, W] bool."""
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=packed.device)
    return ((packed[..., None] >> places) & 1).bool().flatten(3)


def shifted_hamming(a: Tensor, b: Tensor, max_shift: int = 4, together: int = 1) -> Tensor:
    """Least normalised Hamming distance over all shifts, of every template of a to every one of b.

    For a shift (dy, dx), bit (y + dy, x + dx) of a stands on bit (y, x) of b; only bits with a
    partner count (no wrap-around), and their number, (H - |dy|)(W - |dx|) a channel, divides.

    Args:
        a: [Na, C, H, W / 8] uint8, from `pack_maps`.
        b: [Nb, C, H, W / 8] uint8.
        max_shift: m: all (2m + 1)² shifts of -m … m rows and columns.
        together: Channels that move as one, side by side. 1: each channel takes the shift that
            suits it best; C: one shift for all. The result is the mean over these groups.

    Returns:
        [Na, Nb] float32 in [0, 1], on the device of a. It is computed on the CPU. Memory: besides
        the result and a copy of the templates, some 4 MB.

    Raises:
        ValueError: Maps of different shape, not packed, wider than 64 bits; shifts as large as the
            map; `together` does not divide C.
    """
    _check(a, b, max_shift, together)
    words_a, words_b = _as_words(a), _as_words(b)
    width = 8 * a.shape[3]
    out = np.empty((len(a), len(b)), np.float32)
    for row in range(0, len(a), ROWS):
        for column in range(0, len(b), COLUMNS):
            rows, columns = slice(row, row + ROWS), slice(column, column + COLUMNS)
            out[rows, columns] = _tile(words_a[rows], words_b[columns], width, max_shift, together)
    return torch.from_numpy(out).to(a.device)


def _tile(a: Words, b: Words, width: int, max_shift: int, together: int) -> NDArray[np.float32]:
    """Mean over groups of the minimum over shifts: [Na, Nb]."""
    channels, height = a.shape[1:]
    shape = (len(a), len(b))
    shifts = range(-max_shift, max_shift + 1)
    total = np.zeros(shape, np.float32)
    distance = np.empty(shape, np.float32)
    for first in range(0, channels, together):
        group = slice(first, first + together)
        best = np.ones(shape, np.float32)
        for dy in shifts:
            for dx in shifts:
                differing = _count(
                    _moved(a[:, group], dy, dx, width), _moved(b[:, group], -dy, -dx, width)
                )
                share = np.float32(1 / (together * (height - abs(dy)) * (width - abs(dx))))
                np.multiply(differing, share, out=distance, casting="unsafe")
                np.minimum(best, distance, out=best)
        total += best
    return total / np.float32(channels // together)


def _moved(words: Words, dy: int, dx: int, width: int) -> Words:
    """Drops the first dy rows and dx columns (from the end if negative), filled up with zeros.

    What is kept starts at (0, 0): so the overlaps of two maps moved in opposite ways coincide.
    """
    height = words.shape[2]
    out = np.zeros_like(words)
    kept = out[:, :, : height - abs(dy)]
    source = words[:, :, max(dy, 0) : height + min(dy, 0)]
    size = 8 * words.dtype.itemsize
    if dx > 0:
        np.left_shift(source, words.dtype.type(dx), out=kept)
    else:
        ones = ((1 << (width + dx)) - 1) << (size - width - dx)  # the first width + dx bits
        np.bitwise_and(source, words.dtype.type(ones), out=kept)
    return out


def _count(a: Words, b: Words) -> NDArray[np.uint32]:
    """Bits that differ, summed over channels: [Na, G, H], [Nb, G, H] → [Na, Nb]."""
    from palmforge.metrics.hamming import hamming_distances  # FAISS: only who compares waits for it

    total: NDArray[np.uint32] | None = None
    # Channel by channel: FAISS is five times as fast at 1,024 bits as at 3,072 or 992.
    for channel in range(a.shape[1]):
        left, right = (np.ascontiguousarray(x[:, channel]).view(np.uint8) for x in (a, b))
        out = np.empty((len(a), len(b)), np.uint32)
        hamming_distances(left, right, out=out)
        total = out if total is None else np.add(total, out, out=total)
    assert total is not None
    return total


def _as_words(packed: Tensor) -> Words:
    """[N, C, H] unsigned integers: a row of bits each, its first column the highest bit."""
    rows = packed.detach().cpu().numpy()
    size = next(size for size in (1, 2, 4, 8) if size >= rows.shape[3])
    rows = np.pad(rows, ((0, 0), (0, 0), (0, 0), (0, size - rows.shape[3])))
    big_endian = np.ascontiguousarray(rows).view(f">u{size}")[..., 0]
    return big_endian.astype(f"u{size}")


def _check(a: Tensor, b: Tensor, max_shift: int, together: int) -> None:
    for maps in (a, b):
        if maps.ndim != 4 or maps.dtype != torch.uint8:
            raise ValueError(
                "packed bit maps [N, C, H, W / 8] of uint8 expected (pack_maps makes them), got "
                f"{maps.dtype} {list(maps.shape)}"
            )
    if a.shape[1:] != b.shape[1:] or 0 in a.shape[1:]:
        raise ValueError(f"maps {list(a.shape)} cannot be compared with maps {list(b.shape)}")
    channels, height, width = a.shape[1], a.shape[2], 8 * a.shape[3]
    if width > _MOST_COLUMNS:
        raise ValueError(f"maps of {width} columns: {_MOST_COLUMNS} are the most")
    if not 0 <= max_shift < min(height, width):
        raise ValueError(f"max_shift {max_shift} does not fit maps of {height} × {width}")
    if together < 1 or channels % together:
        raise ValueError(f"{channels} channels cannot move in groups of {together}")
