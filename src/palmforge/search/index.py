"""FAISS, and what we need of it: rows 0 … n - 1 of packed codes or unit vectors, and the nearest.

Rows are numbered without gaps, in the order in which they came, for every kind of index; so one
array of owners says whose each row is, and no table of ids is kept (IndexIDMap2 would cost more
than the codes: 8 bytes of id and a hash map a row, beside 16 bytes of code).

| kind | is | removes |
|---|---|---|
| flat | every row is compared: exact | in place |
| ivf | rows in `nlist` cells around k-means centres, `nprobe` cells are looked at | in place |
| hnsw | a graph of near rows, walked from row to row | by building the graph anew |
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any, Literal, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

from palmforge.errors import ConfigError

Kind = Literal["flat", "ivf", "hnsw"]
Template = Literal["code", "embedding"]
Templates = NDArray[Any]
KINDS = ("flat", "ivf", "hnsw")
_ROWS_A_CENTRE = 39  # with fewer FAISS warns that k-means has too little to learn from


@dataclass(frozen=True)
class IndexSettings:
    """How an index is built and how hard it looks; what is not of its kind is not used.

    Attributes:
        kind: `flat`, `ivf` or `hnsw`.
        nlist: ivf: cells; 0: the square root of the number of rows.
        nprobe: ivf: cells that a search looks at. More find more, and take longer.
        hnsw_m: hnsw: neighbours of a row (twice as many on the lowest layer, 4 bytes each).
        ef_construction: hnsw: candidates kept while the graph is built.
        ef_search: hnsw: candidates kept while it is searched. More find more, and take longer.
    """

    kind: Kind = "flat"
    nlist: int = 0
    nprobe: int = 128
    hnsw_m: int = 16
    ef_construction: int = 100
    ef_search: int = 256

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind: {self.kind!r} is none of {', '.join(KINDS)}")
        for name in ("nprobe", "hnsw_m", "ef_construction", "ef_search"):
            if not 1 <= getattr(self, name) <= 1 << 20:
                raise ConfigError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.nlist <= 1 << 20:
            raise ConfigError(f"nlist: must not be negative, got {self.nlist}")


class Nearest(NamedTuple):
    """The nearest rows of each probe, nearest first.

    Attributes:
        rows: [P, K] int64, -1 where the index gave no more.
        distances: [P, K] int32 bits or float32 cosine distances; there the largest number, or inf.
    """

    rows: NDArray[np.int64]
    distances: NDArray[Any]


def build_index(template: Template, rows: Templates, settings: IndexSettings) -> Any:
    """An index of [N, bytes] uint8 codes or [N, D] float32 unit vectors.

    Returns:
        A FAISS `IndexBinary…` (Hamming) for codes, `Index…` (inner product) for embeddings.
    """
    index = _empty_index(template, rows, settings)
    if settings.kind == "ivf":
        index.train(rows)
    index.add(rows)
    set_effort(index, settings)
    return index


def _empty_index(template: Template, rows: Templates, settings: IndexSettings) -> Any:
    width = rows.shape[1] * (8 if template == "code" else 1)
    flat: Any = faiss.IndexBinaryFlat(width) if template == "code" else faiss.IndexFlatIP(width)
    if settings.kind == "flat":
        return flat
    if settings.kind == "ivf":
        most = max(1, len(rows) // _ROWS_A_CENTRE)
        nlist = min(settings.nlist or isqrt(len(rows)), most)
        if template == "code":
            return faiss.IndexBinaryIVF(flat, width, nlist)
        return faiss.IndexIVFFlat(flat, width, nlist, faiss.METRIC_INNER_PRODUCT)
    index: Any = (
        faiss.IndexBinaryHNSW(width, settings.hnsw_m)
        if template == "code"
        else faiss.IndexHNSWFlat(width, settings.hnsw_m, faiss.METRIC_INNER_PRODUCT)
    )
    index.hnsw.efConstruction = settings.ef_construction
    return index


def set_effort(index: Any, settings: IndexSettings) -> None:
    """How hard a search looks; FAISS does not keep it in the file of a binary index."""
    if settings.kind == "ivf":
        index.nprobe = min(settings.nprobe, index.nlist)
    elif settings.kind == "hnsw":
        index.hnsw.efSearch = settings.ef_search


def nearest(index: Any, template: Template, probes: Templates, count: int) -> Nearest:
    """The `count` nearest rows of each probe, or fewer where the index finds no more."""
    distances, rows = index.search(probes, count)
    if template == "code":
        return Nearest(rows, distances)
    cosine = np.clip(1 - distances, 0, 2)  # of rounded unit vectors: 1 + 1e-7 at most
    cosine[rows < 0] = np.inf
    return Nearest(rows, cosine)


def drop_rows(
    index: Any, template: Template, settings: IndexSettings, gone: NDArray[np.bool_]
) -> Any:
    """The index without the rows that are marked in `gone` [N]; the others close up, in order.

    HNSW cannot forget a row, since its neighbours' paths lead over it: the graph is built anew from
    the rows that stay, which takes as long as building did.
    """
    if settings.kind == "hnsw":
        return build_index(template, stored_rows(index, template)[~gone], settings)
    index.remove_ids(np.flatnonzero(gone))
    if settings.kind == "ivf":
        _renumber(index, np.cumsum(~gone) - 1)
    return index


def _renumber(index: Any, new: NDArray[np.int64]) -> None:
    """Writes the new numbers of rows into the lists of an IVF index, which keeps the old ones."""
    for cell in range(index.nlist):
        size = index.invlists.list_size(cell)
        if size:
            ids = faiss.rev_swig_ptr(index.invlists.get_ids(cell), size)
            ids[:] = new[ids]


def stored_rows(index: Any, template: Template) -> Templates:
    """All rows of a flat or HNSW index, as they were added: [N, bytes] uint8 or [N, D] float32."""
    storage = getattr(index, "storage", index)
    down = faiss.downcast_IndexBinary if template == "code" else faiss.downcast_index
    return down(storage).reconstruct_n(0, index.ntotal)


def to_bytes(index: Any, template: Template) -> NDArray[np.uint8]:
    """FAISS's own file format."""
    if template == "code":
        return faiss.serialize_index_binary(index)
    return faiss.serialize_index(index)


def from_bytes(content: NDArray[np.uint8], template: Template, settings: IndexSettings) -> Any:
    """The inverse of `to_bytes`. Trusts its input as FAISS does: check it before.

    Raises:
        RuntimeError: FAISS's own, where it finds fault.
    """
    read = faiss.deserialize_index_binary if template == "code" else faiss.deserialize_index
    index = read(content)
    set_effort(index, settings)
    return index
