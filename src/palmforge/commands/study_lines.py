"""A study without domains: a line a run, and how far each is from the baseline."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from palmforge.commands.study_table import (
    RunResult,
    as_csv,
    as_dict,
    draw_curves,
    percent,
    write_text,
)
from palmforge.metrics.bootstrap import percentile_interval

METRICS = {
    "eer": "EER %",
    "tar@far=1e-3": "TAR % at FAR 0.1 %",
    "tar@far=1e-4": "TAR % at FAR 0.01 %",
}
Difference = tuple[float, float, float]  # of two shares, low and high


def write_lines(
    out: Path, title: str, results: list[RunResult], baseline: str | None, notes: list[str]
) -> None:
    """Writes results.md, .csv and .json and one ROC and one DET figure of all runs.

    Args:
        out: The folder.
        title: Of the table.
        results: In the order of the lines.
        baseline: The run from which the others' differences are told; None: no differences.
        notes: Stand below the table.
    """
    base = next((result for result in results if result.run == baseline), None)
    apart = {
        result.run: _differences(result, base)
        for result in results
        if base is not None and result is not base
    }
    write_text(out / "results.md", _markdown(title, results, base, apart, notes))
    write_text(out / "results.csv", as_csv([_row(r, apart.get(r.run, {})) for r in results]))
    runs = [
        {**as_dict(r), "trained_on": r.trained_on, "minus_baseline": apart.get(r.run, {})}
        for r in results
    ]
    content = {"title": title, "runs": runs, "baseline": baseline, "notes": notes}
    write_text(out / "results.json", json.dumps(content, indent=1) + "\n")
    draw_curves(out, title, {result.run: result.counts for result in results})


def _differences(result: RunResult, base: RunResult) -> dict[str, Difference]:
    """Metric → ours − the baseline's with its 95 % interval, where both saw the same palms.

    Paired: each resample draws the same test identities for both, so what makes a palm hard for
    both is no part of the interval.
    """
    if result.test_set is None or result.test_set != base.test_set:
        return {}
    found = {}
    for metric in METRICS:
        ours, theirs = result.resampled.get(metric), base.resampled.get(metric)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            continue
        try:
            interval = percentile_interval(ours - theirs)
        except ValueError:  # too few identities
            continue
        found[metric] = (result.metrics[metric] - base.metrics[metric], *interval)
    return found


def _row(result: RunResult, apart: dict[str, Difference]) -> dict[str, Any]:
    row: dict[str, Any] = {"run": result.run, "trained_on": result.trained_on}
    for metric in METRICS:
        for suffix in ("", "_low", "_high"):
            row[metric + suffix] = 100 * result.metrics.get(metric + suffix, math.nan)
        values = apart.get(metric, (math.nan,) * 3)
        for suffix, value in zip(("", "_low", "_high"), values, strict=True):
            row[f"{metric}/minus_baseline{suffix}"] = 100 * value
    return row


def _markdown(
    title: str,
    results: list[RunResult],
    base: RunResult | None,
    apart: dict[str, dict[str, Difference]],
    notes: list[str],
) -> str:
    labels = " | ".join(METRICS.values())
    lines = [f"# {title}", "", f"| run | trained on | {labels} |"]
    lines.append("|---|---|" + "---:|" * len(METRICS))
    for result in results:
        cells = [_figure(result, metric) for metric in METRICS]
        lines.append(f"| {result.run} | {result.trained_on} | " + " | ".join(cells) + " |")
    if base is not None and apart:
        lines += ["", f"| minus {base.run}, points | {labels} |"]
        lines.append("|---|" + "---:|" * len(METRICS))
        for run, found in apart.items():
            cells = [_apart(found.get(metric)) for metric in METRICS]
            lines.append(f"| {run} | " + " | ".join(cells) + " |")
    last = results[-1].counts
    lines += ["", f"- Test: {last.num_genuine:,} genuine and {last.num_impostor:,} impostor pairs."]
    lines.append(
        "- Brackets: 95 %, test identities drawn anew; a star: 0 is outside. They do not hold what "
        "another training seed would change."
    )
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def _figure(result: RunResult, metric: str) -> str:
    value, low, high = (
        100 * result.metrics.get(metric + suffix, math.nan) for suffix in ("", "_low", "_high")
    )
    return f"{percent(value)} ({percent(low)}–{percent(high)})" if value == value else "–"


def _apart(found: Difference | None) -> str:
    if found is None:
        return "–"
    value, low, high = (100 * part for part in found)
    star = " *" if low > 0 or high < 0 else ""
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f}){star}"
