"""Which pairs are compared, in tiles: the geometry that integer and float distances share.

Items are sorted by identity first. Then the genuine pairs of some rows lie in one narrow band of
columns, everything else is impostor pairs, and no [N, N] mask is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Tile:
    """Rows [row, row_end) against the columns from `column` to the last.

    Attributes:
        band: columns, counted from `column`, among which all genuine pairs of the tile lie.
        genuine: [rows, band] bool, the genuine pairs of the band.
        triangular: of the first `rows` columns only the pairs above the diagonal count.
    """

    row: int
    row_end: int
    column: int
    band: slice
    genuine: NDArray[np.bool_]
    triangular: bool

    @property
    def rows(self) -> slice:
        """The row items of the tile."""
        return slice(self.row, self.row_end)

    @property
    def not_counted(self) -> NDArray[np.bool_]:
        """[rows, rows] bool: of the first columns, the pairs with j <= i of a triangular tile."""
        return np.tri(self.row_end - self.row, dtype=bool)


def walk_pairs(labels: Labels, block: int) -> Iterator[Tile]:
    """All pairs i < j of one set in tiles of about `block` pairs; labels [N] ascending."""
    total = labels.size
    ends = np.searchsorted(labels, labels, side="right")
    row = 0
    while row < total - 1:
        row_end = min(total, row + max(1, block // (total - row)))
        band = slice(0, int(ends[row_end - 1]) - row)
        genuine = labels[row:row_end, None] == labels[None, row : row + band.stop]
        size = row_end - row
        genuine[:, :size] &= ~np.tri(size, dtype=bool)
        yield Tile(row, row_end, row, band, genuine, triangular=True)
        row = row_end


def walk_cross(row_labels: Labels, column_labels: Labels, block: int) -> Iterator[Tile]:
    """Every row item against every column item; both label arrays ascending, [P] and [G]."""
    if column_labels.size == 0:
        return
    step = max(1, block // column_labels.size)
    for row in range(0, row_labels.size, step):
        row_end = min(row_labels.size, row + step)
        low = int(np.searchsorted(column_labels, row_labels[row], side="left"))
        high = int(np.searchsorted(column_labels, row_labels[row_end - 1], side="right"))
        genuine = row_labels[row:row_end, None] == column_labels[None, low:high]
        yield Tile(row, row_end, 0, slice(low, high), genuine, triangular=False)


def sort_by_label(labels: NDArray[np.integer], name: str = "labels") -> tuple[Labels, Labels]:
    """(order, labels in that order), both [N].

    Raises:
        ValueError: labels are not one-dimensional whole numbers.
    """
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name} must be 1-D integers, got {labels.dtype} {labels.shape}")
    order = np.argsort(labels, kind="stable")
    return order, labels[order].astype(np.int64)
