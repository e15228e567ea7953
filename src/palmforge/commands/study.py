"""`train.py study`: many runs, one table, next to the paper's numbers."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from palmforge.callbacks.evaluation_report import RESULTS_NAME
from palmforge.commands.overrides import flat
from palmforge.commands.study_lines import write_lines
from palmforge.commands.study_plan import (
    Planned,
    StudySpec,
    make_plan,
    read_marker,
    read_study,
    write_marker,
)
from palmforge.commands.study_table import (
    Reference,
    RunResult,
    load_reference,
    load_result,
    write_tables,
)
from palmforge.data.atomic import check_writable
from palmforge.errors import TrainingError


def study(
    study_file: str,
    out: str | None = None,
    dry_run: bool = False,
    logs: str = "lightning_logs",
    overrides: dict[str, Any] | None = None,
) -> None:
    """Trains and tests every run of a study; those that are done are skipped.

    After every run `results.md`, `results.csv`, `results.json` and the ROC and DET figures are
    written anew.

    Args:
        study_file: The study's YAML (configs/study/).
        out: Where the tables go; null: results/<name>.
        dry_run: Lists the runs, as commands that a shell takes, and does nothing.
        logs: Where runs are kept.
        overrides: Settings for all runs that are tested, on top of the study's, as
            --overrides '{"data.root": "/data/XJTU-UP", "trainer.devices": 8}'
            or --overrides.data.root=/data/XJTU-UP.
    """
    spec = read_study(study_file)
    spec.overrides |= flat(overrides or {})
    plan = make_plan(spec, logs)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    target = Path(out or f"results/{spec.name}")
    if dry_run:
        for item in plan:
            console.print(_listed(item))
        return
    check_writable(target, "out")
    reference = load_reference(spec.reference) if spec.reference else None
    for number, item in enumerate(plan, start=1):
        label = f"[{number}/{len(plan)}] {item.label}"
        if item.version:
            console.print(f"{label}: done, skipped")
        else:
            console.print(f"{label}: {_DOING[item.arguments[0]]}")
            with _tracked_as({"WANDB_RUN_GROUP": spec.name, "WANDB_JOB_TYPE": item.run}):
                _run(item, console)
        _write(target, spec, _results(plan), reference)
    if not _results(plan):
        return
    console.print((target / "results.md").read_text(encoding="utf-8"))
    console.print(f"tables and figures: {target}")


_DOING = {"fit": "training", "predict": "generating", "test": "testing"}


def _listed(item: Planned) -> str:
    """A run's label as a comment, then its command, a flag a line."""
    command, *flags = item.command()
    lines = [shlex.join(["python", sys.argv[0], command]), *(shlex.quote(flag) for flag in flags)]
    state = "done" if item.version else "to do"
    return f"# {item.label} ({state})\n" + " \\\n  ".join(lines) + "\n"


@contextmanager
def _tracked_as(names: dict[str, str]) -> Iterator[None]:
    """What wandb calls the runs that are started now; the user's own names win."""
    new = {name: value for name, value in names.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def _run(item: Planned, console: Console) -> None:
    """Trains and tests, or generates; goes on where an earlier try with these settings stopped."""
    arguments, marker, started = item.command(), read_marker(item), time.time()
    versions = {path.name for path in item.folder.glob("version_*")}
    if not marker:
        marker = {"digest": item.digest, "others": sorted(versions)}
        write_marker(item, marker)
    ours = sorted(versions - set(marker["others"]), key=lambda name: int(name.split("_")[1]))
    stopped = [path for v in ours if (path := item.folder / v / "checkpoints/last.ckpt").is_file()]
    if stopped:
        console.print(f"  goes on from {stopped[-1]}")
        arguments.append(f"--ckpt_path={stopped[-1]}")
    code = subprocess.run([sys.executable, sys.argv[0], *arguments], check=False).returncode
    if code:
        raise TrainingError(
            f"study: {item.label} ended with status {code}. Mend it and start the "
            "study again: what is done is kept. The command was:\n  train.py "
            + shlex.join(arguments)
        )
    version = item.generated
    if version is None:
        last = _last_written(item)
        written = item.folder.glob(f"version_*/{last}")
        newest = max(written, key=lambda path: path.stat().st_mtime)
        version = newest.parents[len(Path(last).parts) - 1]
    write_marker(item, {**marker, "version": str(version)})
    console.print(f"  {time.time() - started:.0f} s, {version}")


def _last_written(item: Planned) -> str:
    """What of a run's folder is there when it has ended well."""
    if item.is_judged:
        return RESULTS_NAME
    # A test writes its results where it is told to; its config says which run it was.
    return "config.yaml" if item.arguments[0] == "test" else f"checkpoints/{item.checkpoint}.ckpt"


def _results(plan: list[Planned]) -> list[RunResult]:
    done = [(item, item.version) for item in plan if item.is_judged]
    return [load_result(i.domain, i.run, version) for i, version in done if version is not None]


def _write(
    target: Path, spec: StudySpec, results: list[RunResult], reference: Reference | None
) -> None:
    title = spec.title or spec.name
    if not results:
        return
    if spec.domains:
        trained = [name for name, run in spec.runs.items() if run.is_judged]
        write_tables(target, title, results, trained, reference)
    else:
        write_lines(target, title, results, spec.baseline, spec.notes)
