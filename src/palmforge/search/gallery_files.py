"""A gallery on disk: a folder that is the old one or the new one, whenever the writer dies.

    gallery.json                     what it is, its calibration, the names and sums of the others
    index-<sum>.faiss                the templates, in FAISS's format
    identities-<sum>.parquet         a row an image, in the order of the index: whose it is

The two large files carry their own SHA-256 in their names. A new gallery's are written beside those
of the old one; then `gallery.json` is exchanged, which is one rename; then the old ones are
deleted. Reading checks sizes and sums before anything is handed to FAISS, which trusts its input.
The sums find damage. They are no defence against who can write to the folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from palmforge.data.atomic import check_writable, write_aside
from palmforge.errors import ConfigError, DataError
from palmforge.search.calibration import Calibration
from palmforge.search.index import IndexSettings, Template

FORMAT_VERSION = 1
HEADER = "gallery.json"
DISTANCE = {"code": "hamming", "embedding": "cosine"}
LOCK = ".lock"
_NAME = r"(index-[0-9a-f]{16}\.faiss|identities-[0-9a-f]{16}\.parquet)"
_OURS = re.compile(_NAME)
_LEFT_BEHIND = re.compile(rf"(\.{_NAME}\..*|\.{re.escape(HEADER)}\..*)")  # by `write_aside`


@dataclass
class Stored:
    """What is in the folder.

    Attributes:
        template: `code` or `embedding`.
        width: bits or dimensions.
        settings: of the index.
        index: FAISS's bytes.
        owners: [N] int32, image → row of `names`.
        names: [I] the identities, each once.
        calibration: if it has one.
        made_by: the command that made it.
    """

    template: Template
    width: int
    settings: IndexSettings
    index: NDArray[np.uint8]
    owners: NDArray[np.int32]
    names: pa.StringArray
    calibration: Calibration | None
    made_by: str


def is_gallery(folder: Path) -> bool:
    """Whether there is a gallery, whole or not."""
    return (folder / HEADER).is_file()


def check_free(folder: Path) -> None:
    """Refuses to write a gallery among somebody's other files.

    Raises:
        ConfigError: If the folder holds something, and no gallery.
        DataError: If it cannot be written to.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; a gallery is a folder")
    if folder.is_dir() and not is_gallery(folder):
        others = [p.name for p in folder.iterdir() if not _is_ours(p.name)]
        if others:
            raise ConfigError(f"{folder} holds files that are not of a gallery ({others[0]}, …)")
    check_writable(folder, "gallery")


def write_gallery(folder: Path, stored: Stored) -> None:
    """Writes a gallery, or exchanges the one that is there.

    Raises:
        ConfigError: As `check_free`.
        DataError: As `check_free`.
    """
    check_free(folder)
    buffer = pa.BufferOutputStream()
    owners = pa.DictionaryArray.from_arrays(pa.array(stored.owners), stored.names)
    pq.write_table(pa.table({"identity": owners}), buffer)
    files = {
        "index": _write(folder, "index", ".faiss", stored.index.data),
        "identities": _write(folder, "identities", ".parquet", memoryview(buffer.getvalue())),
    }
    header = {
        "format_version": FORMAT_VERSION,
        "template": stored.template,
        "width": stored.width,
        "distance": DISTANCE[stored.template],
        "images": len(stored.owners),
        "identities": len(stored.names),
        "index": asdict(stored.settings),
        "files": files,
        "made_by": stored.made_by,
        "calibration": None if stored.calibration is None else stored.calibration.to_dict(),
    }
    header["sha256"] = _header_sum(header)
    with write_aside(folder / HEADER) as aside:
        aside.write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
    keep = {file["name"] for file in files.values()}
    for path in folder.iterdir():  # what a writer that died left behind is of palms, too
        if _is_ours(path.name) and path.name not in keep | {HEADER, LOCK}:
            path.unlink(missing_ok=True)


def read_gallery(folder: Path) -> Stored:
    """Reads what `write_gallery` wrote, and trusts none of it before its sum is right.

    Raises:
        DataError: If there is no gallery, or it is damaged, or not of this version; with the file.
    """
    header = _read_header(folder)
    try:
        return _read_files(folder, header)
    except FileNotFoundError as error:  # another process may have exchanged it meanwhile
        newer = _read_header(folder)
        if newer["files"] != header["files"]:
            return _read_files(folder, newer)
        raise DataError(f"gallery {folder}: {error.filename} is missing") from error


def _is_ours(name: str) -> bool:
    """Of a gallery, or of a writer that died."""
    return name in (HEADER, LOCK) or bool(_OURS.fullmatch(name) or _LEFT_BEHIND.fullmatch(name))


def _write(folder: Path, stem: str, suffix: str, content: memoryview) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    name = f"{stem}-{digest[:16]}{suffix}"
    with write_aside(folder / name) as aside:
        aside.write_bytes(content)
    return {"name": name, "bytes": content.nbytes, "sha256": digest}


def _header_sum(header: dict[str, Any]) -> str:
    rest = {key: value for key, value in header.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / HEADER
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        version, digest = header["format_version"], header["sha256"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"no gallery in {folder}: there is no {HEADER} (gallery build)") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the header of a gallery ({error!r})") from error
    if version != FORMAT_VERSION:
        raise DataError(f"{path}: format {version}, this version reads {FORMAT_VERSION}")
    if digest != _header_sum(header):
        raise DataError(f"{path} is damaged or was edited: its checksum is not that of its content")
    return header


def _read_files(folder: Path, header: dict[str, Any]) -> Stored:
    try:
        index = _read(folder, header["files"]["index"])
        raw = _read(folder, header["files"]["identities"])
        calibration = header["calibration"]
        owners = pq.read_table(pa.BufferReader(raw))["identity"].combine_chunks()
        if isinstance(owners, pa.ChunkedArray):  # of one without rows
            owners = pa.DictionaryArray.from_arrays(pa.array([], pa.int32()), pa.array([], "str"))
        numbers = owners.indices.to_numpy().astype(np.int32)
        pa.default_memory_pool().release_unused()  # 106 MB of the Parquet reader's, at 1 M images
        stored = Stored(
            header["template"],
            header["width"],
            IndexSettings(**header["index"]),
            index,
            numbers,
            owners.dictionary,
            None if calibration is None else Calibration.from_dict(
                calibration, whole=header["template"] == "code"
            ),
            header["made_by"],
        )  # fmt: skip
        _check(stored, header)
        return stored
    except FileNotFoundError:
        raise
    except (DataError, ConfigError) as error:
        raise DataError(f"gallery {folder}: {error}") from error
    except (pa.ArrowException, KeyError, TypeError, ValueError, OSError) as error:
        raise DataError(f"gallery {folder}: cannot be read ({error!r})") from error


def _check(stored: Stored, header: dict[str, Any]) -> None:
    if stored.template not in DISTANCE:
        raise DataError(f"{HEADER}: templates of kind {stored.template!r} are unknown")
    numbers = stored.owners
    if (len(numbers), len(stored.names)) != (header["images"], header["identities"]):
        raise DataError(f"{header['files']['identities']['name']}: not the rows that {HEADER} says")
    if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(stored.names):
        raise DataError(f"{header['files']['identities']['name']}: images of nobody")


def _read(folder: Path, file: dict[str, Any]) -> NDArray[np.uint8]:
    """The bytes of a file whose size and sum are right."""
    name, size = file["name"], file["bytes"]
    if not _OURS.fullmatch(name):
        raise DataError(f"{HEADER}: {name!r} is no file of a gallery")
    found = (folder / name).stat().st_size
    if found != size:
        raise DataError(f"{name} is damaged: {found:,} bytes, {size:,} were written")
    content = np.fromfile(folder / name, np.uint8)
    if hashlib.sha256(content.data).hexdigest() != file["sha256"]:
        raise DataError(f"{name} is damaged: its SHA-256 is not the one in {HEADER}")
    return content
