"""The embedded data set on disk: rendered at its first use, then found again."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from palmforge.data.atomic import check_writable
from palmforge.data.synthetic import SyntheticPalms

SYNTHETIC = "synthetic"  # the root that stands for it


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
