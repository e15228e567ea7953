"""Pictures of a generated set with their prompts, as in docs/generation.md.

python scripts/generated_montage.py data/generated/sd_base_tiny docs/images/generated.jpg
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
from matplotlib.figure import Figure
from PIL import Image


def main(folder: str, out: str, columns: int = 8, rows: int = 3) -> None:
    """The first pictures of a set."""
    manifest = pq.read_table(Path(folder) / "manifest.parquet").to_pylist()
    figure = Figure(figsize=(1.35 * columns, 1.85 * rows))
    for place, row in enumerate(manifest[: columns * rows], start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(Image.open(Path(folder) / row["file"]), interpolation="lanczos")
        axes.set_title(textwrap.fill(row["prompt"], 26), fontsize=4.5, pad=2)
        axes.axis("off")
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.93, wspace=0.06, hspace=0.32)
    figure.savefig(out, dpi=110, pil_kwargs={"quality": 85} if out.endswith(".jpg") else None)


if __name__ == "__main__":
    main(*sys.argv[1:3])
