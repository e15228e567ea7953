"""The embedded data set on disk: rendered at its first use, then found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from palmforge.data.atomic import check_writable
from palmforge.data.layouts import Scan, scan
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import DataError

SYNTHETIC = "synthetic"  # the root that stands for it


def scan_root(
    root: str,
    layout: str,
    domains: list[str] | None,
    palms: SyntheticPalms,
    synthetic_dir: str,
    num_workers: int = 1,
) -> Scan:
    """What a root holds; `SYNTHETIC` stands for these palms.

    Raises:
        DataError: As `scan`; or if a domain cannot be rendered.
    """
    if root != SYNTHETIC:
        return scan(root, layout, domains)
    try:
        palms = replace(palms, domains=tuple(domains or palms.domains))
    except ValueError as error:
        raise DataError(f"data.domains: {error}") from error
    return scan(rendered(palms, synthetic_dir, num_workers), "auto", domains)


def rendered(palms: SyntheticPalms, synthetic_dir: str, num_workers: int = 1) -> str:
    """The root of these palms, which are rendered if they are not there yet.

    Args:
        palms: What to render.
        synthetic_dir: Where sets are kept, each in a folder of its own.
        num_workers: Processes that render.

    Raises:
        DataError: If the directory cannot be written to.
    """
    name = f"{palms.num_identities}x{palms.images_per_identity}-{palms.size}px-seed{palms.seed}"
    if palms.what == "rois":
        name += f"-rois-{palms.frame_error:g}"
    root = Path(synthetic_dir) / name
    check_writable(root.parent, "data.synthetic_dir")
    with FileLock(f"{root}.lock"):  # whoever comes first renders, the others wait
        palms.write(str(root), num_workers=max(1, num_workers))
    return str(root)
