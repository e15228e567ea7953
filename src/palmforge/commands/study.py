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
from jsonargparse import ArgumentParser, Namespace
from rich.console import Console

from palmforge.callbacks.evaluation_report import RESULTS_NAME
from palmforge.commands.study_table import RunResult, load_reference, load_result, write_tables
from palmforge.data.atomic import check_writable, write_aside
from palmforge.errors import ConfigError, TrainingError

DONE_NAME = "study_run.json"


@dataclass
class RunSpec:
    """One column of the table.

    Attributes:
        config: The experiment's YAML.
        needs: Setting → the run of the same domain whose checkpoint it takes
            (`model.init_args.teacher_ckpt: teacher`).
        overrides: Setting → value, for this run.
    """

    config: str
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
        checkpoint: Which one is tested: `last` (a fixed number of steps, as in the paper) or `best`.
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
        arguments: Of `train.py`.
        digest: Of all that decides its result but the code: arguments, YAML, the runs it needs.
    """

    domain: str
    run: str
    folder: Path
    arguments: list[str]
    digest: str

    @property
    def is_done(self) -> bool:
        """Whether it ran to its end with these settings."""
        marker = self.folder / DONE_NAME
        if not marker.is_file():
            return False
        return json.loads(marker.read_text(encoding="utf-8"))["digest"] == self.digest

    @property
    def version(self) -> Path:
        """The folder of the finished Lightning run."""
        return Path(json.loads((self.folder / DONE_NAME).read_text(encoding="utf-8"))["version"])


def study(
    config: str,
    out: str | None = None,
    dry_run: bool = False,
    logs: str = "lightning_logs",
    overrides: dict[str, Any] | None = None,
) -> None:
    """Trains and tests every run of a study; those that are done are skipped.

    After every run `results.md`, `results.csv`, `results.json` and the ROC and DET figures are
    written anew.

    Args:
        config: The study's YAML (configs/study/).
        out: Where the tables go; null: results/<name>.
        dry_run: Lists the runs and does nothing.
        logs: Where runs are kept.
        overrides: Settings for all runs, on top of the study's, for example
            --overrides.data.root=/data/XJTU-UP or --overrides '{"trainer.devices": 8}'.
    """
    spec = read_study(config)
    spec.overrides |= _flat(overrides or {})
    plan = make_plan(spec, logs)
    console = Console(soft_wrap=True, highlight=False)
    target = Path(out or f"results/{spec.name}")
    if dry_run:
        for item in plan:
            state = "done" if item.is_done else "to do"
            console.print(
                f"{state:5}  {item.domain}/{item.run}: train.py {' '.join(item.arguments)}"
            )
        return
    check_writable(target, "out")
    reference = load_reference(spec.reference) if spec.reference else None
    for number, item in enumerate(plan, start=1):
        label = f"[{number}/{len(plan)}] {item.domain}/{item.run}"
        if item.is_done:
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
    parser.add_class_arguments(StudySpec, "study")
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        spec = parser.instantiate_classes(parser.parse_object(Namespace(study=content))).study
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
        done: dict[str, Planned] = {}
        for name, run in spec.runs.items():
            experiment = f"{spec.name}/{domain}/{name}"
            settings = {"data.init_args.domains": f"[{domain}]", **spec.overrides, **run.overrides}
            arguments = ["fit", "--config", run.config, f"--name={experiment}"]
            arguments += [f"--trainer.logger.init_args.save_dir={logs}"] * (
                logs != "lightning_logs"
            )
            arguments += [f"--test_ckpt={spec.checkpoint}"]
            arguments += [f"--{key}={_text(value)}" for key, value in settings.items()]
            parts = [arguments, Path(run.config).read_text(encoding="utf-8")]
            parts += [done[other].digest for other in run.needs.values()]
            digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
            for key, other in run.needs.items():
                arguments.append(f"--{key}={{{other}}}")  # filled in when that run is done
            done[name] = Planned(domain, name, Path(logs) / experiment, arguments, digest)
            plan.append(done[name])
    return plan


def _run(item: Planned, console: Console) -> None:
    arguments = [_fill(argument, item) for argument in item.arguments]
    started = time.time()
    command = [sys.executable, sys.argv[0], *arguments]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise TrainingError(
            f"study: {item.domain}/{item.run} ended with status {code}. Mend it and start the study "
            f"again: what is done is kept. The command was:\n  {' '.join(command)}"
        )
    newest = max(
        item.folder.glob(f"version_*/{RESULTS_NAME}"), key=lambda path: path.stat().st_mtime
    )
    marker = {
        "digest": item.digest,
        "version": str(newest.parent),
        "seconds": round(time.time() - started, 1),
    }
    with write_aside(item.folder / DONE_NAME) as aside:
        aside.write_text(json.dumps(marker), encoding="utf-8")
    console.print(f"  {marker['seconds']} s, {newest.parent}")


def _fill(argument: str, item: Planned) -> str:
    """`--key={teacher}` → the checkpoint of the teacher of the same domain."""
    key, _, value = argument.partition("=")
    if not (value.startswith("{") and value.endswith("}")) or ":" in value:
        return argument
    other = item.folder.parent / value[1:-1]
    version = json.loads((other / DONE_NAME).read_text(encoding="utf-8"))["version"]
    return f"{key}={Path(version) / 'checkpoints' / 'last.ckpt'}"


def _results(plan: list[Planned]) -> list[RunResult]:
    return [load_result(item.domain, item.run, item.version) for item in plan if item.is_done]


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
