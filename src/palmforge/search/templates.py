"""What `predict` wrote, as templates and whose they are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from palmforge.errors import DataError
from palmforge.search.index import Template, Templates


class TemplateFile(NamedTuple):
    """A file of codes or embeddings.

    Attributes:
        templates: [N, B / 8] uint8 or [N, D] float32.
        identities: [N] text.
        paths: [N] text, the pictures.
    """

    templates: Templates
    identities: pa.StringArray
    paths: pa.StringArray


def read_templates(path: str, template: Template | None = None) -> TemplateFile:
    """Reads the Parquet file of `callbacks.CodeWriter`.

    Args:
        path: The file.
        template: The column to take, `code` or `embedding`; None: the one that is there.

    Raises:
        DataError: No such file, no Parquet, no such column, no rows, rows without a template or an
            identity, codes of different lengths.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"no file {path!r}; `train.py predict` writes one")
    try:
        columns = pq.read_schema(file).names
        wanted = [template] if template else [c for c in ("code", "embedding") if c in columns]
        missing = {"identity", "path", *wanted} - set(columns)
        if missing or not wanted:
            names = ", ".join(sorted(missing)) or "code or embedding"
            raise DataError(f"{path}: no column {names} (it has {', '.join(columns)})")
        table = pq.read_table(file, columns=["path", "identity", wanted[0]]).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error})") from error
    if table.num_rows == 0:
        raise DataError(f"{path}: no rows in it")
    for name in table.column_names:
        if table[name].null_count:
            raise DataError(f"{path}: {table[name].null_count:,} rows without {name}")
    column = _one_chunk(table[wanted[0]])
    read = _codes if wanted[0] == "code" else _embeddings
    identities, paths = (_one_chunk(table[name]).cast(pa.string()) for name in ("identity", "path"))
    return TemplateFile(read(path, column), identities, paths)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined


def _codes(path: str, column: pa.Array) -> Templates:
    try:
        values = column.cast(pa.binary())
    except pa.ArrowException as error:
        raise DataError(f"{path}: `code` holds {column.type}, packed bits are needed") from error
    lengths = pc.unique(pc.binary_length(values)).to_pylist()
    if len(lengths) > 1:
        bits = " and ".join(f"{8 * length:,}" for length in sorted(lengths)[:3])
        raise DataError(f"{path}: codes of {bits} bits in one file")
    if lengths == [0]:
        raise DataError(f"{path}: codes of no bits")
    return np.frombuffer(b"".join(values.to_pylist()), np.uint8).reshape(len(values), lengths[0])


def _embeddings(path: str, column: pa.Array) -> Templates:
    lists = pa.types.is_fixed_size_list(column.type) or pa.types.is_list(column.type)
    if not lists or not pa.types.is_floating(column.type.value_type):
        raise DataError(f"{path}: `embedding` holds {column.type}, lists of floats are needed")
    lengths = pc.unique(pc.list_value_length(column)).to_pylist()
    if len(lengths) > 1:
        sizes = " and ".join(f"{length:,}" for length in sorted(lengths)[:3])
        raise DataError(f"{path}: embeddings of {sizes} dimensions in one file")
    flat = column.flatten()
    if flat.null_count:
        raise DataError(f"{path}: embeddings with empty places")
    return flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(column), lengths[0])
