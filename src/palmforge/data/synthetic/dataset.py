"""A data set of rendered hands on disk: photographs or ROIs, and a manifest of what made each."""

from __future__ import annotations

import csv
import ctypes
import io
import json
import multiprocessing
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palmforge.data import keypoints
from palmforge.data.atomic import write_aside
from palmforge.data.progress import progress_bar
from palmforge.data.synthetic.camera import encode_jpeg, get_preset
from palmforge.data.synthetic.capture import flat_row, subject_and_hand
from palmforge.data.synthetic.render import PalmTruth, RoiTruth, render_palm, render_roi
from palmforge.data.synthetic.skin import describe_palm
from palmforge.data.webdataset import write_shard
from palmforge.errors import DataError

FORMAT_VERSION = 2  # raise it when the same settings would give other pictures
MANIFEST = "manifest.parquet"
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_PARTS = ".parts"  # rows of the manifest, until the last picture is there


@dataclass(frozen=True)
class SyntheticPalms:
    """What to render.

    Attributes:
        num_identities: palms; identities 2k and 2k + 1 are the left and right hand of person k.
        images_per_identity: captures of each palm in each domain.
        domains: domain codes of XJTU-UP (device initial and F(lash) or N(ature)), or `wild`.
        size: side of the square pictures, in pixels.
        seed: everything random follows from it.
        what: whole `hands`, with key points, or their `rois` only, several times faster.
        frame_error: of ROIs: how far a localiser missed the frame (render_roi); 0 = not at all.
        shard_size: 0: one file a picture; else WebDataset shards (tar files) of about so many
            pictures, each with its row of the manifest as JSON.
    """

    num_identities: int = 40
    images_per_identity: int = 10
    domains: tuple[str, ...] = ("IF", "IN")
    size: int = 384
    seed: int = 0
    what: Literal["hands", "rois"] = "hands"
    frame_error: float = 0.0
    shard_size: int = 0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: unknown or repeated domain, nothing to render, or a number out of range.
        """
        if isinstance(self.domains, str):
            raise ValueError(f"domains is a list of names, got the word {self.domains!r}")
        object.__setattr__(self, "domains", tuple(self.domains))  # YAML gives lists
        for domain in self.domains:
            get_preset(domain)
        if not self.domains or len(set(self.domains)) < len(self.domains):
            raise ValueError(f"domains must be distinct and at least one, got {self.domains}")
        counts = (self.num_identities, self.images_per_identity)
        numbers = (*counts, self.size, self.seed, self.shard_size)
        if not all(isinstance(number, int) for number in numbers):
            raise ValueError(f"numbers of pictures and pixels are whole, got {self}")
        least = 64 if self.what == "hands" else 32
        if min(counts) < 1 or self.size < least or min(self.seed, self.shard_size) < 0:
            raise ValueError(
                "num_identities and images_per_identity must be >= 1, size >= 64 (ROIs: 32), seed "
                f"and shard_size >= 0, got {self}"
            )
        if self.what not in ("hands", "rois") or self.frame_error < 0:
            raise ValueError(f"what is hands or rois, and frame_error is >= 0, got {self}")
        if self.what == "hands" and self.frame_error:
            raise ValueError("frame_error is of ROIs: what must be rois")
        if "wild" in self.domains and len(self.domains) > 1:
            raise ValueError("wild pictures lie as identity/picture: give them a directory alone")

    def file(self, identity: int, capture: int) -> str:
        """Path of a picture inside its domain's folder, such as `L_001/IMG_0001.JPG`.

        Args:
            identity: palm, from 0.
            capture: picture of that palm, from 1, as cameras count.

        Returns:
            The path, with forward slashes.
        """
        subject, hand = subject_and_hand(identity)
        return f"{hand}_{subject + 1:03d}/IMG_{capture:04d}.JPG"

    def write(self, root: str, num_workers: int = 0) -> None:
        """Render what is not there yet.

        Writes `root/{device}/{Flash|Nature}/{L|R}_{NNN}/IMG_{capture:04d}.JPG`, or without the
        domain's folders for `wild`; for whole hands a `keypoints.csv` in each domain's folder;
        `root/manifest.parquet`, one row a picture with its truth and every number that was drawn
        for it; and `root/synthetic.json`, which records these settings. The bytes do not depend on
        `num_workers`, nor on interruptions.

        Args:
            root: directory, made if need be.
            num_workers: processes; 0 and 1 render in this process.

        Raises:
            DataError: `root` was written with other settings.
        """
        top = Path(root)
        self._claim(top)
        domains = self._incomplete(top)
        if not domains:
            return
        block = max(1, round(self.shard_size / self.images_per_identity))
        blocks = [
            (first, min(first + block, self.num_identities))
            for first in range(0, self.num_identities, block)
        ]
        listed = _listed(top)
        files = frozenset(listed["file"].to_pylist())
        write_one = partial(_write_block, self, root, files, domains)
        for _ in progress_bar(_map(write_one, blocks, num_workers), "rendering palms", len(blocks)):
            pass
        self._finish(top, listed, [(domain, *block) for domain in domains for block in blocks])

    def _claim(self, top: Path) -> None:
        """Record the settings in `top`, or check them against those recorded there.

        Domains may be added: the palms in them are the same.
        """
        path = top / "synthetic.json"
        settings = {"format_version": FORMAT_VERSION, **asdict(self), "domains": list(self.domains)}
        if path.exists():
            there = json.loads(path.read_text())
            domains = list(dict.fromkeys([*there["domains"], *self.domains]))
            if {**there, "domains": domains} != {**settings, "domains": domains}:
                raise DataError(
                    f"{path} was written with other settings ({there}); "
                    f"give {settings} another directory, or delete this one"
                )
            settings["domains"] = domains
        elif top.is_dir() and any(top.iterdir()):
            raise DataError(
                f"{top} holds files that were not rendered here; give an empty or new directory"
            )
        _replace(path, (json.dumps(settings, indent=2) + "\n").encode())

    def _incomplete(self, top: Path) -> list[str]:
        """Domains that lack a picture, a row of the manifest, or their key points."""
        manifest = _listed(top)
        listed = set(manifest["file"].to_pylist())
        shards = set(manifest["shard"].to_pylist()) if "shard" in manifest.column_names else set()
        lacking = []
        for domain in self.domains:
            folder = get_preset(domain).folder
            files = {
                _join(folder, self.file(identity, capture))
                for identity in range(self.num_identities)
                for capture in range(1, self.images_per_identity + 1)
            }
            loose = self.what == "hands" and not self.shard_size
            files_there = shards if self.shard_size else files
            pointed = not loose or (top / folder / keypoints.CSV_NAME).exists()
            whole = files <= listed and all((top / file).exists() for file in files_there)
            if not (whole and pointed):
                lacking.append(domain)
        return lacking

    def _finish(self, top: Path, listed: pa.Table, jobs: list[tuple[str, int, int]]) -> None:
        """Join the parts into the manifest, write key points, and clear up."""
        parts = [pq.read_table(_part(top, *job)) for job in jobs]
        new = pa.concat_tables(parts, promote_options="permissive")
        kept = listed.filter(pa.compute.invert(pa.compute.is_in(listed["file"], new["file"])))
        table = pa.concat_tables([kept, new], promote_options="permissive").sort_by("file")
        if self.what == "hands" and not self.shard_size:
            for domain in {domain for domain, *_ in jobs}:
                _write_keypoints(top, domain, table)
        with write_aside(top / MANIFEST) as aside:
            pq.write_table(table, aside)
        shutil.rmtree(top / _PARTS)


def _listed(top: Path) -> pa.Table:
    """The manifest that is there, or an empty one."""
    path = top / MANIFEST
    return pq.read_table(path) if path.exists() else pa.table({"file": pa.array([], pa.string())})


def _join(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file


def _part(top: Path, domain: str, first: int, last: int) -> Path:
    return top / _PARTS / f"{domain}-{first:07d}.parquet"


def _write_block(
    palms: SyntheticPalms,
    root: str,
    listed: frozenset[str],
    domains: list[str],
    block: tuple[int, int],
) -> None:
    """Write some identities in all domains, one after another: one painting serves them all."""
    for domain in domains:
        _write_part(palms, root, listed, domain, block)


def _write_part(
    palms: SyntheticPalms, root: str, listed: frozenset[str], domain: str, block: tuple[int, int]
) -> None:
    """Write the pictures of some identities in a domain, then their part of the manifest."""
    first, last = block
    top, folder = Path(root), get_preset(domain).folder
    samples = [
        (identity, capture, _join(folder, palms.file(identity, capture)))
        for identity in range(first, last)
        for capture in range(1, palms.images_per_identity + 1)
    ]
    part = _part(top, domain, first, last)
    shard = f"shard-{domain}-{first:07d}.tar" if palms.shard_size else None
    there = [(top / (shard or file)).exists() for _, _, file in samples]
    if part.exists() and all(there):
        return
    rows, files = [], []
    for (identity, capture, file), exists in zip(samples, there, strict=True):
        if exists and file in listed:
            continue
        data, row = _render(palms, domain, identity, capture)
        rows.append({"file": file, **({"shard": shard} if shard else {}), **row})
        if shard:
            files.append((file, data, rows[-1]))
        elif not exists:
            _replace(top / file, data)
    if shard and not all(there):
        write_shard(top / shard, files)
    table = pa.Table.from_pylist(rows) if rows else _listed(top).slice(0, 0)
    part.parent.mkdir(parents=True, exist_ok=True)
    with write_aside(part) as aside:
        pq.write_table(table, aside)


def _render(
    palms: SyntheticPalms, domain: str, identity: int, capture: int
) -> tuple[bytes, dict[str, Any]]:
    """One picture as a JPEG file, and its row of the manifest."""
    subject, hand = subject_and_hand(identity)
    row: dict[str, Any] = {
        "identity": identity, "subject": subject, "hand": hand, "preset": domain,
        "capture": capture, "size": palms.size, "seed": palms.seed,
    }  # fmt: skip
    arguments = (identity, capture, domain, palms.size, palms.seed)
    truth: PalmTruth | RoiTruth
    if palms.what == "hands":
        image, truth = render_palm(*arguments)
        for name in ("keypoints14", "keypoints21", "visible14", "visible21"):
            row[name] = np.ravel(getattr(truth, name)).tolist()
    else:
        image, truth = render_roi(*arguments, palms.frame_error)
        row |= {"frame_error": palms.frame_error, "source_side": truth.source_side}
    row |= describe_palm(identity, palms.seed)
    numbers = truth.capture.parameters() | flat_row(truth.background, "background")
    row |= {k: float(v) if isinstance(v, int | float) else v for k, v in numbers.items()}
    return encode_jpeg(image, truth.capture.device), row


def _write_keypoints(top: Path, domain: str, table: pa.Table) -> None:
    """The sidecar of a domain, from the manifest."""
    folder = get_preset(domain).folder
    rows = table.filter(pa.compute.equal(table["preset"], domain))
    files = [name.removeprefix(f"{folder}/") for name in rows["file"].to_pylist()]
    points = rows["keypoints14"].to_pylist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(keypoints.HEADER)
    for file, flat in zip(files, points, strict=True):
        writer.writerow([file, *(f"{value:.2f}" for value in flat)])
    _replace(top / folder / keypoints.CSV_NAME, text.getvalue().encode())


def _replace(path: Path, data: bytes) -> None:
    """Write a file under another name first: a file that is there is whole."""
    with write_aside(path) as aside:
        aside.write_bytes(data)


def _map(function: Callable, jobs: Iterable, num_workers: int) -> Iterator:
    """Apply a function to jobs in order, in this process or in others."""
    if num_workers <= 1:
        yield from map(function, jobs)
        return
    # OpenCV's thread pool does not survive a fork: a child that uses it waits for ever.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with multiprocessing.get_context().Pool(num_workers, start_worker) as pool:
            yield from pool.imap(function, jobs)
    finally:
        cv2.setNumThreads(threads)


def start_worker() -> None:
    """One thread a process, and freed memory kept: pictures are 3 MB arrays made by the dozen.

    Without it glibc hands each back to the kernel, and page faults take a fifth of the time.
    """
    cv2.setNumThreads(1)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            getattr(libc, "mallopt", lambda *_: 0)(parameter, 1 << 30)
