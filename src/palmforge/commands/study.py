"""`train.py study`: many runs, one table, next to the paper's numbers."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from rich.console import Console

from palmforge.callbacks.evaluation_report import RESULTS_NAME
from palmforge.commands.study_table import RunResult, load_reference, load_result, write_tables
from palmforge.data.atomic import check_writable, write_aside
from palmforge.errors import ConfigError, TrainingError

MARKER_NAME = "study_run.json"


@dataclass
class RunSpec:
    """One column of the table.

    Attributes:
        config: The experiment's YAML.
        layers: YAMLs laid over it (configs/ablation/).
        needs: Setting → the run of the same domain whose checkpoint it takes
            (`model.teacher_ckpt: teacher`).
        overrides: Setting → value, for this run.
    """

    config: str
    layers: list[str] = field(default_factory=list)
    needs: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class StudySpec:
    """A study's YAML.

    Attributes:
        name: Runs are kept in `lightning_logs/<name>/<domain>/<run>`.
        runs: The columns of the table, in the order in which they are trained.
        domains: The rows.
        title: Of the table.
        reference: A YAML with the paper's numbers, or null.
        checkpoint: Which one is tested: `last` (a fixed number of steps, as the paper) or `best`.
        overrides: Setting → value, for all runs.
    """

    name: str
    runs: dict[str, RunSpec]
    domains: list[str]
    title: str = ""
    reference: str | None = None
    checkpoint: str = "last"
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class Planned:
    """One run of the plan.

    Attributes:
        domain: Its row.
        run: Its column.
        folder: Where it is kept.
        arguments: Of `train.py`, but for the checkpoints that it takes.
        needs: Setting → the run whose checkpoint it takes.
        checkpoint: Which one.
        digest: Of all that decides its result but the code: arguments, YAML, the runs it needs.
    """

    domain: str
    run: str
    folder: Path
    arguments: list[str]
    needs: dict[str, Planned]
    checkpoint: str
    digest: str

    @property
    def version(self) -> Path | None:
        """The folder of the Lightning run that ended with these settings, if there is one."""
        marker = _read_marker(self)
        return Path(marker["version"]) if marker.get("version") else None

    def command(self) -> list[str]:
        """All arguments of `train.py`."""
        return self.arguments + [
            f"--{setting}={(other.version or other.folder) / 'checkpoints' / self.checkpoint}.ckpt"
            for setting, other in self.needs.items()
        ]


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
        dry_run: Lists the runs and does nothing.
        logs: Where runs are kept.
        overrides: Settings for all runs, on top of the study's, as
            --overrides '{"data.root": "/data/XJTU-UP", "trainer.devices": 8}'
            or --overrides.data.root=/data/XJTU-UP.
    """
    spec = read_study(study_file)
    spec.overrides |= _flat(overrides or {})
    plan = make_plan(spec, logs)
    console = Console(soft_wrap=True, highlight=False)
    target = Path(out or f"results/{spec.name}")
    if dry_run:
        for item in plan:
            state = "done" if item.version else "to do"
            console.print(f"{state:5}  {item.domain}/{item.run}: {' '.join(item.command())}")
        return
    check_writable(target, "out")
    reference = load_reference(spec.reference) if spec.reference else None
    for number, item in enumerate(plan, start=1):
        label = f"[{number}/{len(plan)}] {item.domain}/{item.run}"
        if item.version:
            console.print(f"{label}: done, skipped")
        else:
            console.print(f"{label}: training")
            _run(item, console)
        write_tables(target, spec.title or spec.name, _results(plan), list(spec.runs), reference)
    console.print((target / "results.md").read_text(encoding="utf-8"))
    console.print(f"tables and figures: {target}")


def read_study(path: str) -> StudySpec:
    """Reads a study's YAML.

    Raises:
        ConfigError: If a key is wrong, or a run needs one that is not trained before it.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--study", type=StudySpec)
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        spec = parser.instantiate_classes(parser.parse_object({"study": content})).study
    except OSError as error:
        raise ConfigError(f"study: {path} cannot be read: {error}") from error
    except Exception as error:
        raise ConfigError(f"study: {path}: {error}") from error
    names = list(spec.runs)
    for name, run in spec.runs.items():
        for setting, other in run.needs.items():
            if other not in names[: names.index(name)]:
                raise ConfigError(
                    f"study: {path}: run {name!r}: {setting} needs {other!r} before it"
                )
    return spec


def make_plan(spec: StudySpec, logs: str = "lightning_logs") -> list[Planned]:
    """The runs in the order in which they are trained: domain by domain."""
    plan: list[Planned] = []
    for domain in spec.domains:
        row: dict[str, Planned] = {}
        for name, run in spec.runs.items():
            needs = {setting: row[other] for setting, other in run.needs.items()}
            row[name] = _plan_run(spec, domain, name, needs, logs)
            plan.append(row[name])
    return plan


def _plan_run(
    spec: StudySpec, domain: str, name: str, needs: dict[str, Planned], logs: str
) -> Planned:
    run, experiment = spec.runs[name], f"{spec.name}/{domain}/{name}"
    files = [run.config, *run.layers]
    settings = {"data.domains": f"[{domain}]", **spec.overrides, **run.overrides}
    if logs != "lightning_logs":
        settings["trainer.logger.init_args.save_dir"] = logs
    arguments = ["fit", *(f"--config={file}" for file in files), f"--name={experiment}"]
    arguments += [f"--test_ckpt={spec.checkpoint}"]
    arguments += [f"--{key}={_text(value)}" for key, value in settings.items()]
    try:
        contents = [Path(file).read_text(encoding="utf-8") for file in files]
    except OSError as error:
        raise ConfigError(f"study: run {name!r}: {error}") from error
    parts = [arguments, contents, [other.digest for other in needs.values()]]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    folder = Path(logs) / experiment
    return Planned(domain, name, folder, arguments, needs, spec.checkpoint, digest)


def _run(item: Planned, console: Console) -> None:
    """Trains and tests; goes on where an earlier try with the same settings was stopped."""
    arguments, marker, started = item.command(), _read_marker(item), time.time()
    versions = {path.name for path in item.folder.glob("version_*")}
    if not marker:
        marker = {"digest": item.digest, "others": sorted(versions)}
        _write_marker(item, marker)
    ours = sorted(versions - set(marker["others"]), key=lambda name: int(name.split("_")[1]))
    stopped = [path for v in ours if (path := item.folder / v / "checkpoints/last.ckpt").is_file()]
    if stopped:
        console.print(f"  goes on from {stopped[-1]}")
        arguments.append(f"--ckpt_path={stopped[-1]}")
    code = subprocess.run([sys.executable, sys.argv[0], *arguments], check=False).returncode
    if code:
        raise TrainingError(
            f"study: {item.domain}/{item.run} ended with status {code}. Mend it and start the "
            "study again: what is done is kept. The command was:\n  train.py " + " ".join(arguments)
        )
    results = item.folder.glob(f"version_*/{RESULTS_NAME}")
    version = max(results, key=lambda path: path.stat().st_mtime).parent
    _write_marker(item, {**marker, "version": str(version)})
    console.print(f"  {time.time() - started:.0f} s, {version}")


def _read_marker(item: Planned) -> dict[str, Any]:
    """What an earlier try with the same settings left; empty if there was none."""
    path = item.folder / MARKER_NAME
    marker = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return marker if marker.get("digest") == item.digest else {}


def _write_marker(item: Planned, marker: dict[str, Any]) -> None:
    with write_aside(item.folder / MARKER_NAME) as aside:
        aside.write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")


def _results(plan: list[Planned]) -> list[RunResult]:
    return [load_result(i.domain, i.run, i.version) for i in plan if i.version is not None]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= (
            _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        )
    return flat


def _text(value: Any) -> str:
    """A value as the command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)
