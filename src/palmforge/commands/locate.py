"""`train.py locate`: palms in raw photographs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
from rich.console import Console

from palmforge.commands.locate_evaluation import evaluate_methods, write_evaluation
from palmforge.commands.locate_montage import write_montage
from palmforge.commands.locate_results import (
    JOURNAL,
    Journal,
    PictureResult,
    claim,
    roi_name,
    write_tables,
)
from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.images import is_image, scale_points
from palmforge.data.progress import progress_bar
from palmforge.data.roi import extract_roi
from palmforge.data.synthetic import PRESETS
from palmforge.errors import BadImage, ConfigError, DataError
from palmforge.localization.dlib_reference import DlibLocalizer, DlibSettings
from palmforge.localization.location import Localizer
from palmforge.localization.methods import localizer_identity
from palmforge.localization.photographs import Acceptance, find_palms
from palmforge.localization.pool import map_with_localizer
from palmforge.localization.truth import palm_samples, read_truth

# Pictures that may not be readable here: they are listed, and never just missing.
_OTHER_PICTURES = frozenset({".heic", ".heif", ".avif", ".gif", ".dng", ".cr2", ".nef", ".arw"})


def predict(
    images: str,
    out: str,
    method: str = "default",
    size: int = 128,
    num_workers: int | None = None,
    accept: Acceptance = Acceptance(),  # noqa: B008  (frozen)
    montage: bool = True,
) -> None:
    """Cuts the palms out of a folder of photographs. Goes on where it stopped.

    Writes into `out`: `locations.csv` (a row a palm: hand, confidence, corners of the ROI, the 14
    XJTU points, the 21 hand points), `rejected.csv` (a row a picture without a usable palm, and
    why), `rois/` (the crops), `keypoints/` (sidecars for the data layouts) and `montage.png`.
    Coordinates are pixels of the upright picture: EXIF rotation is applied. Nothing is written
    among the pictures.

    Args:
        images: A folder of pictures; folders in it are searched too.
        out: A new folder, or that of an earlier run with the same settings.
        method: `default`, a PATH of weights, `dlib:PATH`, or `python:module:function` for your own.
        size: Side of the ROIs, in pixels.
        num_workers: Processes; null: one a core. The results do not depend on it.
        accept: Which palms can be used.
        montage: Draw `montage.png`.
    """
    top, target = Path(images).expanduser(), Path(out)
    if not top.is_dir():
        raise DataError(f"images: no directory {str(top)!r}")
    if not 16 <= size <= 4096:
        raise ConfigError(f"size: {size} is not between 16 and 4096 pixels")
    files = list(_pictures(top, target))
    if not files:
        raise DataError(f"images: no picture in {top}")
    settings = {
        "images": str(top.resolve()), "localizer": localizer_identity(method), "size": size,
        "accept": asdict(accept),
    }  # fmt: skip
    check_writable(target.parent, "out")
    claim(target, settings)
    journal = Journal(target / JOURNAL)
    stamps = ((file, _stamp(top / file)) for file in files)
    todo = [(file, stamp) for file, stamp in stamps if not journal.has(file, stamp)]
    console, started = Console(markup=False, highlight=False, soft_wrap=True), time.time()
    work = partial(_locate_one, str(top), str(target), accept, size)
    try:
        done = map_with_localizer(work, todo, method, _workers(num_workers, len(todo)))
        for result in progress_bar(done, "locating palms", len(todo)):
            journal.add(result)
    finally:
        journal.close()
    seconds = time.time() - started
    counts = write_tables(target, journal.read(files))
    if montage:
        write_montage(target / "montage.png", top, journal, files)
    _print_summary(console, target, counts, len(files), len(files) - len(todo), seconds)


def fit(
    out: str,
    root: str = "synthetic",
    num_images: int = 1000,
    preset: str | None = None,
    image_size: int = 384,
    settings: DlibSettings = DlibSettings(),  # noqa: B008  (frozen)
    num_workers: int | None = None,
    seed: int = 0,
) -> None:
    """Trains the paper's locator (HOG + SVM, regression trees; needs dlib-bin).

    The CNN is trained as any other experiment: `train.py fit --config configs/experiment/...`.

    Args:
        out: Folder of the locator, for `--method dlib:FOLDER`.
        root: Pictures with key points, as `data synthesize` writes them or in any layout with
            sidecars; `synthetic` renders them on the way.
        num_images: So many at most, evenly over the data.
        preset: Of rendered pictures; null: `wild` where there is one, else `IN`.
        image_size: Side of rendered pictures, in pixels.
        settings: Of the method.
        num_workers: Threads of dlib; null: one a core.
        seed: Of rendering and training.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"preset: {preset!r} is none of {', '.join(PRESETS)}")
    if num_images < 2:
        raise ConfigError(f"num_images: at least 2 are needed, got {num_images}")
    check_writable(Path(out), "out")
    cv2.setNumThreads(1)
    console, started = Console(markup=False, highlight=False, soft_wrap=True), time.time()
    samples = palm_samples(root, num_images, preset, image_size, seed)
    bar = progress_bar(samples, "reading palms", num_images)
    locator = DlibLocalizer.fit(bar, settings, seed, num_workers or os.cpu_count() or 1)
    locator.save(out)
    console.print(f"{out}: trained in {time.time() - started:.0f} s; use it as dlib:{out}")


def evaluate(
    root: str,
    out: str,
    methods: str = "default",
    max_images: int | None = None,
    num_workers: int | None = None,
) -> None:
    """Measures locators against known key points.

    Writes `evaluation.json` and `evaluation.md`: point errors, failures, overlap of ROIs, by
    rotation, tilt, size and preset. A ROI that is upside down, or of the other hand, overlaps by 0.

    Args:
        root: Pictures with key points: `data synthesize` or any layout with sidecars.
        out: A folder for the tables.
        methods: One or more methods of `locate predict`, with commas between them.
        max_images: So many at most, evenly over the data; null: all.
        num_workers: Processes; null: one a core.
    """
    if max_images is not None and max_images < 1:
        raise ConfigError(f"max_images: at least 1 is needed, got {max_images}")
    check_writable(Path(out), "out")
    truths = read_truth(root, max_images)
    names = [name.strip() for name in methods.split(",") if name.strip()]
    tables = evaluate_methods(truths, names, _workers(num_workers, len(truths)))
    text = write_evaluation(Path(out), root, len(truths), tables)
    Console(markup=False, highlight=False, soft_wrap=True).print(text)


def _pictures(top: Path, out: Path) -> Iterator[str]:
    """Pictures below a folder, sorted, relative to it; not those that we wrote ourselves."""
    skipped = out.resolve()
    for folder, folders, files in os.walk(top):
        here = Path(folder)
        folders[:] = sorted(
            name for name in folders
            if not name.startswith(".") and (here / name).resolve() != skipped
        )  # fmt: skip
        yield from sorted(
            (here / f).relative_to(top).as_posix()
            for f in files
            if is_image(Path(f)) or Path(f).suffix.lower() in _OTHER_PICTURES
        )


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:  # a link that leads nowhere: read_image says so
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _locate_one(
    top: str,
    out: str,
    accept: Acceptance,
    size: int,
    localizer: Localizer,
    job: tuple[str, tuple[int, int]],
) -> PictureResult:
    """Looks for palms in a picture and writes their ROIs."""
    file, stamp = job
    try:
        found = find_palms(str(Path(top) / file), localizer, accept, size)
    except BadImage as bad:
        return PictureResult(file, stamp, [], [f"corrupt: {bad.reason}"])
    except Exception as error:
        error.add_note(f"while looking for palms in {file}")
        raise
    for number, palm in enumerate(found.accepted, start=1):
        roi = extract_roi(found.image, scale_points(palm.quad, found.scale), size)
        done, data = cv2.imencode(".png", roi[..., ::-1])
        if not done:
            raise DataError(f"{file}: its ROI cannot be written as PNG")
        with write_aside(Path(out) / "rois" / roi_name(file, number)) as aside:
            aside.write_bytes(data.tobytes())
    return PictureResult(file, stamp, found.accepted, found.reasons)


def _workers(asked: int | None, jobs: int) -> int:
    if asked is not None and asked < 0:
        raise ConfigError(f"num_workers: {asked} is less than none")
    return min(asked if asked is not None else os.cpu_count() or 1, max(1, jobs))


def _print_summary(
    console: Console, out: Path, counts: dict[str, int], pictures: int, known: int, seconds: float
) -> None:
    new = pictures - known
    speed = f", {new / seconds:.1f} a second" if new and seconds > 0 else ""
    located, palms = counts.pop("located", 0), counts.pop("palms", 0)
    console.print(f"{pictures} pictures ({known} known from an earlier run{speed})")
    console.print(f"  {located} with {palms} palms: {out / 'locations.csv'}, {out / 'rois'}")
    console.print(f"  {pictures - located} without: {out / 'rejected.csv'}")
    for reason, count in sorted(counts.items(), key=lambda item: -item[1]):
        console.print(f"    {count:6} {reason}")
    sys.stdout.flush()
