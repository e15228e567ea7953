"""Ratios against the obvious way, measured in one run: `python -m benchmarks [NAME ...]`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
