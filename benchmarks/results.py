"""What the benchmarks found: kept in a file, shown as a table."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import torch

from palmforge.callbacks.run_report import git_revision
from palmforge.data.atomic import write_aside
from palmforge.errors import DataError
from palmforge.evaluation.finite import finite

FILE = Path(__file__).parent / "results.json"


def keep(path: Path, name: str, found: dict[str, Any]) -> None:
    """Adds what a `run()` found, with where; what was measured earlier stays.

    Raises:
        DataError: If the file is there and is none of ours.
    """
    results = read(path)
    results[name] = {**finite(found), **_machine()}
    with write_aside(path) as aside:
        aside.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Benchmark → what it found; nothing where there is no file.

    Raises:
        DataError: If it is none of ours.
    """
    if not path.exists():
        return {}
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if not all({"claim", "ratio"} <= found.keys() for found in results.values()):
            raise ValueError
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} holds no results of benchmarks: move it away") from error
    return results


def table(results: dict[str, dict[str, Any]]) -> str:
    """In Markdown, a line a ratio."""
    lines = ["| benchmark | what | ratio | target | |", "|---|---|---:|---:|---|"]
    for name, found in results.items():
        target, ratio = found.get("target"), found["ratio"]
        missed = "below" if target and ratio < target else ""
        lines.append(f"| `{name}` | {found['claim']} | {ratio:,.1f} | {target or ''} | {missed} |")
        lines += [
            f"| | {what} | {value:,.1f} | | |" for what, value in found.get("ratios", {}).items()
        ]
    return "\n".join(lines)


def _machine() -> dict[str, Any]:
    return {
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "revision": git_revision(),
    }
