"""What a study is made of: its YAML → the command lines of its runs, and which of them are done."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentParser

from palmforge.commands.overrides import text
from palmforge.data.atomic import write_aside
from palmforge.data.digests import file_digest
from palmforge.errors import ConfigError

MARKER_NAME = "study_run.json"
GENERATED = "data/generated"  # where `predict` runs write: a folder each set of settings


@dataclass
class RunSpec:
    """One column of the table; in a study without domains, one line.

    Attributes:
        config: The experiment's YAML.
        layers: YAMLs laid over it (configs/ablation/).
        needs: Setting → the run of the same domain that it stands on: its checkpoint
            (`model.teacher_ckpt: teacher`), or of a `predict` run the folder that it has written
            (`data.added: palms`).
        overrides: Setting → value, for this run.
        command: `fit`, which is tested too; `predict`: palms for other runs; or `test` of a model
            that needs others' weights and writes tables of its own. The last two are in no table.
        tested: Whether a `fit` is; if not, it trains what other runs need, and is in no table.
    """

    config: str
    layers: list[str] = field(default_factory=list)
    needs: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    command: Literal["fit", "predict", "test"] = "fit"
    tested: bool = True

    @property
    def is_judged(self) -> bool:
        """Whether it is a recogniser of the table."""
        return self.command == "fit" and self.tested


@dataclass
class StudySpec:
    """A study's YAML.

    Attributes:
        name: Runs are kept in `lightning_logs/<name>/<domain>/<run>`.
        runs: The columns of the table, in the order in which they are trained.
        domains: The rows. None: each run is a line of the table and says itself what it trains and
            tests on.
        baseline: The run with which the others are compared, palm by palm (without domains).
        title: Of the table.
        reference: A YAML with the paper's numbers, or null.
        checkpoint: Which one is tested: `last` (a fixed number of steps, as the paper) or `best`.
        notes: What a reader must know, below the table (without domains).
        overrides: Setting → value, for all runs that are trained and tested.
    """

    name: str
    runs: dict[str, RunSpec]
    domains: list[str] = field(default_factory=list)
    baseline: str | None = None
    title: str = ""
    reference: str | None = None
    checkpoint: str = "last"
    notes: list[str] = field(default_factory=list)
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class Planned:
    """One run of the plan.

    Attributes:
        domain: Its row; empty where the study has none.
        run: Its column.
        folder: Where it is kept.
        arguments: Of `train.py`, but for what it takes of other runs.
        needs: Setting → the run that it stands on.
        checkpoint: Which one of a run is taken.
        digest: Of all that decides its result but the code: arguments, YAML, the runs it needs.
        generated: The folder that a `predict` run writes; None: this one is trained.
        is_judged: Whether it is tested, and in the table.
    """

    domain: str
    run: str
    folder: Path
    arguments: list[str]
    needs: dict[str, Planned]
    checkpoint: str
    digest: str
    generated: Path | None = None
    is_judged: bool = True

    @property
    def label(self) -> str:
        """What the user calls it."""
        return f"{self.domain}/{self.run}" if self.domain else self.run

    @property
    def version(self) -> Path | None:
        """The folder of the Lightning run, or of palms, that ended with these settings, if any."""
        version = read_marker(self).get("version")
        if version is None or (self.generated is not None and not Path(version).is_dir()):
            return None
        return Path(version)

    def command(self) -> list[str]:
        """All arguments of `train.py`."""
        return self.arguments + [f"--{s}={self._taken(s, o)}" for s, o in self.needs.items()]

    def _taken(self, setting: str, other: Planned) -> str:
        if other.generated is not None:
            folder = str(other.generated)
            return json.dumps([folder]) if setting.endswith(".added") else folder
        return f"{(other.version or other.folder) / 'checkpoints' / self.checkpoint}.ckpt"


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
    _check_baseline(spec, path)
    return spec


def _check_baseline(spec: StudySpec, path: str) -> None:
    trained = [name for name, run in spec.runs.items() if run.is_judged]
    if spec.baseline is not None and (spec.domains or spec.baseline not in trained):
        raise ConfigError(
            f"study: {path}: baseline {spec.baseline!r} must be a run that is trained "
            f"({', '.join(trained)}), in a study without domains"
        )
    if spec.reference is not None and not spec.domains:
        raise ConfigError(f"study: {path}: reference goes by domain, and this study has no domains")


def make_plan(spec: StudySpec, logs: str = "lightning_logs") -> list[Planned]:
    """The runs in the order in which they are trained: domain by domain."""
    plan: list[Planned] = []
    for domain in spec.domains or [""]:
        row: dict[str, Planned] = {}
        for name, run in spec.runs.items():
            needs = {setting: row[other] for setting, other in run.needs.items()}
            row[name] = _plan_run(spec, domain, name, needs, logs)
            plan.append(row[name])
    return plan


def _plan_run(
    spec: StudySpec, domain: str, name: str, needs: dict[str, Planned], logs: str
) -> Planned:
    run, experiment = spec.runs[name], "/".join(filter(None, (spec.name, domain, name)))
    files = [run.config, *run.layers]
    settings: dict[str, Any] = {"data.domains": f"[{domain}]"} if domain else {}
    settings |= (spec.overrides if run.is_judged else {}) | run.overrides
    if logs != "lightning_logs":
        settings["trainer.logger.init_args.save_dir"] = logs
    arguments = [run.command, *(f"--config={file}" for file in files), f"--name={experiment}"]
    arguments += [f"--test_ckpt={spec.checkpoint}"] if run.is_judged else []
    arguments += [f"--{key}={text(value)}" for key, value in settings.items()]
    try:
        contents = [Path(file).read_text(encoding="utf-8") for file in files]
    except OSError as error:
        raise ConfigError(f"study: run {name!r}: {error}") from error
    parts = [arguments, contents, [other.digest for other in needs.values()]]
    if run.command == "predict":
        parts.append(_file_digests(settings))
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    folder, generated = Path(logs) / experiment, None
    if run.command == "predict":
        generated = Path(settings.get("data.out", f"{GENERATED}/{experiment}-{digest[:8]}"))
        arguments += [] if "data.out" in settings else [f"--data.out={generated}"]
    return Planned(
        domain, name, folder, arguments, needs, spec.checkpoint, digest, generated, run.is_judged
    )


def _file_digests(settings: dict[str, Any]) -> list[str]:
    """Of the weights that generate: palms of others must not be taken for theirs."""
    paths = [Path(value).expanduser() for value in settings.values() if isinstance(value, str)]
    return [file_digest(path) for path in paths if path.is_file()]


def read_marker(item: Planned) -> dict[str, Any]:
    """What an earlier try with the same settings left; empty if there was none."""
    path = item.folder / MARKER_NAME
    marker = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return marker if marker.get("digest") == item.digest else {}


def write_marker(item: Planned, marker: dict[str, Any]) -> None:
    """Notes how far a run is."""
    with write_aside(item.folder / MARKER_NAME) as aside:
        aside.write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
