"""`train.py generator`: measure what a generator has made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from palmforge.callbacks.run_report import provenance, write_problems
from palmforge.commands.generated_set import generated_set, readable
from palmforge.commands.generator_pictures import write_closest, write_histogram
from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.embedded import SYNTHETIC
from palmforge.data.layouts import Layout
from palmforge.data.progress import progress_bar
from palmforge.data.records import PalmRecord
from palmforge.data.roi_cache import RoiSettings, extract
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import ConfigError, DataError
from palmforge.evaluation.data import EvaluationData, PalmSet
from palmforge.evaluation.generation import Embedded, Measures, Row, measure_palms
from palmforge.evaluation.inception import load_inception
from palmforge.recognition import load_embedding
from palmforge.recognition.embedding import EmbeddingRecognizer

MEASURES, HISTOGRAM, CLOSEST = "measures.json", "distances.png", "closest.png"
_BATCH = 64

Features = Callable[[Tensor], Tensor]


def measure(
    images: str,
    training: str = SYNTHETIC,
    layout: Layout = "auto",
    domains: list[str] | None = None,
    recogniser: str = "synthetic-only",
    far: float = 1e-3,
    inception: str | None = None,
    out: str | None = None,
    roi: RoiSettings = RoiSettings(),  # noqa: B008  (frozen)
    localizer: str | None = None,
    cache_dir: str = "data/cache",
    num_workers: int = 2,
    synthetic: SyntheticPalms = SyntheticPalms(),  # noqa: B008  (frozen)
    synthetic_dir: str = "data/synthetic",
    seed: int = 0,
) -> None:
    """Measures generated palms: unique, new, different from each other, and like real ones?

    Every figure stands beside the same one of training palms, for all of them depend on how many
    palms there are.

    Args:
        images: A folder of generated palms, `identity/image`, each picture a whole ROI. One
            picture stands for an identity, as of the training palms.
        training: What the generator was trained on, or `synthetic`: the embedded set.
        layout: How files lie under `training`.
        domains: Only these of the training set; null for all.
        recogniser: What `palmforge.recognition.load` takes, of the embedding kind; best one that
            has not seen the training palms.
        far: False accept rate among the training palms that fixes which palms match.
        inception: Weights of FID's Inception, for FID and KID on its features too; null: on the
            recogniser's alone.
        out: A new folder for measures.json, distances.png and closest.png (which shows training
            palms: biometric data); null: figures are only printed.
        roi: How ROIs of the training set are cut; generated pictures are brought to its size.
        localizer: Finds the palm in photographs without key points, see `PalmDataModule`.
        cache_dir: Where cut ROIs of the training set are kept.
        num_workers: Threads that cut, processes that render.
        synthetic: The embedded set.
        synthetic_dir: Where it is rendered to.
        seed: Of the subsets of KID.
    """
    folder = _checked(out, far)
    model = load_embedding(recogniser, "recogniser")
    network = None if inception is None else load_inception(inception)
    listing = generated_set(images)
    records = listing.records
    data = EvaluationData(
        training, layout, domains, roi, localizer, False, cache_dir, num_workers, synthetic,
        synthetic_dir,
    )  # fmt: skip
    palms = PalmSet(data)
    problems = {**palms.problems, **listing.problems}
    read = partial(_read, settings=RoiSettings(size=roi.size, source="whole"))
    generated = _embedded(readable(records, read, problems), "generated", len(records), model.embed)
    if not generated.records:
        raise DataError(f"images: none of {len(records):,} pictures in {images} can be read")
    pairs = ((record, palms.roi(record)) for record in palms.records)
    real = _embedded(pairs, "training", len(palms.records), model.embed)
    if network is not None:
        generated = _with_inception(generated, read, network)
        real = _with_inception(real, palms.roi, network)
    found = measure_palms(generated, real, far, seed)
    counts = _counts(generated, real, len(records) - len(generated.records), len(palms.problems))
    remarks = _remarks(model, generated, real, training)
    _show(found, counts, remarks, problems, far)
    if folder is None:
        return
    write_histogram(folder / HISTOGRAM, found, generated, real)
    closest = write_closest(folder / CLOSEST, found, generated, real, read, palms.roi)
    settings = {
        "images": images, "training": training, "layout": layout, "domains": domains,
        "recogniser": recogniser, "far": far, "inception": inception, "roi": asdict(roi),
        "localizer": localizer, "seed": seed,
    }  # fmt: skip
    if training == SYNTHETIC:
        settings["synthetic"] = asdict(synthetic)
    about = {**settings, "counts": counts, "closest": closest, "remarks": remarks}
    _write(folder, found, about, problems)


def _write(folder: Path, found: Measures, about: dict[str, Any], problems: dict[str, str]) -> None:
    """`measures.json`, last of all: where it is, the measurement is whole."""
    if problems:
        write_problems(folder / "problems.csv", problems)
    content = {
        **about, "threshold": found.threshold, "impostor_pairs": found.impostors.num_impostor,
        "measures": [asdict(row) for row in found.rows], "provenance": provenance(),
    }  # fmt: skip
    with write_aside(folder / MEASURES) as aside:
        aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    Console(markup=False, highlight=False).print(f"{folder / MEASURES}", soft_wrap=True)


def _checked(out: str | None, far: float) -> Path | None:
    """The folder of the results, before an hour is spent on them."""
    if not 0.0 < far < 1.0:
        raise ConfigError(f"far: {far:g} is not between 0 and 1; 0.001 is usual")
    if out is None:
        return None
    folder = Path(out)
    if (folder / MEASURES).exists():
        raise ConfigError(f"out: {folder / MEASURES} is there already; name another folder")
    check_writable(folder, "out")
    return folder


def _read(record: PalmRecord, settings: RoiSettings) -> np.ndarray:
    """A generated picture, whole, `[S, S, 3]` uint8 RGB."""
    return extract(record, settings)


def _embedded(
    pairs: Iterable[tuple[PalmRecord, np.ndarray]], name: str, total: int, features: Features
) -> Embedded:
    """What `features` make of the pictures: one batch of them in memory at a time."""
    records: list[PalmRecord] = []
    batch: list[np.ndarray] = []
    parts: list[Tensor] = []

    def flush() -> None:
        if batch:
            stacked = torch.from_numpy(np.stack(batch).transpose(0, 3, 1, 2).copy())
            parts.append(features(stacked).float().cpu())
            batch.clear()

    for record, picture in progress_bar(pairs, f"embedding {name}", total):
        records.append(record)
        batch.append(picture)
        if len(batch) == _BATCH:
            flush()
    flush()
    if not records:
        return Embedded([], torch.zeros(0, 1))
    embeddings = torch.cat(parts)
    _check_finite(embeddings, records)
    return Embedded(records, embeddings)


@torch.no_grad()
def _with_inception(
    palms: Embedded, read: Callable[[PalmRecord], np.ndarray], network: Features
) -> Embedded:
    """With Inception's features of the pictures that stand for the identities."""
    chosen = [palms.records[row] for row in palms.chosen]
    pairs = ((record, read(record)) for record in chosen)
    found = _embedded(pairs, "for Inception", len(chosen), network)
    return replace(palms, inception=found.embeddings)


def _check_finite(embeddings: Tensor, records: list[PalmRecord]) -> None:
    bad = (~torch.isfinite(embeddings).all(1)).nonzero().flatten().tolist()
    if bad:
        first = records[bad[0]].path
        raise DataError(f"NaN comes out of {len(bad)} pictures, the first is {first}")


def _counts(
    generated: Embedded, training: Embedded, left_out: int, training_left_out: int
) -> dict[str, dict[str, int]]:
    return {
        name: {"images": len(one.records), "identities": len(one.chosen), "left_out": out}
        for name, one, out in (
            ("generated", generated, left_out),
            ("training", training, training_left_out),
        )
    }


def _remarks(
    model: EmbeddingRecognizer, generated: Embedded, training: Embedded, root: str
) -> list[str]:
    remarks = []
    if root == SYNTHETIC:
        remarks.append("The training palms are rendered: no figure here is one of real palms.")
    known = set(model.class_names or ()) & {record.identity for record in training.records}
    if known:
        remarks.append(
            f"The recogniser was trained on {len(known):,} identities of these names. If they are "
            "the same palms, they lie farther apart for it than others do: the threshold is too "
            "high, uniqueness and novelty too low."
        )
    fewest, features = min(len(generated.chosen), len(training.chosen)), generated.embeddings
    if fewest <= 2 * features.shape[1]:  # a half of the training palms is the reference
        remarks.append(
            f"FID: {fewest:,} palms for {features.shape[1]:,} features say little; look at KID."
        )
    return remarks


def _show(
    found: Measures,
    counts: dict[str, dict[str, int]],
    remarks: list[str],
    problems: dict[str, str],
    far: float,
) -> None:
    console = Console(markup=False, highlight=False, width=max(110, Console().width))
    for name, count in counts.items():
        line = f"{name}: {count['images']:,} images of {count['identities']:,} identities"
        console.print(line + (f", {count['left_out']:,} left out" if count["left_out"] else ""))
    pairs = found.impostors.num_impostor
    console.print(
        f"match: cosine distance ≤ {found.threshold:.4f}, FAR {100 * far:g} % of {pairs:,} "
        "impostor pairs of the training set"
    )
    table = Table(title="generated palms beside training palms")
    for column in ("measure", "of", "generated", "training", "expected"):
        justify = "left" if column in ("measure", "of") else "right"
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in found.rows:
        values = (row.generated, row.real, row.expected)
        table.add_row(row.measure, row.of, *(_number(row, value) for value in values))
    console.print(table)
    for remark in remarks:
        console.print(remark)
    for path, reason in sorted(problems.items())[:10]:
        console.print(f"left out: {path}: {reason}", soft_wrap=True)
    if len(problems) > 10:
        console.print(f"… and {len(problems) - 10:,} more")


def _number(row: Row, value: float | None) -> str:
    if value is None:
        return "–"
    if row.measure in ("uniqueness", "novelty"):
        return f"{100 * value:.2f} %"
    return f"{value:.1f}" if row.measure == "Vendi score" else f"{value:.4f}"
