"""`train.py recognizer`: export one for use, and verify one on any sets of ROIs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.images import read_image
from palmforge.data.layouts import scan
from palmforge.data.progress import progress_bar
from palmforge.data.records import PalmRecord
from palmforge.data.roi import extract_roi
from palmforge.data.roi_cache import RoiSettings, extract
from palmforge.errors import BadImage, ConfigError, DataError
from palmforge.localization.location import Localizer
from palmforge.localization.methods import load_localizer
from palmforge.metrics.comparison import Comparison
from palmforge.metrics.error_discard import error_versus_discard
from palmforge.recognition import Recognizer, load, load_network, save
from palmforge.recognition.embedding import EmbeddingRecognizer

COLOURS = ("rgb", "grey")
_BATCH = 64
_DISCARD_RATES = {
    "EER": "eer",
    "TAR 1e-3": "tar@far=1e-3",
    "refused = rejected": "generalized_tar@far=1e-3",
}


def export(checkpoint: str, out: str, made_by: str = "", half: bool = True) -> None:
    """Writes the network of a checkpoint as `model.safetensors` and `config.json`.

    Args:
        checkpoint: Of a run of `MarginRecognizer` or `CCNetRecognizer`.
        out: A folder; `palmforge.recognition.load` reads it.
        made_by: The command that made the checkpoint, kept in `config.json`.
        half: Weights in float16.
    """
    check_writable(Path(out), "out")
    network = load_network(checkpoint)
    save(network, out, made_by or f"train.py recognizer export {checkpoint} {out}", half)
    size = sum(file.stat().st_size for file in Path(out).iterdir()) / 2**20
    Console(markup=False).print(f"{out}: {size:.1f} MiB, {network.config}")


def verify(
    roots: list[str],
    recognizer: str = "synthetic-only",
    layout: str = "auto",
    roi_size: int = 160,
    localizer: str | None = None,
    min_quality: float | None = None,
    out: str | None = None,
) -> None:
    """Open-set verification of all pairs of each domain of each set, in colour and in grey.

    Of a recogniser whose templates are embeddings also error versus discard: what the errors become
    when the poorest pictures are refused, and the quality at which.

    Args:
        roots: Sets of ROIs (or of photographs with key points), identities unknown to the
            recogniser (`evaluate` looks whether they are): `[data/one,data/two]`.
        recognizer: What `palmforge.recognition.load` takes.
        layout: How files lie under the roots.
        roi_size: Side at which ROIs are handed over, in pixels.
        localizer: Cut ROIs where this finds them (a method of `locate predict`), whatever key
            points there are; palms that are not found are counted.
        min_quality: Pictures below it are refused, and counted as left out. Choose it on palms of
            other people than those that it is then measured on. Null: all are taken.
        out: A JSON file for the figures.
    """
    if not roots:
        raise ConfigError("roots: name a set of ROIs or more, as in '[data/mine]'")
    if out is not None:
        check_writable(Path(out).parent, "out")
    model = load(recognizer)
    if min_quality is not None and not isinstance(model, EmbeddingRecognizer):
        raise ConfigError(f"min_quality: {recognizer} does not tell how good a picture is")
    finder = load_localizer(localizer) if localizer is not None else None
    rows = []
    for root in roots:
        found = scan(root, layout)
        for domain in found.domains:
            records = [record for record in found.records if record.domain == domain]
            name = f"{root} {domain}".strip()
            verified = _verify_set(model, name, records, roi_size, finder, min_quality)
            rows += [{"set": name, "input": colour, **row} for colour, row in verified.items()]
    console = Console(markup=False, width=max(Console().width, 120))
    console.print(_table(rows))
    if any("discard" in row for row in rows):
        console.print(_discard_table(rows))
    if out is not None:
        with write_aside(Path(out)) as aside:
            aside.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _verify_set(
    model: Recognizer,
    name: str,
    records: list[PalmRecord],
    roi_size: int,
    finder: Localizer | None,
    min_quality: float | None,
) -> dict[str, dict[str, Any]]:
    """`rgb` and `grey` → the figures of `Comparison`, `left_out`, and of embeddings `discard`."""
    number = {name: i for i, name in enumerate(sorted({r.identity for r in records}))}
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {colour: [] for colour in COLOURS}
    labels: list[int] = []
    for start in progress_bar(range(0, len(records), _BATCH), name, -(-len(records) // _BATCH)):
        rois, whose = _read(records[start : start + _BATCH], roi_size, number, finder)
        for colour in COLOURS if len(rois) else ():
            parts[colour].append(_embed(model, rois if colour == "rgb" else _grey(rois)))
        labels += whose
    _check_pairs(name, labels)
    found = {}
    for colour in COLOURS:
        templates, quality = (torch.cat(part) for part in zip(*parts[colour], strict=True))
        good = torch.ones_like(quality).bool() if min_quality is None else quality >= min_quality
        kept = good.cpu().numpy()
        figures = _figures(model, name, templates[good], np.array(labels)[kept], quality[good])
        found[colour] = {**figures, "left_out": len(records) - int(kept.sum())}
    return found


def _embed(model: Recognizer, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Templates and their quality; all the same of recognisers that do not tell."""
    if isinstance(model, EmbeddingRecognizer):
        return model.embed_with_quality(pixels)
    return model.embed(pixels), torch.ones(len(pixels))


def _figures(
    model: Recognizer, name: str, templates: Tensor, labels: np.ndarray, quality: Tensor
) -> dict[str, Any]:
    _check_pairs(name, labels.tolist())
    compared = Comparison(templates, labels, distance=model.distance, fars=(1e-2, 1e-3, 1e-4))
    figures: dict[str, Any] = compared.figures()
    if isinstance(model, EmbeddingRecognizer):
        figures["discard"] = error_versus_discard(templates, labels, quality, model.distance)
    return figures


def _check_pairs(name: str, labels: list[int]) -> None:
    if not labels:
        raise DataError(f"{name}: no picture in it can be used as a ROI")
    if not len(set(labels)) > 1 or len(set(labels)) == len(labels):
        raise DataError(
            f"{name}: {len(labels)} usable pictures of {len(set(labels))} identities: to verify, "
            "take two identities or more, and two pictures of some"
        )


def _read(
    records: list[PalmRecord], size: int, number: dict[str, int], finder: Localizer | None
) -> tuple[Tensor, list[int]]:
    rois, labels = [], []
    for record in records:
        try:
            if finder is None:
                roi = extract(record, RoiSettings(size=size))
            else:
                roi = _located(record, size, finder)
        except BadImage as bad:
            Console(stderr=True, markup=False).print(f"left out: {bad}", soft_wrap=True)
        else:
            rois.append(roi.transpose(2, 0, 1))
            labels.append(number[record.identity])
    stacked = np.stack(rois) if rois else np.zeros((0, 3, size, size), np.uint8)
    return torch.from_numpy(stacked), labels


def _located(record: PalmRecord, size: int, finder: Localizer) -> np.ndarray:
    image, _ = read_image(record.path)
    palms = finder.locate_all(image)
    if not palms:
        raise BadImage(record.path, "no palm was found in it")
    return extract_roi(image, palms[0].quad, size)


def _grey(rois: Tensor) -> Tensor:
    """The luma of `[N, 3, H, W]` uint8 in all three channels, as a grey file would be read."""
    pictures = rois.permute(0, 2, 3, 1).contiguous().numpy()
    luma = np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures])
    return torch.from_numpy(luma)[:, None].expand(-1, 3, -1, -1)


def _table(rows: list[dict]) -> Table:
    table = Table(title="open-set verification, %")
    rates = {
        "EER": "eer", "TAR 1e-2": "tar@far=1e-2", "TAR 1e-3": "tar@far=1e-3",
        "TAR 1e-4": "tar@far=1e-4", "rank 1": "rank1",
    }  # fmt: skip
    counts = {"genuine": "num_genuine", "impostor": "num_impostor", "left out": "left_out"}
    for column in ("set", "input", *rates, *counts):
        table.add_column(column, justify="left" if column in ("set", "input") else "right")
    for row in rows:
        shown = [f"{100 * row[key]:.2f}" if key in row else "–" for key in rates.values()]
        pairs = [f"{row[key]:,.0f}" for key in counts.values()]
        table.add_row(row["set"], row["input"], *shown, *pairs)
    return table


def _discard_table(rows: list[dict]) -> Table:
    table = Table(title="error versus discard, rgb, %: the poorest pictures are refused")
    for column in ("set", "refused", "quality below", *_DISCARD_RATES):
        table.add_column(column, justify="left" if column == "set" else "right")
    for row in rows:
        for one in row.get("discard", []) if row["input"] == "rgb" else []:
            shown = [f"{100 * one[k]:.2f}" if k in one else "–" for k in _DISCARD_RATES.values()]
            told = (f"{100 * one['share']:g}", f"{one['min_quality']:.3f}")
            table.add_row(row["set"], *told, *shown)
    return table
