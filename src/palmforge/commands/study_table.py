"""A study's results as tables and figures."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from palmforge.callbacks.evaluation_report import RESULTS_NAME, read_resamples, read_results
from palmforge.data.atomic import write_aside
from palmforge.errors import ConfigError
from palmforge.metrics.scores import Floats, ScoreCounts
from palmforge.plots import det_figure, roc_figure

COLUMNS = {"eer": "EER %", "accuracy": "Acc %"}
SHOWN_FARS = ("1e-2", "1e-3", "1e-4")  # all of them are in results.json


@dataclass
class RunResult:
    """What one run gave.

    Attributes:
        domain: Its row.
        run: Its column.
        metrics: `test/…` of results.json, without the prefix.
        counts: The test pairs by distance.
        folder: Of the run.
        trained_on: Images and identities, in words; empty where the run has not said.
        resampled: Metric → what each resample of test identities gave.
        test_set: Where it is that of another run, so are the resamples; None: not known.
    """

    domain: str
    run: str
    metrics: dict[str, float]
    counts: ScoreCounts
    folder: Path
    trained_on: str = ""
    resampled: dict[str, Floats] = field(default_factory=dict)
    test_set: str | None = None


@dataclass
class Reference:
    """A paper's table.

    Attributes:
        title: What to call it.
        values: Run → domain → metric in percent.
        notes: Footnotes.
    """

    title: str
    values: dict[str, dict[str, dict[str, float]]]
    notes: list[str]

    def get(self, run: str, domain: str, metric: str) -> float:
        """In percent; NaN where the paper has none."""
        return float(self.values.get(run, {}).get(domain, {}).get(metric, math.nan))


def load_result(domain: str, run: str, folder: Path) -> RunResult:
    """Reads a finished run."""
    metrics, counts = read_results(folder / RESULTS_NAME)
    metrics = {name.removeprefix("test/"): value for name, value in metrics.items()}
    resampled, test_set = read_resamples(folder / RESULTS_NAME)
    return RunResult(
        domain, run, metrics, counts, folder, _trained_on(folder), resampled, test_set
    )  # fmt: skip


def _trained_on(folder: Path) -> str:
    """As the DataModule has counted it, before unreadable pictures were left out."""
    path = folder / "run.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    selection = report.get("data", {}).get("selection", [""])
    return str(selection[0]).removeprefix("train: ")


def load_reference(path: str) -> Reference:
    """Reads a paper's table.

    Raises:
        ConfigError: If the file is missing or lacks a key.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return Reference(content["title"], content["values"], content.get("notes", []))
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"study reference: {path} cannot be read: {error!r}") from error


def write_tables(
    out: Path, title: str, results: list[RunResult], runs: list[str], reference: Reference | None
) -> None:
    """Writes results.md, .csv, .json and a ROC and a DET figure a domain, each file whole."""
    rows = _rows(results, runs, reference)
    write_text(out / "results.md", _markdown(title, rows, results, runs, reference))
    write_text(out / "results.csv", as_csv(rows))
    write_text(out / "results.json", _json(title, results, reference))
    for domain in dict.fromkeys(result.domain for result in results):
        curves = {r.run: r.counts for r in results if r.domain == domain}
        draw_curves(out, f"{title}: {domain}", curves, f"_{domain}")


def draw_curves(out: Path, title: str, curves: dict[str, ScoreCounts], suffix: str = "") -> None:
    """Writes `figures/roc<suffix>.png` and `figures/det<suffix>.png`."""
    for name, draw in (("roc", roc_figure), ("det", det_figure)):
        figure = draw(curves)
        figure.axes[0].set_title(title, fontsize=10)
        with write_aside(out / "figures" / f"{name}{suffix}.png") as aside:
            figure.savefig(aside, dpi=110, bbox_inches="tight")


def _rows(
    results: list[RunResult], runs: list[str], reference: Reference | None
) -> list[dict[str, Any]]:
    """A row a domain, and the means over the domains that have all runs: computed, not quoted."""
    by_domain: dict[str, dict[str, RunResult]] = {}
    for result in results:
        by_domain.setdefault(result.domain, {})[result.run] = result
    rows: list[dict[str, Any]] = []
    for domain, found in by_domain.items():
        row: dict[str, Any] = {"domain": domain}
        for run in runs:
            for metric in COLUMNS:
                ours = 100 * found[run].metrics.get(metric, math.nan) if run in found else math.nan
                row[f"{run}/{metric}"] = ours
                if reference is not None:
                    row[f"{run}/{metric}/paper"] = reference.get(run, domain, metric)
        rows.append(row)
    complete = [row for row in rows if set(runs) <= set(by_domain[row["domain"]])]
    if len(complete) > 1:
        keys = [key for key in rows[0] if key != "domain"]
        rows.append({"domain": "mean", **{k: fmean(row[k] for row in complete) for k in keys}})
    return rows


def _markdown(
    title: str,
    rows: list[dict[str, Any]],
    results: list[RunResult],
    runs: list[str],
    reference: Reference | None,
) -> str:
    names = [f"{run} {label}" for run in runs for label in COLUMNS.values()]
    lines = [f"# {title}", ""]
    if reference is not None:
        lines += [f"Ours, and in brackets {reference.title}.", ""]
    lines += ["| domain | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for row in rows:
        cells = []
        for run in runs:
            for metric in COLUMNS:
                cell = percent(row[f"{run}/{metric}"])
                if reference is not None:
                    cell += f" ({percent(row[f'{run}/{metric}/paper'])})"
                cells.append(cell)
        lines.append(f"| {row['domain']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| run | EER, 95 % interval | TAR % at FAR | d′ | genuine / impostor pairs |",
        "|---|---|---|---:|---:|",
    ]
    for result in results:
        m = result.metrics
        low, high = (100 * m.get(key, math.nan) for key in ("eer_low", "eer_high"))
        rates = ", ".join(
            f"{percent(100 * m[key])} at {far}"
            for far in SHOWN_FARS
            if (key := f"tar@far={far}") in m
        )
        pairs = f"{result.counts.num_genuine:,} / {result.counts.num_impostor:,}"
        lines.append(
            f"| {result.domain} {result.run} | {percent(low)}–{percent(high)} | {rates} "
            f"| {m.get('dprime', math.nan):.2f} | {pairs} |"
        )
    lines += ["", *(f"- {note}" for note in (reference.notes if reference else []))]
    return "\n".join(lines).rstrip() + "\n"


def as_csv(rows: list[dict[str, Any]]) -> str:
    """Rows that have all the same keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_dict(result: RunResult) -> dict[str, Any]:
    """Of a run, for results.json."""
    return {
        "domain": result.domain,
        "run": result.run,
        "folder": str(result.folder),
        "metrics": {k: v if math.isfinite(v) else None for k, v in result.metrics.items()},
    }


def _json(title: str, results: list[RunResult], reference: Reference | None) -> str:
    runs = [as_dict(result) for result in results]
    paper = reference.values if reference else None
    return json.dumps({"title": title, "runs": runs, "paper": paper}, indent=1) + "\n"


def write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def percent(value: float) -> str:
    """Two digits; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.2f}"
