"""What the run of a checkpoint left beside it, for a model card: no path, no name of a person."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from palmforge.callbacks.evaluation_report import RESULTS_NAME, read_results
from palmforge.data.embedded import SYNTHETIC
from palmforge.data.synthetic import XJTU_PRESETS
from palmforge.evaluation.finite import finite
from palmforge.metrics.scores import ScoreCounts

_SETTINGS = ("domains", "protocol", "image_size", "augmentation")
_PARTS = ("train:", "validation:", "test:")  # other lines of a selection name identities


@dataclass
class Run:
    """Of a checkpoint.

    Attributes:
        name: Of the experiment.
        domain: The first of the run's that can be rendered, else `wild`.
        trained_on: Setting → value.
        test: `metrics` of the newest test of exactly this checkpoint, and its `file`.
        counts: Pairs of that test by distance.
    """

    name: str = ""
    domain: str = "wild"
    trained_on: dict[str, Any] = field(default_factory=dict)
    test: dict[str, Any] | None = None
    counts: ScoreCounts | None = None


def read_run(checkpoint: Path) -> Run:
    """The run of a file in `checkpoints/`; of anything else nothing is known."""
    run = Run()
    checkpoint = checkpoint.resolve()
    if not checkpoint.is_file() or len(checkpoint.parents) < 3:
        return run
    folder = checkpoint.parents[1]
    config = _yaml(folder / "config.yaml")
    settings = (config.get("data") or {}).get("init_args") or {}
    run.name = config.get("name", "")
    run.trained_on = _trained_on(config, settings, folder / "run.json")
    known = [name for name in settings.get("domains") or [] if name in XJTU_PRESETS]
    run.domain = known[0] if known else run.domain
    results = _results(checkpoint)
    if results is not None:
        metrics, run.counts = read_results(results)
        run.test = {"metrics": finite(metrics), "file": f"{results.parent.name}/{results.name}"}
    return run


def _trained_on(config: dict[str, Any], settings: dict[str, Any], run: Path) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if root := settings.get("root"):
        told["set"] = "rendered palms" if root == SYNTHETIC else Path(root).name
    told |= {key: settings.get(key) for key in _SETTINGS}
    if run.is_file():
        lines = json.loads(run.read_text(encoding="utf-8")).get("data", {}).get("selection", [])
        told["pictures"] = "; ".join(line for line in lines if line.startswith(_PARTS))
    told["steps"] = (config.get("trainer") or {}).get("max_steps")
    return {key: value for key, value in told.items() if value not in (None, "", [])}


def _results(checkpoint: Path) -> Path | None:
    """The newest test of exactly this checkpoint, by its own run or by a later `test`."""
    reports = checkpoint.parents[2].glob(f"version_*/{RESULTS_NAME}")
    for path in sorted(reports, key=lambda path: path.stat().st_mtime, reverse=True):
        tested = Path(json.loads(path.read_text(encoding="utf-8")).get("checkpoint") or "-")
        # Runs are moved and cloned: experiment, version and file tell it.
        if tested.parts[-4:] == checkpoint.parts[-len(tested.parts[-4:]) :]:
            return path
    return None


def _yaml(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return content if isinstance(content, dict) else {}
