"""The hands of docs/deidentification.md, of a test that was done.

python train.py study configs/study/deidentification.yaml
python scripts/deidentified_figure.py results/deidentification docs/images/deidentified.jpg
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from palmforge.callbacks.deidentification_report import SETTINGS
from palmforge.evaluation.deidentification_figures import hands_montage
from palmforge.evaluation.deidentified_folder import DeidentifiedPalms

ROWS, OTHERS = 5, ("α=0.3", "masking", "blurring")


def main(folder: str, out: str) -> None:
    """Rows are photographs, columns the original, the first method, the difference, others."""
    methods = list(json.loads((Path(folder) / SETTINGS).read_text(encoding="utf-8"))["methods"])
    shown = DeidentifiedPalms(Path(folder), methods).shown()[:ROWS]
    columns = [methods[0], *(method for method in methods if method in OTHERS)]
    sheet = hands_montage(shown, columns).convert("RGB")
    sheet.thumbnail((1500, 1500))
    sheet.save(out, quality=82)


if __name__ == "__main__":
    main(*sys.argv[1:])
