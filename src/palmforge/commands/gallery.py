"""`train.py gallery`: enrol predicted codes, and search them for probes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from rich.console import Console
from rich.table import Table

from palmforge.data.atomic import check_writable, write_aside
from palmforge.errors import ConfigError, DataError

if TYPE_CHECKING:  # FAISS comes with it: imported where it is used
    from palmforge.search import Gallery
    from palmforge.search.templates import TemplateFile


def build(
    codes: str,
    out: str,
    kind: Literal["flat", "ivf", "hnsw"] = "flat",
    calibrate_with: str | None = None,
    nlist: int = 0,
    nprobe: int = 128,
    hnsw_m: int = 16,
    ef_construction: int = 100,
    ef_search: int = 256,
) -> None:
    """Enrols the images of a file of codes or embeddings in a new gallery.

    Args:
        codes: A Parquet file of `predict`.
        out: A new folder.
        kind: `flat` is exact; `ivf` and `hnsw` are faster over many codes and may miss some;
            docs/scale.md has their figures.
        calibrate_with: As `gallery calibrate` takes it.
        nlist: ivf: cells; 0: the square root of the number of images.
        nprobe: ivf: cells that a search looks at.
        hnsw_m: hnsw: neighbours of a code in the graph.
        ef_construction: hnsw: candidates kept while the graph is built.
        ef_search: hnsw: candidates kept while it is searched.
    """
    from palmforge.search import Gallery, IndexSettings
    from palmforge.search.gallery_files import check_free, is_gallery
    from palmforge.search.templates import read_templates

    settings = IndexSettings(kind, nlist, nprobe, hnsw_m, ef_construction, ef_search)
    folder = Path(out).expanduser()
    if is_gallery(folder):
        raise ConfigError(f"out: {out} is a gallery already; add to it, or name another folder")
    check_free(folder)
    file = read_templates(codes)
    made_by = f"train.py gallery build --codes {codes} --out {out} --kind {kind}"
    gallery = Gallery.build(file.templates, file.identities, settings, made_by)
    if calibrate_with is not None:
        _calibrate(gallery, calibrate_with)
    gallery.save(folder)
    _print(f"{out}: {_size(gallery)}")
    _print_thresholds(gallery)


def add(gallery: str, codes: str) -> None:
    """Enrols more images. The calibration stays that of the smaller gallery: measure it again.

    Args:
        gallery: A folder of `gallery build`.
        codes: A Parquet file of `predict`. What is enrolled already is enrolled twice.
    """
    with _changing(gallery) as there:
        file = _read(codes, there)
        there.add(file.templates, file.identities)
    _print(f"{gallery}: {len(file.paths):,} images added; {_size(there)}")
    _warn_if_stale(there)


def remove(gallery: str, identities: str | None = None, file: str | None = None) -> None:
    """Forgets identities: their templates and names. HNSW is built anew.

    Args:
        gallery: A folder of `gallery build`.
        identities: One or more, with commas between them.
        file: A text file with an identity a line, for many or for names with commas.
    """
    names = [name.strip() for name in (identities or "").split(",") if name.strip()]
    if file is not None:
        listed = Path(file).expanduser()
        if not listed.is_file():
            raise DataError(f"file: no file {file!r}")
        names += [n for n in listed.read_text(encoding="utf-8").splitlines() if n.strip()]
    if not names:
        raise ConfigError("identities: say whom to remove, with --identities or --file")
    with _changing(gallery) as there:
        gone = there.remove(names)
    _print(f"{gallery}: {gone:,} images of {len(set(names)):,} identities removed; {_size(there)}")
    _warn_if_stale(there)


def calibrate(gallery: str, codes: str) -> None:
    """Measures how often a stranger is taken for somebody enrolled (FPIR), by distance.

    Args:
        gallery: A folder of `gallery build`.
        codes: A Parquet file of `predict` with palms that are not enrolled, as many as can be had:
            an FPIR of 1e-3 needs 1,000 images.
    """
    with _changing(gallery) as there:
        _calibrate(there, codes)
    _print_thresholds(there)


def search(gallery: str, codes: str, out: str, k: int = 5, fpir: float = 1e-2) -> None:
    """Finds the nearest identities of each probe.

    Writes a row a candidate: `probe` (its path), `rank`, `identity`, `distance`, and where the
    gallery is calibrated `fpir` (how often a stranger's nearest is as near or nearer) and
    `accepted` (the distance is within the threshold of the FPIR asked for).

    Args:
        gallery: A folder of `gallery build`.
        codes: A Parquet file of `predict`.
        out: A new file, `.csv` or `.parquet`.
        k: Identities for each probe; fewer where fewer are enrolled or found.
        fpir: False positive identification rate to accept at.
    """
    from palmforge.search import Gallery

    target = Path(out).expanduser()
    if target.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"out: {out!r} must end in .csv or .parquet")
    if target.exists():
        raise ConfigError(f"out: {out} is there already; name another file")
    check_writable(target.parent, "out")
    there = Gallery.load(gallery)
    threshold = None if there.calibration is None else there.calibration.threshold(fpir)
    file = _read(codes, there)
    hits = there.search(file.templates, k)
    _write_hits(target, there, file, hits, threshold)
    probes = len(file.paths)
    _print(f"{out}: {probes:,} probes against {_size(there)}")
    own = np.array(file.identities.to_pylist(), object)
    mated = there.enrolled(file.identities)
    if mated.any():
        right = int((hits.identities[:, 0] == own)[mated].sum())
        _print(f"  {int(mated.sum()):,} are enrolled; nearest to themselves: {right:,}")
    if threshold is None:
        _print("  not calibrated, so nothing is accepted or rejected (gallery calibrate)")
        return
    accepted = hits.distances[:, 0] <= threshold
    _print(f"  accepted at FPIR {fpir:g} (distance <= {threshold:g}): {int(accepted.sum()):,}")
    _warn_if_stale(there)


def info(gallery: str) -> None:
    """Checks a gallery's files and says what is in it.

    Args:
        gallery: A folder of `gallery build`.
    """
    from palmforge.search import Gallery

    there = Gallery.load(gallery)
    table = Table(title=gallery, show_header=False)
    rows: dict[str, Any] = {
        "images": f"{len(there):,}",
        "identities": f"{len(there.identities):,}",
    }
    if len(there):
        each = there.images_of_each
        rows["images an identity"] = f"{each.min()}–{each.max()}, median {np.median(each):g}"
    unit = "bits, Hamming" if there.template == "code" else "dimensions, cosine"
    rows["templates"] = f"{there.template}s, {there.width} {unit}"
    rows["index"] = f"{there.settings.kind}, {there.index_bytes / 1e6:.1f} MB"
    rows["made by"] = there.made_by
    for name, value in rows.items():
        table.add_row(name, value)
    Console(markup=False).print(table)
    _print_thresholds(there)
    _warn_if_stale(there)


@contextmanager
def _changing(folder: str) -> Iterator[Gallery]:
    """The gallery, which is saved when all went well; one process at a time."""
    from palmforge.search import Gallery
    from palmforge.search.gallery_files import LOCK, is_gallery

    where = Path(folder).expanduser()
    if not is_gallery(where):
        raise DataError(f"no gallery in {folder}; `gallery build` makes one")
    check_writable(where, "gallery")
    with FileLock(where / LOCK):
        there = Gallery.load(folder)
        yield there
        there.save(folder)


def _read(codes: str, there: Gallery) -> TemplateFile:
    from palmforge.search.templates import read_templates

    return read_templates(codes, there.template)


def _calibrate(there: Gallery, codes: str) -> None:
    file = _read(codes, there)
    there.calibrate(file.templates, file.identities)


def _write_hits(
    target: Path, there: Gallery, file: TemplateFile, hits: Any, threshold: float | None
) -> None:
    row, column = np.nonzero(hits.identities != None)  # noqa: E711  (element by element)
    distances = hits.distances[row, column]
    columns: dict[str, Any] = {
        "probe": file.paths.take(pa.array(row)),
        "rank": pa.array(column + 1),
        "identity": pa.array(hits.identities[row, column], pa.string()),
        "distance": pa.array(distances),
        "fpir": pa.nulls(len(row), pa.float64()),
        "accepted": pa.nulls(len(row), pa.bool_()),
    }
    if threshold is not None and there.calibration is not None:
        columns["fpir"] = pa.array(there.calibration.fpir(distances))
        columns["accepted"] = pa.array(distances <= threshold)
    table = pa.table(columns)
    with write_aside(target) as aside:
        if target.suffix == ".parquet":
            pq.write_table(table, aside)
            return
        with aside.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines)
            writer.writerow(table.column_names)
            writer.writerows(zip(*(c.to_pylist() for c in table.columns), strict=True))


def _size(there: Gallery) -> str:
    return (
        f"{len(there):,} images of {len(there.identities):,} identities, {there.template}s "
        f"({there.settings.kind})"
    )


def _print_thresholds(there: Gallery) -> None:
    found = there.calibration
    if found is None:
        _print("  not calibrated (gallery calibrate)")
        return
    _print(f"  calibrated with {found.num_nonmated:,} probes that are not enrolled")
    for fpir, threshold in found.thresholds().items():
        _print(f"    FPIR {fpir}: distance <= {threshold:g}")


def _warn_if_stale(there: Gallery) -> None:
    found = there.calibration
    now = (len(there.identities), len(there))
    if found is not None and now != (found.num_identities, found.num_images):
        Console(stderr=True, markup=False, highlight=False, soft_wrap=True).print(
            f"warning: calibrated with {found.num_images:,} images enrolled, now there are "
            f"{now[1]:,}: FPIR grows with them. Measure it again (gallery calibrate)"
        )


def _print(text: str) -> None:
    Console(markup=False, highlight=False, soft_wrap=True).print(text)
