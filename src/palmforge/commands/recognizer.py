"""`train.py recognizer`: export one for use, and verify one on any sets of ROIs."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.layouts import scan
from palmforge.data.progress import progress_bar
from palmforge.data.records import PalmRecord
from palmforge.data.roi_cache import RoiSettings, extract
from palmforge.errors import BadImage, DataError
from palmforge.metrics.verification_metric import VerificationMetrics
from palmforge.recognition import load, save
from palmforge.recognition.embedding import EmbeddingRecognizer

COLOURS = ("rgb", "grey")
_BATCH = 64


def export(checkpoint: str, out: str, made_by: str = "", half: bool = True) -> None:
    """Writes the network of a checkpoint as `model.safetensors` and `config.json`.

    Args:
        checkpoint: Of a run of `MarginRecognizer`.
        out: A folder; `palmforge.recognition.load` reads it.
        made_by: The command that made the checkpoint, kept in `config.json`.
        half: Weights in float16.
    """
    check_writable(Path(out), "out")
    network = load(checkpoint).network
    save(network, out, made_by or f"train.py recognizer export {checkpoint} {out}", half)
    size = sum(file.stat().st_size for file in Path(out).iterdir()) / 2**20
    Console(markup=False).print(f"{out}: {size:.1f} MiB, {network.config}")


def verify(
    roots: list[str],
    recognizer: str = "synthetic-only",
    layout: str = "auto",
    roi_size: int = 160,
    out: str | None = None,
) -> None:
    """Open-set verification of all pairs of each set, in colour and in grey.

    Args:
        roots: Sets of ROIs (or of photographs with key points), identities unknown to the
            recogniser.
        recognizer: What `palmforge.recognition.load` takes.
        layout: How files lie under the roots.
        roi_size: Side at which ROIs are handed over, in pixels.
        out: A JSON file for the figures.
    """
    model = load(recognizer)
    rows = []
    for root in roots:
        for colour, figures in _verify_root(model, root, layout, roi_size).items():
            rows.append({"root": root, "input": colour, **figures})
    Console(markup=False).print(_table(rows))
    if out is not None:
        with write_aside(Path(out)) as aside:
            aside.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _verify_root(
    model: EmbeddingRecognizer, root: str, layout: str, roi_size: int
) -> dict[str, dict[str, float]]:
    """`rgb` and `grey` → the figures of `VerificationMetrics`."""
    records = scan(root, layout).records
    settings = RoiSettings(size=roi_size)
    number = {name: i for i, name in enumerate(sorted({r.identity for r in records}))}
    metrics = {colour: VerificationMetrics("cosine", fars=(1e-2, 1e-3, 1e-4)) for colour in COLOURS}
    used = 0
    for start in progress_bar(range(0, len(records), _BATCH), root, -(-len(records) // _BATCH)):
        rois, labels = _read(records[start : start + _BATCH], settings, number)
        for colour in COLOURS if len(rois) else ():
            pixels = rois if colour == "rgb" else _grey(rois)
            index = torch.arange(used, used + len(labels))
            metrics[colour].update(model.embed(pixels), labels, index)
        used += len(labels)
    if not used:
        raise DataError(f"{root}: no picture in it can be used as a ROI")
    return {colour: metric.compute() for colour, metric in metrics.items()}


def _read(
    records: list[PalmRecord], settings: RoiSettings, number: dict[str, int]
) -> tuple[Tensor, Tensor]:
    rois, labels = [], []
    for record in records:
        try:
            rois.append(extract(record, settings).transpose(2, 0, 1))
        except BadImage as bad:
            Console(stderr=True, markup=False).print(f"left out: {bad}", soft_wrap=True)
        else:
            labels.append(number[record.identity])
    stacked = np.stack(rois) if rois else np.zeros((0, 3, settings.size, settings.size), np.uint8)
    return torch.from_numpy(stacked), torch.tensor(labels, dtype=torch.int64)


def _grey(rois: Tensor) -> Tensor:
    """The luma of `[N, 3, H, W]` uint8 in all three channels, as a grey file would be read."""
    pictures = rois.permute(0, 2, 3, 1).contiguous().numpy()
    luma = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures])
    return torch.from_numpy(luma)[:, None].expand(-1, 3, -1, -1)


def _table(rows: list[dict]) -> Table:
    table = Table(title="open-set verification, %")
    keys = ("eer", "tar@far=1e-2", "tar@far=1e-3", "tar@far=1e-4", "rank1")
    for column in ("root", "input", *keys, "genuine", "impostor"):
        table.add_column(column, justify="left" if column in ("root", "input") else "right")
    for row in rows:
        rates = [f"{100 * row[key]:.2f}" if key in row else "–" for key in keys]
        pairs = [f"{row[key]:,.0f}" for key in ("num_genuine", "num_impostor")]
        table.add_row(row["root"], row["input"], *rates, *pairs)
    return table
