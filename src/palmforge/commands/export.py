"""`train.py export`: a checkpoint → one file for a phone, what it is worth, and its model card."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from palmforge.callbacks.run_report import git_revision
from palmforge.commands.export_run import Run, read_run
from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.digests import file_digest
from palmforge.data.embedded import SYNTHETIC
from palmforge.errors import ConfigError
from palmforge.evaluation.finite import finite
from palmforge.export import formats, quantize
from palmforge.export.card import model_card
from palmforge.export.exportable import Exportable, load_exportable
from palmforge.export.formats import FILES, INPUT, Format
from palmforge.export.hub import check_hub, push
from palmforge.export.latency import latencies, processor
from palmforge.export.palms import Palms, read_palms
from palmforge.export.verify import agreement, error_rates
from palmforge.metrics.scores import ScoreCounts

DESCRIPTION, CARD = "model.json", "README.md"
EER_COST = 0.3  # points that int8 may cost
PIXEL_COST = 1.0  # by which it may move points, on average
_INTERVALS = 200
_SCRATCH = ".export-"


def export(
    ckpt: str,
    out: str,
    format: Format = "onnx",
    data: str = SYNTHETIC,
    images: int = 1000,
    far: float = 1e-3,
    opset: int = 18,
    push_to_hub: str | None = None,
    synthetic_dir: str = "data/synthetic",
) -> None:
    """Writes a recogniser or a palm finder for phones: model, `model.json`, `README.md`.

    Args:
        ckpt: A checkpoint of a hashing student or teacher, of a margin recogniser or of a palm
            finder; a folder of `recognizer export`; synthetic-only, palm-landmarks, palm-detector.
        out: A new folder.
        format: `onnx`, `onnx-int8`, `torch_export` (.pt2) or `executorch` (.pte).
        data: ROIs to check it on, and to calibrate int8 with; `synthetic`: rendered ones.
        images: So many pictures, at least (hands: a fifth).
        far: False accept rate that the threshold in `model.json` is for.
        opset: Of ONNX.
        push_to_hub: owner/name: upload the three files to the Hugging Face hub.
        synthetic_dir: Where rendered palms are kept.
    """
    folder = Path(out).expanduser()
    _check(folder, format, images, far, opset, push_to_hub)
    what = load_exportable(ckpt)
    run = read_run(Path(ckpt).expanduser())
    check_writable(folder, "out")
    say = Console(markup=False, soft_wrap=True).print
    say(f"{ckpt}: {what.network_class}, {what.image_size} pixels")

    with tempfile.TemporaryDirectory(dir=folder, prefix=_SCRATCH) as scratch:
        written = Path(scratch) / FILES[format]
        _write(what, format, opset, written)  # what cannot be written is known before rendering
        wanted = images if what.distance is not None else -(-images // 5)  # hands take longer
        palms = read_palms(data, what.role, what.image_size, wanted, run.domain, synthetic_dir)
        ours = what.reference(torch.from_numpy(palms.pixels)).numpy()
        checks, counts = _checked(what, format, written, palms, ours)
        model = {
            **_described(what, format, written),
            "name": run.name or Path(ckpt).name,
            "threshold": _threshold(far, run, counts, palms.name),
            "trained_on": run.trained_on or {"data": what.made_by},
            "test": run.test,
            "checks": checks,
            "latency": _latency(what, format, written, palms),
            "made_by": _made_by(ckpt, format, opset),
        }
        written.replace(folder / FILES[format])
    model = finite(model)
    _describe(folder, model)
    for line in _summary(model):
        say(line)
    if push_to_hub is not None:
        say(f"pushed to {push(folder, push_to_hub, [FILES[format], DESCRIPTION, CARD])}")


def _check(
    folder: Path, format: Format, images: int, far: float, opset: int, repo: str | None
) -> None:
    # What an export that was killed has left is in nobody's way.
    if folder.exists() and (
        not folder.is_dir() or not all(path.match(f"{_SCRATCH}*") for path in folder.iterdir())
    ):
        raise ConfigError(f"out: {folder} is not an empty folder. Give a new one")
    if images < 20:
        raise ConfigError(f"images: {images} say nothing about a file; give 20 or more")
    if not 0 < far < 1:
        raise ConfigError(f"far: {far} is not between 0 and 1")
    formats.check_format(format, opset)
    if repo is not None:
        check_hub(repo)


def _write(what: Exportable, format: Format, opset: int, path: Path) -> None:
    if format == "torch_export":
        formats.write_torch_export(what, path)
    elif format == "executorch":
        formats.write_executorch(what, path)
    else:
        formats.write_onnx(what, path, opset)


def _checked(
    what: Exportable, format: Format, written: Path, palms: Palms, ours: np.ndarray
) -> tuple[dict[str, Any], ScoreCounts | None]:
    """What `model.json` says under `checks`, and the pairs of the file; int8 is made here."""
    checks: dict[str, Any] = {"pictures": palms.name, "images": len(palms.pixels)}
    before: dict[str, float] = {}
    if what.distance is not None:
        before, _ = error_rates(ours, palms.labels, what.distance)
        checks["pytorch"] = before
    if format == "onnx-int8":
        checks["int8"] = _quantized(what, written, palms, ours, before.get("eer"))
        taken = next(way for way in checks["int8"] if way["taken"])
        if _excess(taken) > 1:
            checks["warning"] = f"int8 costs too much: {_cost_told(taken)}. Take --format onnx"
    theirs = formats.in_batches(formats.runner(written, format), palms.pixels)
    checks["agreement"] = agreement(what.role, theirs, ours)
    if what.distance is None:
        return checks, None
    checks["figures"], compared = error_rates(theirs, palms.labels, what.distance, _INTERVALS)
    return checks, compared.counts()


def _quantized(
    what: Exportable, written: Path, palms: Palms, ours: np.ndarray, eer: float | None
) -> list[dict[str, Any]]:
    """Tries the ways, the smallest first, and puts the one that is taken in the file's place."""
    tried: list[dict[str, Any]] = []
    files = []
    for number, way in enumerate(quantize.WAYS):
        path = written.with_name(f"int8-{number}.onnx")
        quantize.quantize(written, path, way, palms.calibration)
        theirs = formats.in_batches(formats.runner(path, "onnx-int8"), palms.pixels)
        row: dict[str, Any] = {"way": way, "bytes": path.stat().st_size, "taken": False}
        row |= agreement(what.role, theirs, ours)
        if what.distance is not None:
            after = error_rates(theirs, palms.labels, what.distance)[0]["eer"]
            row["eer_cost_points"] = 100 * (after - eer)  # type: ignore[operator]
        tried.append(row)
        files.append(path)
        if _excess(row) <= 1:
            break
    best = min(range(len(tried)), key=lambda number: max(1.0, _excess(tried[number])))
    tried[best]["taken"] = True
    written.replace(written.with_name("float.onnx"))  # still timed
    files[best].replace(written)
    return tried


def _excess(way: dict[str, Any]) -> float:
    """What int8 cost, over what it may cost."""
    if "eer_cost_points" in way:
        return way["eer_cost_points"] / EER_COST
    return way["mean_pixels"] / PIXEL_COST


def _cost_told(way: dict[str, Any]) -> str:
    if "eer_cost_points" in way:
        return f"{way['eer_cost_points']:+.2f} points of EER, {EER_COST} are allowed"
    return f"points move by {way['mean_pixels']:.2f} pixels, {PIXEL_COST:g} is allowed"


def _latency(what: Exportable, format: Format, written: Path, palms: Palms) -> dict[str, Any]:
    one = palms.pixels[:1]
    picture = torch.from_numpy(one)

    def eager() -> object:
        with torch.no_grad():
            return what.module(picture)

    files = {format: formats.runner(written, format)}
    if format == "onnx-int8":
        files = {"onnx": formats.runner(written.with_name("float.onnx"), "onnx"), **files}
    ways: dict[str, Callable[[], object]] = {"PyTorch": eager}
    ways |= {name: partial(run, one) for name, run in files.items()}
    return {"processor": processor(), "milliseconds": latencies(ways)}


def _described(what: Exportable, format: Format, written: Path) -> dict[str, Any]:
    network: dict[str, Any] = {"class": what.network_class, "role": what.role}
    if what.role == "code":
        hashing: Any = what.module.network
        network["bits"] = hashing.num_bits
    network["parameters"] = sum(p.numel() for p in what.module.parameters())
    network["image_size"] = what.image_size
    return {
        "format": format,
        "file": FILES[format],
        "bytes": written.stat().st_size,
        "sha256": file_digest(written),
        "network": network,
        "input": {INPUT: f"[N, 3, {what.image_size}, {what.image_size}] uint8 RGB"},
        "outputs": what.outputs,
        "distance": what.distance,
    }


def _threshold(
    far: float, run: Run, counts: ScoreCounts | None, pictures: str
) -> dict[str, Any] | None:
    """The largest distance that keeps to the rate, on the run's own test where there is one."""
    if counts is None:
        return None
    counts, measured_on = (run.counts, "the test of the run") if run.counts else (counts, pictures)
    refusal = counts.far_refusal(far)
    threshold = -np.inf if refusal else counts.threshold_at_far(far)
    chosen_for = f"FAR {far:g}"
    if not np.isfinite(threshold):
        threshold = counts.equal_error_rate()[1]
        chosen_for = f"the equal error rate: {refusal or f'no distance has FAR {far:g}'}"
    false_accepts, false_rejects = counts.rates_at(threshold)
    return {
        "accept_at_or_below": threshold,
        "far": false_accepts,
        "frr": false_rejects,
        "chosen_for": chosen_for,
        "measured_on": measured_on,
        "impostor_pairs": counts.num_impostor,
    }


def _made_by(ckpt: str, format: Format, opset: int) -> dict[str, Any]:
    path = Path(ckpt).expanduser()
    packages = ["torch", *(("onnx", "onnxruntime", "onnxscript") if "onnx" in format else ())]
    return {
        "checkpoint": path.name,
        "checkpoint_sha256": file_digest(path) if path.is_file() else "",
        "opset": opset if format.startswith("onnx") else "",
        "palmforge": version("palmforge"),
        "revision": git_revision() or "",
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _describe(folder: Path, model: dict[str, Any]) -> None:
    with write_aside(folder / DESCRIPTION) as aside:
        aside.write_text(json.dumps(model, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with write_aside(folder / CARD) as aside:
        aside.write_text(model_card(model), encoding="utf-8")


def _summary(model: dict[str, Any]) -> list[str]:
    checks = model["checks"]
    lines = [f"{model['file']}: {model['bytes'] / 1024:,.0f} KiB, {model['format']}"]
    agreed = ", ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in checks["agreement"].items())
    lines.append(f"against PyTorch on {checks['images']:,} pictures: {agreed}")
    if "figures" in checks:
        before, after = checks["pytorch"]["eer"], checks["figures"]["eer"]
        lines.append(f"EER {100 * before:.2f} % → {100 * after:.2f} % ({checks['pictures']})")
    for way in checks.get("int8", []):
        told = " ← taken" if way["taken"] else ""
        lines.append(f"int8, {way['way']}: {way['bytes'] / 1024:,.0f} KiB, {_cost_told(way)}{told}")
    if "warning" in checks:
        lines.append(f"warning: {checks['warning']}")
    for name, took in model["latency"]["milliseconds"].items():
        lines.append(f"{name}: median {took['median']:.3f} ms, p95 {took['p95']:.3f} ms")
    return lines
