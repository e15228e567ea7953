"""`train.py data`: what a data set holds, and the embedded one."""

from __future__ import annotations

import os
import statistics
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from PIL import Image
from rich.console import Console
from rich.table import Table

from palmforge.callbacks.run_report import write_problems
from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.images import read_image
from palmforge.data.layouts import Layout, Scan, scan
from palmforge.data.progress import progress_bar
from palmforge.data.records import PalmRecord
from palmforge.data.synthetic import XJTU_PRESETS, SyntheticPalms
from palmforge.data.synthetic.dataset import MANIFEST
from palmforge.data.webdataset import openable
from palmforge.errors import BadImage, ConfigError


def summary(
    root: str,
    layout: Layout = "auto",
    out: str | None = None,
    verify: bool = True,
    num_workers: int = 2,
) -> None:
    """Prints, and with `out` plots, what a data set holds: identities, images, sizes, bad files.

    Args:
        root: The data set.
        layout: How files lie under it; docs/databases.md lists the public databases.
        out: A folder for `summary.png` and `problems.csv`.
        verify: Decode every picture; false reads the headers only.
        num_workers: Threads that decode.
    """
    if out is not None:
        check_writable(Path(out), "out")
    found = scan(root, layout)
    sizes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        looked = pool.map(lambda record: _look(record, verify), found.records)
        bar = progress_bar(looked, "reading", len(found.records))
        for record, (size, reason) in zip(found.records, bar, strict=True):
            if reason is not None:
                found.problems[record.path] = reason
            if size is not None:
                sizes[record.domain].append(size)
    console = Console(markup=False)
    console.print(_table(found, sizes))
    if found.problems:
        console.print(f"{len(found.problems)} problems:")
        for path, reason in list(found.problems.items())[:20]:
            console.print(f"  {path}: {reason}", highlight=False, soft_wrap=True)
        if len(found.problems) > 20 and out is None:
            console.print("  … all of them with --out=FOLDER")
    if out is not None:
        _write(Path(out), found)
        console.print(f"written to {out}")


def synthesize(
    out: str,
    preset: str = "IF,IN",
    identities: int = 40,
    captures: int = 10,
    size: int = 384,
    seed: int = 0,
    what: Literal["hands", "rois"] = "hands",
    frame_error: float = 0.0,
    shard_size: int = 0,
    workers: int | None = None,
) -> None:
    """Renders synthetic palms, with key points and a manifest. Resumes where it stopped.

    Args:
        out: The root to write to.
        preset: `wild` (any hand before any camera), `xjtu` (all ten domains of XJTU-UP), or some of
            its domains with commas between them.
        identities: Palms; two make a person.
        captures: Pictures of each palm in each domain.
        size: Side of the pictures in pixels.
        seed: Everything random follows from it.
        what: Whole hands, or only their ROIs, several times faster.
        frame_error: How wrongly ROIs are cut, as by a localiser; 1 = by 6° and 7 % of a side.
        shard_size: 0: one file a picture; else WebDataset shards of about so many pictures.
        workers: Processes; null: one a core. The pictures do not depend on it.
    """
    check_writable(Path(out), "out")
    domains = tuple(XJTU_PRESETS) if preset == "xjtu" else tuple(preset.split(","))
    try:
        palms = SyntheticPalms(
            identities, captures, domains, size, seed, what, frame_error, shard_size
        )
    except ValueError as error:
        raise ConfigError(f"data synthesize: {error}") from error
    palms.write(out, workers or os.cpu_count() or 1)
    total = identities * captures * len(domains)
    Console(markup=False).print(f"{out}: {total:,} pictures, listed in {MANIFEST}")


def _look(record: PalmRecord, verify: bool) -> tuple[tuple[int, int] | None, str | None]:
    """(width, height) and what is wrong, either of which may be None."""
    try:
        if verify:
            image, _ = read_image(record.path)
            return (image.shape[1], image.shape[0]), None
        with Image.open(openable(record.path)) as picture:
            return picture.size, None
    except BadImage as bad:
        return None, bad.reason
    except OSError as error:
        return None, str(error)


def _table(found: Scan, sizes: dict[str, list[tuple[int, int]]]) -> Table:
    table = Table(title=f"{found.root} ({found.layout})")
    for column in ("domain", "identities", "images", "an identity", "key points", "size", "bad"):
        table.add_column(column, justify="left" if column == "domain" else "right")
    for domain in [*found.domains, "all"]:
        records = [r for r in found.records if domain in ("all", r.domain)]
        counts = Counter(record.identity for record in records)
        seen = [s for name, list_ in sizes.items() if domain in ("all", name) for s in list_]
        table.add_row(
            domain or "(none)",
            f"{len(counts):,}",
            f"{len(records):,}",
            f"{min(counts.values())}–{max(counts.values())}",
            f"{sum(record.keypoints is not None for record in records):,}",
            _size_range(seen),
            f"{sum(record.path in found.problems for record in records):,}",
            end_section=domain == (found.domains or [""])[-1],
        )
    return table


def _size_range(sizes: list[tuple[int, int]]) -> str:
    if not sizes:
        return "–"
    (width, height), _ = Counter(sizes).most_common(1)[0]
    others = len(set(sizes)) - 1
    return f"{width} × {height}" + (f" (+{others} more)" if others else "")


def _write(out: Path, found: Scan) -> None:
    from matplotlib.figure import Figure

    write_problems(out / "problems.csv", found.problems)
    domains = found.domains
    figure = Figure(figsize=(8, 3))
    left, right = figure.subplots(1, 2)
    left.bar([d or "(none)" for d in domains], [_images(found, d) for d in domains])
    left.set_ylabel("images")
    counts = Counter((record.domain, record.identity) for record in found.records)
    right.hist(list(counts.values()), bins=range(1, max(counts.values()) + 2), align="left")
    right.set_xlabel("images of an identity in a domain")
    right.set_ylabel("identities")
    right.set_title(f"median {statistics.median(counts.values()):g}", fontsize=9)
    figure.tight_layout()
    with write_aside(out / "summary.png") as aside:
        figure.savefig(aside, dpi=100)


def _images(found: Scan, domain: str) -> int:
    return sum(record.domain == domain for record in found.records)
