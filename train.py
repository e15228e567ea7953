#!/usr/bin/env python3
"""The one entry point: `python train.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from palmforge.front import main

if __name__ == "__main__":
    main()
