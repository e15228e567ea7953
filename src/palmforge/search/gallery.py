"""Who are these palms? A gallery of enrolled images, searched for the nearest identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from palmforge.errors import ConfigError, DataError
from palmforge.search.calibration import Calibration
from palmforge.search.gallery_files import Stored, read_gallery, write_gallery
from palmforge.search.index import (
    IndexSettings,
    Nearest,
    Template,
    Templates,
    build_index,
    drop_rows,
    from_bytes,
    nearest,
    set_effort,
    to_bytes,
)

_ROWS_HELD = 4_000_000  # rows and distances of a block of probes: about 100 MB


class Hits(NamedTuple):
    """The nearest identities of each probe, nearest first.

    Attributes:
        identities: [P, k] str; None where there are no more.
        distances: [P, k] of the identity's nearest image: int32 bits (codes) or float32 cosine
            distances in 0 … 2 (embeddings); the largest int32, or inf, where there are no more, so
            that no threshold accepts them.
    """

    identities: NDArray[np.object_]
    distances: NDArray[Any]


class Gallery:
    """Templates and whose they are. Made by `Gallery.build` or `Gallery.load`.

    In memory a flat gallery of codes is the codes themselves, 4 bytes an image that say whose it
    is, and each name once.

    Attributes:
        template: `code` (packed bits, Hamming distance) or `embedding` (cosine distance).
        settings: of the index.
        calibration: its false positive identification rate; None: not measured.
        made_by: the command that made it, for whoever finds it.
    """

    def __init__(
        self,
        template: Template,
        settings: IndexSettings,
        index: Any,
        owners: NDArray[np.int32],
        names: pa.StringArray,
        calibration: Calibration | None = None,
        made_by: str = "",
    ) -> None:
        self.template = template
        self.settings = settings
        self.calibration = calibration
        self.made_by = made_by
        self._index = index
        self._owners = owners
        self._names = names

    @classmethod
    def build(
        cls,
        templates: Templates,
        identities: Sequence[str] | pa.Array,
        settings: IndexSettings = IndexSettings(),  # noqa: B008  (frozen)
        made_by: str = "",
    ) -> Gallery:
        """Enrols images.

        Args:
            templates: [N, B / 8] uint8, packed codes (`metrics.hamming.pack_codes`); or [N, D]
                floats, embeddings, which are brought to unit length.
            identities: [N] whose each image is; one image an identity is enough.
            settings: kind of index; `IndexSettings("ivf", nprobe=8)`.
            made_by: kept with it.

        Raises:
            DataError: no images, lengths that differ, identities that are empty, embeddings that
                are not finite or zero.
        """
        template: Template = "code" if templates.dtype == np.uint8 else "embedding"
        rows = _prepared(templates, template)
        if len(rows) == 0:
            raise DataError("a gallery needs at least one image")
        owners, names = _numbered(identities, len(rows), pa.array([], pa.string()))
        index = build_index(template, rows, settings)
        return cls(template, settings, index, owners, names, made_by=made_by)

    def __len__(self) -> int:
        return len(self._owners)

    @property
    def width(self) -> int:
        """Bits of a code, or dimensions of an embedding."""
        return int(self._index.d)

    @property
    def identities(self) -> list[str]:
        """Who is enrolled, in the order of enrolment."""
        return self._names.to_pylist()

    @property
    def images_of_each(self) -> NDArray[np.int64]:
        """Images of each of `identities`."""
        return np.bincount(self._owners, minlength=len(self._names))

    @property
    def index_bytes(self) -> int:
        """Size of the index in FAISS's format, which is near that in memory."""
        return int(to_bytes(self._index, self.template).nbytes)

    def enrolled(self, identities: Sequence[str] | pa.Array) -> NDArray[np.bool_]:
        """[N] whether each of the identities is in the gallery."""
        return pc.is_in(_strings(identities), self._names).to_numpy(zero_copy_only=False)

    def add(self, templates: Templates, identities: Sequence[str] | pa.Array) -> None:
        """Enrols more images, of new identities or of known ones.

        The cells of an IVF index stay those that it was built with.

        Args:
            templates: [N, ...] as in `build`, of the gallery's kind and width.
            identities: [N].

        Raises:
            DataError: templates of another kind or width; as in `build`. Nothing is added then.
        """
        rows = self._checked(templates)
        owners, names = _numbered(identities, len(rows), self._names)
        self._index.add(rows)
        self._owners = np.concatenate((self._owners, owners))
        self._names = names

    def remove(self, identities: Sequence[str] | pa.Array) -> int:
        """Forgets identities: their templates and their names.

        An HNSW index is built anew from the rest, which takes as long as building it did.

        Returns:
            How many images are gone.

        Raises:
            DataError: one of them is not enrolled. Nothing is removed then.
        """
        wanted = _strings(identities)
        unknown = wanted.filter(pc.invert(pc.is_in(wanted, self._names)))
        if len(unknown):
            raise DataError(f"not in the gallery: {_listed(unknown.to_pylist())}")
        leaving = pc.is_in(self._names, wanted).to_numpy(zero_copy_only=False)
        gone = leaving[self._owners]
        self._index = drop_rows(self._index, self.template, self.settings, gone)
        number = (np.cumsum(~leaving) - 1).astype(np.int32)
        self._owners = number[self._owners[~gone]]
        self._names = self._names.filter(pa.array(~leaving))
        return int(gone.sum())

    def search(self, templates: Templates, k: int = 1) -> Hits:
        """The k identities that have an image nearest to each probe.

        Exact for a flat gallery; `ivf` and `hnsw` may miss some. The order of identities at equal
        distances means nothing.

        Args:
            templates: [P, ...] probes, of the gallery's kind and width.
            k: identities, not images.

        Raises:
            DataError: templates of another kind or width, or that are not finite.
            ConfigError: k < 1.
        """
        if k < 1:
            raise ConfigError(f"k: must be at least 1, got {k}")
        probes = self._checked(templates)
        worst = np.iinfo(np.int32).max if self.template == "code" else np.inf
        kind = np.int32 if self.template == "code" else np.float32
        owners = np.full((len(probes), k), -1, np.int32)
        distances = np.full((len(probes), k), worst, kind)
        self._fill(probes, owners, distances)
        flat = pa.array(owners.ravel(), mask=owners.ravel() < 0)
        names = self._names.take(flat).to_numpy(zero_copy_only=False)
        return Hits(names.reshape(owners.shape), distances)

    def calibrate(self, templates: Templates, identities: Sequence[str] | pa.Array) -> Calibration:
        """Measures the false positive identification rate with probes that are not enrolled.

        Args:
            templates: [M, ...] probes; FPIRs below 1 / M stay unknown.
            identities: [M] whose they are, to see that they are not enrolled.

        Returns:
            What is then `calibration`.

        Raises:
            DataError: some of them are enrolled, there are none, or the gallery is empty.
        """
        known = self.enrolled(identities)
        if known.any():
            some = _listed(_strings(identities).filter(pa.array(known)).unique().to_pylist())
            raise DataError(
                f"calibration needs probes that are not enrolled; {known.sum():,} of "
                f"{len(known):,} are of enrolled identities: {some}"
            )
        if len(known) == 0 or len(self) == 0:
            raise DataError("calibration needs probes, and a gallery with somebody in it")
        found = self.search(templates, 1).distances[:, 0]
        if self.template == "code":
            found = np.where(found > self.width, np.inf, found)
        self.calibration = Calibration(
            np.sort(found), self.template == "code", len(self._names), len(self)
        )
        return self.calibration

    def tune(self, nprobe: int | None = None, ef_search: int | None = None) -> None:
        """Lets an approximate index look harder or less hard, and drops the calibration.

        An index that looks harder also finds more strangers' near misses.
        """
        given = {"nprobe": nprobe, "ef_search": ef_search}
        changes: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        self.settings = replace(self.settings, **changes)
        set_effort(self._index, self.settings)
        self.calibration = None

    def save(self, folder: str | Path) -> None:
        """Writes a folder, or exchanges the gallery in it; a crash leaves the old one whole.

        Raises:
            ConfigError: the folder holds something else.
            DataError: it cannot be written to.
        """
        index = to_bytes(self._index, self.template)
        stored = Stored(
            self.template, self.width, self.settings, index, self._owners, self._names,
            self.calibration, self.made_by,
        )  # fmt: skip
        write_gallery(Path(folder).expanduser(), stored)

    @classmethod
    def load(cls, folder: str | Path) -> Gallery:
        """Reads what `save` wrote.

        Raises:
            DataError: no gallery is there, or a file is damaged or missing; with its name.
        """
        there = read_gallery(Path(folder).expanduser())
        try:
            index = from_bytes(there.index, there.template, there.settings)
        except (RuntimeError, AttributeError) as error:
            raise DataError(f"gallery {folder}: FAISS cannot read its index ({error})") from error
        if (index.d, index.ntotal) != (there.width, len(there.owners)):
            raise DataError(
                f"gallery {folder}: its index has {index.ntotal} rows of width {index.d}, "
                f"gallery.json says {len(there.owners)} of {there.width}"
            )
        return cls(
            there.template, there.settings, index, there.owners, there.names,
            there.calibration, there.made_by,
        )  # fmt: skip

    def _checked(self, templates: Templates) -> Templates:
        rows = _prepared(templates, self.template)
        width = rows.shape[1] * (8 if self.template == "code" else 1)
        if width != self.width:
            unit = "bits" if self.template == "code" else "dimensions"
            raise DataError(
                f"{self.template}s of {width} {unit}, but the gallery's have {self.width} {unit}: "
                "they are of different networks"
            )
        return rows

    def _fill(self, probes: Templates, owners: NDArray[np.int32], distances: NDArray[Any]) -> None:
        """Asks for as many rows as k identities have on average; for more where these are fewer."""
        images, k = len(self), owners.shape[1]
        if images == 0 or len(probes) == 0:
            return
        count = min(images, min(k, len(self._names)) * -(-images // len(self._names)))
        open_ = np.arange(len(probes))
        while open_.size:
            step = max(1, _ROWS_HELD // count)
            unfinished = []
            for start in range(0, open_.size, step):
                part = open_[start : start + step]
                found = nearest(self._index, self.template, probes[part], count)
                here, near, complete = _identities_of(found, self._owners, k)
                columns = here.shape[1]
                owners[part, :columns], distances[part, :columns] = here, near
                unfinished.append(part[~complete])
            if count == images:
                return
            open_, count = np.concatenate(unfinished), min(images, 4 * count)


def _identities_of(
    found: Nearest, owners: NDArray[np.int32], k: int
) -> tuple[NDArray[np.int32], NDArray[Any], NDArray[np.bool_]]:
    """The nearest image of each identity among the rows found.

    Returns:
        (numbers [P, c], distances [P, c], complete [P]), c <= k; -1 and the last distance where
        there are fewer than c. Complete: k identities, or the index has no more rows to give.
    """
    whose = np.where(found.rows >= 0, owners[found.rows], -1)
    order = np.argsort(whose, axis=1, kind="stable")  # stable: the nearest image comes first
    ascending = np.take_along_axis(whose, order, 1)
    first = np.ones(whose.shape, bool)
    first[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    chosen = np.empty(whose.shape, bool)
    np.put_along_axis(chosen, order, first & (ascending >= 0), 1)
    place = np.cumsum(chosen, 1) - 1
    chosen &= place < k
    row, column = np.nonzero(chosen)
    width = min(k, whose.shape[1])
    numbers = np.full((len(whose), width), -1, np.int32)
    none = np.iinfo(np.int32).max if found.distances.dtype == np.int32 else np.inf
    near = np.full((len(whose), width), none, found.distances.dtype)
    numbers[row, place[row, column]] = whose[row, column]
    near[row, place[row, column]] = found.distances[row, column]
    complete = (chosen.sum(1) == k) | (found.rows[:, -1] < 0)
    return numbers, near, complete


def _prepared(templates: Templates, template: Template) -> Templates:
    """C-contiguous uint8 codes, or float32 embeddings of unit length."""
    if templates.ndim != 2 or templates.shape[1] == 0:
        raise DataError(f"templates must be [N, width], got shape {templates.shape}")
    if (templates.dtype == np.uint8) != (template == "code"):
        given = "codes" if templates.dtype == np.uint8 else "embeddings"
        raise DataError(f"{given} were given, the gallery holds {template}s")
    if template == "code":
        return np.ascontiguousarray(templates)
    lengths = np.linalg.norm(templates.astype(np.float64), axis=1, keepdims=True)
    bad = int(np.count_nonzero(~(np.isfinite(lengths) & (lengths > 0))))
    if bad:
        raise DataError(f"{bad} of {len(templates)} embeddings are zero, NaN or infinite")
    return np.ascontiguousarray(templates / lengths, np.float32)


def _numbered(
    identities: Sequence[str] | pa.Array, count: int, names: pa.StringArray
) -> tuple[NDArray[np.int32], pa.StringArray]:
    """Numbers of identities in `names`, to which those that are new are appended."""
    given = _strings(identities)
    if len(given) != count:
        raise DataError(f"{count} templates, but {len(given)} identities")
    new = given.filter(pc.invert(pc.is_in(given, names))).unique()
    everybody = pa.concat_arrays([names, new])
    return pc.index_in(given, everybody).to_numpy(zero_copy_only=False).astype(np.int32), everybody


def _strings(identities: Sequence[str] | pa.Array) -> pa.StringArray:
    try:
        if isinstance(identities, pa.ChunkedArray):
            identities = identities.combine_chunks()
        given = pa.array(identities, pa.string())
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"identities must be text: {error}") from error
    if given.null_count or pc.any(pc.equal(given, "")).as_py():
        raise DataError("some identities are empty")
    return given


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")
