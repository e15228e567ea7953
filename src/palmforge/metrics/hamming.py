"""Binary codes packed eight bits a byte, and their Hamming distances by XOR and popcount.

FAISS compares (AVX-512 popcount where the processor has it) a tile that stays in the L2 cache, and
only the narrow result goes to memory. One thread, 10,000 x 10,000 of 128 bits: about 31 ms into an
array that is there already, 38 ms into a new one; torch.cdist on the same ±1 codes 370 ms, NumPy's
`bitwise_count` 96 ms (benchmarks/packed_hamming.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from palmforge.metrics.pairs import Tile, sort_by_label, walk_cross, walk_pairs
from palmforge.metrics.scores import Ints, ScoreCounts, as_numpy

Packed = NDArray[np.uint8]
DISTANCE_TILE = 80_000  # pairs; 320 kB of int32: fastest of 40,000 … 2,560,000 for full matrices
COUNT_TILE = 400_000  # pairs; counting costs more a call, 1.6 MB still fit the L2 cache
_BIT_VALUES = (128, 64, 32, 16, 8, 4, 2, 1)  # numpy.packbits' order


def pack_bits(codes: torch.Tensor) -> torch.Tensor:
    """As `pack_codes`, from tensor to uint8 tensor, on the device of the codes."""
    if codes.ndim != 2 or codes.shape[1] % 8 or codes.shape[1] == 0:
        shape = tuple(codes.shape)
        raise ValueError(f"codes must be [N, B] with B a multiple of 8, got shape {shape}")
    if codes.dtype == torch.uint8:
        raise ValueError("codes are uint8: already packed? Expected ±1, floats or bools")
    if codes.dtype == torch.bool:
        bits = codes
    else:
        if codes.is_floating_point() and bool(torch.isnan(codes).any()):
            rows = torch.isnan(codes).any(1).nonzero().flatten()
            raise ValueError(f"codes hold NaN in {len(rows)} rows, the first is {int(rows[0])}")
        bits = codes >= 0  # sgn(0) = +1
    values = torch.tensor(_BIT_VALUES, dtype=torch.uint8, device=codes.device)
    grouped = bits.reshape(codes.shape[0], -1, 8).to(torch.uint8)
    return (grouped * values).sum(2, dtype=torch.uint8)


def pack_codes(codes: NDArray[Any] | torch.Tensor) -> Packed:
    """Signs of codes as bits, 1 for +1; sgn(0) = +1.

    Args:
        codes: [N, B] floats (tanh outputs or ±1), ±1 integers or bools; B a multiple of 8.

    Returns:
        [N, B / 8] uint8, in the bit order of `numpy.packbits`.

    Raises:
        ValueError: not [N, B], B not a multiple of 8, NaN, or uint8 (packed already?).
    """
    tensor = codes.detach() if isinstance(codes, torch.Tensor) else torch.from_numpy(codes)
    return pack_bits(tensor).cpu().numpy()


def unpack_codes(packed: Packed | torch.Tensor) -> NDArray[np.float32]:
    """The inverse of `pack_codes`: [N, B / 8] uint8 to [N, B] float32 in {-1, +1}."""
    return np.unpackbits(as_numpy(packed), axis=1).astype(np.float32) * 2 - 1


def hamming_distances(
    a_packed: Packed | torch.Tensor,
    b_packed: Packed | torch.Tensor,
    out: NDArray[np.unsignedinteger] | None = None,
) -> NDArray[np.unsignedinteger]:
    """Number of bits in which each code of a differs from each of b.

    Args:
        a_packed: [Na, bytes] uint8.
        b_packed: [Nb, bytes] uint8.
        out: [Na, Nb] array of any integer type, C-contiguous, to write into instead of a new one.

    Returns:
        [Na, Nb] in 0 … B: uint8 up to 248 bits, else uint16. Unsigned: cast before subtracting.

    Raises:
        ValueError: not uint8 [N, bytes], different code lengths, or `out` of another shape.
    """
    a, b = _as_words(a_packed), _as_words(b_packed)
    bits = _num_bits(a_packed, b_packed)
    if out is None:
        out = np.empty((len(a), len(b)), _smallest_type(bits))
    elif out.shape != (len(a), len(b)):
        raise ValueError(f"out must be {(len(a), len(b))}, got {out.shape}")
    if out.size == 0:
        return out
    step = max(1, DISTANCE_TILE // len(b))
    compare = _comparer(a, b, step * len(b))
    for row in range(0, len(a), step):
        row_end = min(len(a), row + step)
        np.copyto(out[row:row_end], compare(row, row_end, 0), casting="unsafe")
    return out


def hamming_histograms(
    packed: Packed | torch.Tensor,
    labels: NDArray[np.integer] | torch.Tensor,
    gallery: Packed | torch.Tensor | None = None,
    gallery_labels: NDArray[np.integer] | torch.Tensor | None = None,
    block: int = COUNT_TILE,
) -> tuple[Ints, Ints]:
    """Genuine and impostor pairs by distance, without ever holding the distances.

    Memory: a few bytes for each of the `block` pairs of a tile, whatever N is. Time: about 1 ns a
    pair for 128 bits, so 200,000 codes (2 * 10^10 pairs) took 26 s on one busy core.

    Args:
        packed: [N, bytes] uint8; without a gallery all pairs i < j count.
        labels: [N] integers.
        gallery: [G, bytes] uint8; if given, the pairs are `packed` x `gallery`.
        gallery_labels: [G] integers.
        block: pairs in a tile (at least one row); changes no result.

    Returns:
        (genuine, impostor): [B + 1] int64 each, index = distance.

    Raises:
        ValueError: arrays of different length or code length, or of a wrong type.
    """
    a, rows = _sorted(packed, labels)
    if gallery is None:
        b, tiles = a, walk_pairs(rows, block)
        bits = _num_bits(packed, packed)
    else:
        if gallery_labels is None:
            raise ValueError("gallery without gallery_labels")
        b, columns = _sorted(gallery, gallery_labels)
        tiles = walk_cross(rows, columns, block)
        bits = _num_bits(packed, gallery)
    total, genuine = np.zeros(bits + 1, np.int64), np.zeros(bits + 1, np.int64)
    compare = _comparer(a, b, max(block, len(b)))
    narrow = np.empty(max(block, len(b)), _smallest_type(bits))
    for tile in tiles:
        wide = compare(tile.row, tile.row_end, tile.column)
        _count_tile(tile, wide, narrow, total, genuine)
    return genuine, total - genuine


def hamming_counts(
    packed: Packed | torch.Tensor,
    labels: NDArray[np.integer] | torch.Tensor,
    gallery: Packed | torch.Tensor | None = None,
    gallery_labels: NDArray[np.integer] | torch.Tensor | None = None,
) -> ScoreCounts:
    """`hamming_histograms` as `ScoreCounts`, from which every error rate follows."""
    return ScoreCounts.from_histograms(*hamming_histograms(packed, labels, gallery, gallery_labels))


def _count_tile(
    tile: Tile, wide: NDArray[np.int32], narrow: NDArray[Any], total: Ints, genuine: Ints
) -> None:
    """Adds a tile's distances to the histograms `total` and `genuine`, both [B + 1]."""
    # torch.bincount: 0.37 ns a value on uint8 (0.7 on int32; numpy.bincount 1.2).
    part = wide
    if narrow.dtype == np.uint8:
        part = narrow[: wide.size].reshape(wide.shape)
        np.copyto(part, wide, casting="unsafe")
    total += _bincount(part, total.size)
    if tile.triangular:
        square = part[:, : wide.shape[0]]
        total -= _bincount(square[tile.not_counted], total.size)
    genuine += _bincount(part[:, tile.band][tile.genuine], total.size)


def _bincount(values: NDArray[Any], size: int) -> Ints:
    return torch.bincount(torch.from_numpy(values.reshape(-1)), minlength=size).numpy()


def _comparer(
    a: Packed, b: Packed, largest_tile: int
) -> Callable[[int, int, int], NDArray[np.int32]]:
    """A function (row, row_end, column) -> int32 [rows, Nb - column], valid until the next call."""
    scratch = np.empty(largest_tile, np.int32)
    into = faiss.swig_ptr(scratch)

    def compare(row: int, row_end: int, column: int) -> NDArray[np.int32]:
        rows, columns = row_end - row, len(b) - column
        left, right = faiss.swig_ptr(a[row:row_end]), faiss.swig_ptr(b[column:])
        faiss.hammings(left, right, rows, columns, a.shape[1], into)  # type: ignore[attr-defined]
        return scratch[: rows * columns].reshape(rows, columns)

    return compare


def _as_words(packed: Packed | torch.Tensor) -> Packed:
    """[N, bytes] contiguous, filled up with zeros to whole 64-bit words, which FAISS asks for."""
    array = as_numpy(packed)
    if array.ndim != 2 or array.dtype != np.uint8:
        raise ValueError(f"packed codes must be uint8 [N, bytes], got {array.dtype} {array.shape}")
    missing = -array.shape[1] % 8
    if missing:
        array = np.pad(array, ((0, 0), (0, missing)))
    return np.ascontiguousarray(array)


def _sorted(
    packed: Packed | torch.Tensor, labels: NDArray[np.integer] | torch.Tensor
) -> tuple[Packed, Ints]:
    order, ascending = sort_by_label(as_numpy(labels))
    words = _as_words(packed)
    if len(words) != order.size:
        raise ValueError(f"{len(words)} codes but {order.size} labels")
    return words[order], ascending


def _num_bits(a: Packed | torch.Tensor, b: Packed | torch.Tensor) -> int:
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"codes of {8 * a.shape[1]} bits cannot be compared with {8 * b.shape[1]}")
    return 8 * int(a.shape[1])


def _smallest_type(bits: int) -> type[np.unsignedinteger]:
    return np.uint8 if bits < 256 else np.uint16
