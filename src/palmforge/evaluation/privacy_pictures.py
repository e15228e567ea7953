"""What an audit keeps of pictures: templates, perceptual hashes, digests. No picture stays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from palmforge.data.progress import progress_bar
from palmforge.data.records import PalmRecord
from palmforge.errors import DataError
from palmforge.metrics.hamming import Packed
from palmforge.metrics.perceptual_hash import BITS, VIEWS, View, is_flat, perceptual_hash
from palmforge.metrics.scores import Ints
from palmforge.recognition import EmbeddingRecognizer

BATCH = 64
Pictures = Iterable[tuple[PalmRecord, np.ndarray]]


@dataclass(frozen=True)
class Seen:
    """A set of pictures as the audit sees it.

    Attributes:
        records: [N].
        embeddings: [N, D] unit vectors.
        hashes: [N, V, bytes], of V views.
        digests: [N] of the pixels.
        flat: [N] bool, pictures of one grey: they have no hash.
    """

    records: list[PalmRecord]
    embeddings: Tensor
    hashes: Packed
    digests: list[bytes]
    flat: np.ndarray

    @property
    def identities(self) -> list[str]:
        """Names, ascending."""
        return sorted({record.identity for record in self.records})

    @property
    def labels(self) -> Ints:
        """[N], places in `identities`."""
        names = [record.identity for record in self.records]
        return np.unique(names, return_inverse=True)[1].astype(np.int64)


def look_at(
    pictures: Pictures,
    name: str,
    total: int,
    recogniser: EmbeddingRecognizer,
    views: Sequence[View] = VIEWS[:1],
) -> Seen:
    """Goes through pictures once, a batch of them in memory at a time.

    Args:
        pictures: Records with `[S, S, 3]` uint8 RGB.
        name: For the progress bar.
        total: How many at the most.
        recogniser: Makes templates.
        views: Parts of the pictures to be hashed.

    Raises:
        DataError: The recogniser makes NaN of a picture.
    """
    records: list[PalmRecord] = []
    embeddings, hashes, flat = [], [], []
    digests: list[bytes] = []
    bar = progress_bar(pictures, f"looking at {name}", total)
    for batch in _batches(bar):
        stacked = torch.from_numpy(np.stack([image for _, image in batch]).transpose(0, 3, 1, 2))
        stacked = stacked.contiguous()
        records += [record for record, _ in batch]
        digests += [hashlib.sha256(image.tobytes()).digest()[:16] for _, image in batch]
        embeddings.append(recogniser.embed(stacked).float().cpu())
        hashes.append(torch.stack([perceptual_hash(stacked, view) for view in views], 1).numpy())
        flat.append(is_flat(stacked).numpy())
    if not records:
        empty = np.zeros((0, len(views), BITS // 8), np.uint8)
        return Seen([], torch.zeros(0, 1), empty, [], np.zeros(0, bool))
    seen = Seen(
        records, torch.cat(embeddings), np.concatenate(hashes), digests, np.concatenate(flat)
    )
    bad = (~torch.isfinite(seen.embeddings).all(1)).nonzero().flatten().tolist()
    if bad:
        raise DataError(
            f"recogniser: it makes NaN of {len(bad)} {name} pictures, first {records[bad[0]].path}"
        )
    return seen


def _batches(pictures: Pictures) -> Iterator[list[tuple[PalmRecord, np.ndarray]]]:
    batch: list[tuple[PalmRecord, np.ndarray]] = []
    for pair in pictures:
        batch.append(pair)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
