"""After `test`: the numbers as `results.json`, the curves as figures."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np

from palmforge.callbacks.run_folder import run_folder, save_figure
from palmforge.callbacks.run_report import provenance
from palmforge.data.atomic import write_aside
from palmforge.metrics.scores import Floats, ScoreCounts
from palmforge.plots import det_figure, histogram_figure, roc_figure

RESULTS_NAME = "results.json"


class EvaluationReport(L.Callback):
    """Writes `results.json` and the ROC, DET and histogram of the test pairs.

    `results.json` holds the metrics and the number of genuine and impostor pairs at each distance,
    from which every rate and curve can be had again (`read_results`); and, where intervals are
    drawn, what each resample of identities gave (`read_resamples`), by which two recognisers tested
    on the same pictures are compared.
    """

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Takes the pairs before the module resets them; all processes gather, rank 0 writes."""
        metric = getattr(pl_module, "test_verification", None)
        self._counts: ScoreCounts | None = metric.score_counts() if metric is not None else None
        self._resampled: dict[str, Floats] = getattr(metric, "resampled", {})

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes."""
        folder = run_folder(trainer)
        if folder is None or not trainer.is_global_zero or self._counts is None:
            return
        metrics = {
            k: _json(float(v)) for k, v in trainer.callback_metrics.items() if k.startswith("test/")
        }
        counts = self._counts
        write_results(
            folder / RESULTS_NAME, metrics, counts, checkpoint=str(trainer.ckpt_path or ""),
            resampled=self._resampled, test_set=_test_set(trainer),
        )  # fmt: skip
        if counts.num_genuine and counts.num_impostor:
            save_figure(folder, trainer, "roc", roc_figure({"test": counts}), log=True)
            save_figure(folder, trainer, "det", det_figure({"test": counts}), log=True)
            save_figure(folder, trainer, "distances", histogram_figure(counts), log=True)


def write_results(
    path: Path,
    metrics: dict[str, float | None],
    counts: ScoreCounts,
    checkpoint: str,
    resampled: Mapping[str, Floats] | None = None,
    test_set: str | None = None,
) -> None:
    """Writes the numbers of a test, whole or not at all.

    Args:
        path: The file.
        metrics: By name.
        counts: Pairs by distance.
        checkpoint: That was tested.
        resampled: Metric without `test/` → what each resample of identities gave.
        test_set: Says whether two tests were of the same pictures.
    """
    content = {
        "metrics": metrics,
        "distances": counts.to_dict(),
        "checkpoint": checkpoint,
        "resamples": {k: [_json(float(v)) for v in own] for k, own in (resampled or {}).items()},
        "test_set": test_set,
        **provenance(),
    }
    with write_aside(path) as aside:
        aside.write_text(json.dumps(content) + "\n", encoding="utf-8")


def read_results(path: Path) -> tuple[dict[str, float], ScoreCounts]:
    """The metrics and pair counts of a `results.json`."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    metrics = {k: math.nan if v is None else v for k, v in content["metrics"].items()}
    return metrics, ScoreCounts.from_dict(content["distances"])


def read_resamples(path: Path) -> tuple[dict[str, Floats], str | None]:
    """What the resamples of a `results.json` gave, and a name of its test set (None: not known).

    Where the names of two files agree, so do their resamples, one by one.
    """
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    resampled = {k: np.array(v, dtype=np.float64) for k, v in content.get("resamples", {}).items()}
    return resampled, content.get("test_set")


def _test_set(trainer: L.Trainer) -> str | None:
    """A digest of which pictures were tested, and of the order of their labels: that of draws."""
    data = getattr(getattr(trainer, "datamodule", None), "test", None)
    records, labels = getattr(data, "records", None), getattr(data, "labels", None)
    if records is None or labels is None:
        return None
    order = np.unique(labels, return_inverse=True)[1].tolist()
    names = "\n".join(f"{rank}\t{r.path}" for rank, r in zip(order, records, strict=True))
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def _json(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
