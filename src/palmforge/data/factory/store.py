"""The directory of a factory: what was tried and why it was rejected, and the pictures."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from palmforge.data.atomic import write_aside
from palmforge.data.factory.ledger import REFERENCE, Row
from palmforge.data.factory.plan import FactoryPlan, Job
from palmforge.data.generation.output import is_there, write_png
from palmforge.data.webdataset import picture_names, read_pictures, write_shard
from palmforge.errors import DataError

MANIFEST, ATTEMPTS = "manifest.parquet", "attempts.parquet"
_PARTS = ".parts"  # rows of a job each, and pictures of palms that are not whole yet
_REFERENCES = ".references"  # hidden: they are no captures, so no part of the data set
_SCHEMA = pa.schema(
    {
        "kind": pa.string(), "identity": pa.int64(), "attempt": pa.int64(), "prompt": pa.string(),
        "seed": pa.int64(), "brightness": pa.float32(), "contrast": pa.float32(),
        "relief": pa.float32(), "lines": pa.float32(), "cosine": pa.float32(),
        "nearest": pa.float32(), "reason": pa.string(), "capture": pa.int64(),
        "embedding": pa.list_(pa.float32()),
    }
)  # fmt: skip


class FactoryStore:
    """Pictures `OUT/{identity:06d}/{capture:03d}.png` of whole palms, or shards of them.

    `OUT/manifest.parquet` has a row for each picture of the set, `OUT/attempts.parquet` one for
    each that was made, with the reason if it was rejected. While a factory is at work, what each
    job gave lies in `OUT/.parts`; what is there is whole, whoever was killed.

    Args:
        out: OUT.
        shard_identities: Palms a WebDataset shard; 0: a folder a palm.
    """

    def __init__(self, out: Path, shard_identities: int = 0) -> None:
        self.out = out
        self.shard_identities = shard_identities
        self._placed: set[int] = set()

    # --- while it is at work ---

    def rows(self) -> list[Row]:
        """Of all jobs that are done and whose pictures are there.

        Raises:
            DataError: If a file of rows or a shard is damaged.
        """
        paths = sorted((self.out / _PARTS).glob("[a-z]*.parquet"))
        paths += [self.out / ATTEMPTS] if (self.out / ATTEMPTS).exists() else []
        rows: dict[tuple[str, int, int], Row] = {}
        for path in paths:
            try:
                read = pq.read_table(path).to_pylist()
            except (pa.ArrowInvalid, OSError) as error:
                raise DataError(
                    f"{path}: damaged ({error}). Delete it: its pictures are made again"
                ) from error
            rows |= {(row["kind"], row["identity"], row["attempt"]): row for row in read}
        ordered = sorted(rows, key=lambda key: (key[0] != REFERENCE, *key))
        return self._present([rows[key] for key in ordered])

    def _present(self, rows: list[Row]) -> list[Row]:
        """Those whose picture is there, or need not be. What is lost is made again, to the bit."""
        packed = self._packed()
        present = []
        for row in rows:
            if row["reason"] is not None:
                is_present = True
            elif row["kind"] == REFERENCE:
                is_present = is_there(self._reference(row["identity"]))
            else:
                file = self.file(row["identity"], row["capture"])
                here = (self.out / file, self.out / _PARTS / file)
                is_present = _key(file) in packed or any(map(is_there, here))
            if is_present:
                present.append(row)
        return present

    def write(self, job: Job, rows: Sequence[Row], pictures: np.ndarray) -> None:
        """The pictures of a job that may be kept, then its rows.

        Args:
            job: Done.
            rows: Of `FactoryPlan.report`.
            pictures: `[B, H, W, 3]` uint8.
        """
        for row, picture in zip(rows, pictures, strict=True):
            if job.kind == REFERENCE:
                write_png(self._reference(row["identity"]), picture)
            elif row["reason"] is None:
                write_png(self.out / _PARTS / self.file(row["identity"], row["capture"]), picture)
        _write_table(self.out / _PARTS / f"{job.name}.parquet", _table(rows))

    def load_reference(self, identity: int) -> Tensor:
        """`[3, S, S]` uint8."""
        with Image.open(self._reference(identity)) as image:
            return torch.from_numpy(np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy())

    def file(self, identity: int, capture: int) -> str:
        """A picture, relative to OUT."""
        return f"{identity:06d}/{capture:03d}.png"

    def place(self, plan: FactoryPlan) -> None:
        """Moves the captures of whole palms to where a data set has them."""
        for identity in plan.complete():
            if identity in self._placed:
                continue
            for capture in range(plan.captures):
                file = self.file(identity, capture)
                if (self.out / _PARTS / file).exists():
                    (self.out / file).parent.mkdir(exist_ok=True)
                    (self.out / _PARTS / file).replace(self.out / file)
            self._placed.add(identity)

    def placed(self) -> set[int]:
        """Palms that have pictures in the data set, of this run or an earlier one."""
        folders = [path for path in self.out.glob("[0-9]*") if path.is_dir()]
        loose = {int(path.name) for path in folders if any(path.iterdir())}
        return loose | {int(name.split("-")[0]) for name in self._packed()}

    def sweep(self) -> None:
        """Removes what a killed process was writing."""
        names = (MANIFEST, ATTEMPTS, "shard-*.tar", "README.md")
        for pattern in (*(f".{name}.*" for name in names), f"{_REFERENCES}/.*.png.*"):
            for aside in self.out.glob(pattern):
                aside.unlink()

    # --- at the end ---

    def finish(self, plan: FactoryPlan, constants: dict[str, Any]) -> int:
        """Shards, the two tables, and no parts any more.

        Args:
            plan: Whole.
            constants: Columns that are the same in all rows of the manifest.

        Returns:
            Pictures of the set.
        """
        self.place(plan)
        palms = plan.complete()
        shards = self._pack(plan, palms) if self.shard_identities else {}
        rows = []
        for identity in palms:
            for row in plan.kept(identity):
                file = self.file(identity, row["capture"])
                told = {name: row[name] for name in _TOLD}
                where = {"shard": shards[identity]} if shards else {}
                rows.append({"file": file, **where, **told, **constants})
        everything = [plan.references[i] for i in sorted(plan.references)]
        everything += [row for i in sorted(plan.attempts) for row in plan.attempts[i]]
        _write_table(self.out / MANIFEST, _typed(pa.Table.from_pylist(rows)))
        _write_table(self.out / ATTEMPTS, _table(everything))
        shutil.rmtree(self.out / _PARTS, ignore_errors=True)
        for row in everything:
            if row["kind"] == REFERENCE and row["reason"] is not None:
                self._reference(row["identity"]).unlink(missing_ok=True)
        return len(rows)

    def _pack(self, plan: FactoryPlan, palms: list[int]) -> dict[int, str]:
        """Palm → its shard. Full shards stay as they are when a set grows."""
        shard_of: dict[int, str] = {}
        for first in range(0, len(palms), self.shard_identities):
            members = palms[first : first + self.shard_identities]
            path = self.out / f"shard-{first // self.shard_identities:06d}.tar"
            rows = {
                self.file(identity, row["capture"]): row
                for identity in members
                for row in plan.kept(identity)
            }
            loose = [file for file in rows if (self.out / file).exists()]
            if loose:
                new = {_key(file): (self.out / file).read_bytes() for file in loose}
                pictures = (read_pictures(path) if len(loose) < len(rows) else {}) | new
                told = [{name: row[name] for name in _TOLD} for row in rows.values()]
                files = [(file, pictures[_key(file)]) for file in rows]
                write_shard(path, [(*file, row) for file, row in zip(files, told, strict=True)])
            for file in loose:
                (self.out / file).unlink()
            shard_of |= dict.fromkeys(members, path.name)
        for identity in palms:
            folder = self.out / f"{identity:06d}"
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        return shard_of

    def _packed(self) -> set[str]:
        """Names of the pictures that lie in shards."""
        return {name for path in self.out.glob("shard-*.tar") for name in picture_names(path)}

    def _reference(self, identity: int) -> Path:
        return self.out / _REFERENCES / f"{identity:06d}.png"


_TOLD = (
    "identity", "capture", "attempt", "prompt", "seed", "cosine", "brightness", "contrast",
    "relief", "lines",
)  # fmt: skip


def _key(file: str) -> str:
    return file.replace("/", "-")


def _table(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist([dict(row) for row in rows], schema=_SCHEMA)


def _typed(table: pa.Table) -> pa.Table:
    """Columns as in `attempts.parquet`; those of which nothing is known are text, not null."""
    for place, field in enumerate(table.schema):
        known = _SCHEMA.field(field.name).type if field.name in _SCHEMA.names else field.type
        wanted = pa.string() if pa.types.is_null(known) else known
        table = table.set_column(place, field.name, table.column(place).cast(wanted))
    return table


def _write_table(path: Path, table: pa.Table) -> None:
    with write_aside(path) as aside:
        pq.write_table(table, aside)
