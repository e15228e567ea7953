"""Distances kept as Parquet, and read again as if they had just been measured.

A folder a part: `items.parquet` (path, identity, domain, role; sorted by identity) and
`distances.parquet`, whose row is an item that is compared (`item`, its row in the first file) with
its `distances` as a list. Among items of role 0 the list is of the items after it; for a probe, of
all gallery items in their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from palmforge.data.atomic import write_aside
from palmforge.data.protocols import Role
from palmforge.data.records import PalmRecord
from palmforge.errors import DataError
from palmforge.evaluation.parts import Part
from palmforge.metrics.comparison import Comparison

ITEMS, DISTANCES = "items.parquet", "distances.parquet"
_SCHEMA = pa.schema([("item", pa.int32()), ("distances", pa.list_(pa.float32()))])
_BLOCK = 2_000_000  # distances in a row group: 8 MB


def write_scores(folder: Path, part: Part, comparison: Comparison) -> None:
    """Writes the distances of a part; in blocks, so that memory stays small.

    Args:
        folder: Made if need be; what was in it under these names is replaced.
        part: Whose records they are.
        comparison: Of these records, in their order.
    """
    with write_aside(folder / DISTANCES) as aside, pq.ParquetWriter(aside, _SCHEMA) as writer:
        for rows, lists in _lists(comparison):
            lengths = np.array([values.size for values in lists])
            offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
            flat = pa.array(np.concatenate(lists).astype(np.float32))
            column = pa.ListArray.from_arrays(pa.array(offsets), flat)
            writer.write_table(
                pa.table({"item": pa.array(rows.astype(np.int32)), "distances": column}, _SCHEMA)
            )
    columns = {
        name: [getattr(record, name) for record in part.records]
        for name in ("path", "identity", "subject", "hand", "domain")
    }
    names = {"part": part.name, "enrolled": part.enrolled, "probed": part.probed}
    table = pa.table({**columns, "role": [int(role) for role in part.roles]})
    with write_aside(folder / ITEMS) as aside:
        pq.write_table(table.replace_schema_metadata(names), aside)


def read_scores(folder: Path) -> tuple[Part, Tensor, Lookup]:
    """What `write_scores` wrote.

    Returns:
        part: Its records, and who is compared with whom.
        templates: `[N, 1]` int64: a row number stands for a palm.
        distance: Looks two sets of these up.

    Raises:
        DataError: If a file is missing, cannot be read, or does not fit the other.
    """
    try:
        items = pq.read_table(folder / ITEMS)
        stored = pq.read_table(folder / DISTANCES)
        rows = items.to_pylist()
        names = {k.decode(): v.decode() for k, v in (items.schema.metadata or {}).items()}
        records = [
            PalmRecord(r["path"], r["subject"], r["hand"], r["identity"], domain=r["domain"])
            for r in rows
        ]
        part = Part(
            names["part"], records, [Role(r["role"]) for r in rows],
            names["enrolled"], names["probed"],
        )  # fmt: skip
        lookup = Lookup(np.array(part.roles), stored)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise DataError(f"{folder}: no scores can be read there ({error})") from error
    return part, torch.arange(len(records))[:, None], lookup


class Lookup:
    """The distance of templates that are row numbers.

    Args:
        roles: `[N]`.
        stored: The table of distances.

    Raises:
        ValueError: If the table does not hold these items' distances.
    """

    def __init__(self, roles: NDArray[np.int64], stored: pa.Table) -> None:
        rows = stored["item"].to_numpy()
        self.singles = np.flatnonzero(roles == Role.ALL)
        self.gallery = np.flatnonzero(roles == Role.GALLERY)
        self.probes = np.flatnonzero(roles == Role.PROBE)
        expected = np.concatenate([self.singles[:-1], self.probes if self.gallery.size else []])
        if not np.array_equal(rows, expected.astype(rows.dtype)):
            raise ValueError(f"{DISTANCES} does not hold the items of {ITEMS}")
        lists = stored["distances"].combine_chunks()
        flat, ends = lists.flatten().to_numpy(), np.asarray(lists.offsets)
        count = max(0, self.singles.size - 1)
        pairs = self.singles.size * count // 2
        if flat.size != pairs + self.probes.size * self.gallery.size or ends[count] != pairs:
            raise ValueError(f"{DISTANCES} holds {flat.size} distances, which is not all of them")
        # 4 bytes a pair; the upper triangle is filled from the lists, the lower mirrors it.
        self.among = np.zeros((self.singles.size,) * 2, np.float32)
        for row in range(count):
            self.among[row, row + 1 :] = flat[ends[row] : ends[row + 1]]
            self.among[row + 1 :, row] = self.among[row, row + 1 :]
        self.across = flat[pairs:].reshape(self.probes.size, self.gallery.size)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """`[A, 1]`, `[B, 1]` → `[A, B]` float32."""
        one, two = a[:, 0].numpy(), b[:, 0].numpy()
        if not one.size or not two.size:
            return torch.zeros(one.size, two.size)
        if self.singles.size and one[0] in self.singles:
            places = [np.searchsorted(self.singles, rows) for rows in (one, two)]
            return torch.from_numpy(self.among[np.ix_(*places)])
        if one[0] in self.gallery:
            return self(b, a).T
        places = [np.searchsorted(self.probes, one), np.searchsorted(self.gallery, two)]
        return torch.from_numpy(self.across[np.ix_(*places)])


def _lists(comparison: Comparison) -> Iterator[tuple[NDArray, list[NDArray]]]:
    """Blocks of items with their distances."""
    singles, gallery, probes = comparison.singles, comparison.gallery, comparison.probes
    step = max(1, _BLOCK // max(1, len(singles)))
    for row in range(0, len(singles) - 1, step):
        end = min(len(singles) - 1, row + step)
        found = comparison.row_distances(singles, singles, row, end)
        yield singles.rows[row:end], [found[at, row + at + 1 :] for at in range(end - row)]
    step = max(1, _BLOCK // max(1, len(gallery)))
    for row in range(0, len(probes) if len(gallery) else 0, step):
        end = min(len(probes), row + step)
        yield probes.rows[row:end], list(comparison.row_distances(probes, gallery, row, end))
