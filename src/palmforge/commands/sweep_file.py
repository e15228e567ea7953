"""A sweep's YAML, as wandb takes it → what is swept, and how."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from palmforge.commands.sweep_space import Parameter, read_space
from palmforge.errors import ConfigError

VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")
_DEFAULT_COMMAND = ["${env}", "${interpreter}", "${program}", "${args}"]
# wandb's, of which there is nothing here. What only names or describes a sweep is passed over.
_REFUSED = {
    "metrics": "one metric is swept",
    "scheduler": "the engine is Optuna; `method` chooses its sampler",
    "job": "runs are started by `program` and `command`",
    "image_uri": "runs are started by `program` and `command`",
}


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says.

    Attributes:
        path: The file.
        name: Of the study and of its folder.
        method: grid, random or bayes.
        program: What is run.
        command: Its words, with wandb's `${...}`.
        metric: Key in `metrics.csv`.
        minimize: Whether the least is best.
        target: Of the metric: the sweep ends when a trial reaches it.
        space: What is drawn.
        early_terminate: Whom to stop; None: nobody.
        run_cap: Number of trials, if it says one.
        overrides: Setting → value, of the user, for every trial.
    """

    path: str
    name: str
    method: str
    program: str
    command: tuple[str, ...]
    metric: str
    minimize: bool
    target: float | None
    space: list[Parameter]
    early_terminate: dict[str, Any] | None = None
    run_cap: int | None = None
    overrides: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of all that decides what a trial's value means."""
        parts = [self.program, self.command, self.metric, self.minimize, self.overrides]
        parts.append([vars(parameter) for parameter in self.space])
        names = VARIABLE.findall(" ".join(self.command))
        if names:  # another teacher is another sweep
            parts.append({name: os.environ.get(name) for name in names})
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


def read_sweep(path: str, overrides: dict[str, str] | None = None) -> Sweep:
    """Reads a sweep file.

    Args:
        path: The file.
        overrides: Setting → value, for every trial.

    Raises:
        ConfigError: If wandb would not take it, or Optuna cannot do it; with the key.
    """
    content = _load(path)
    _check_schema(content, path)
    for key, reason in _REFUSED.items():
        if key in content:
            raise ConfigError(f"sweep: {path}: {key}: {reason}; `wandb agent` runs such a file")
    metric = content.get("metric") or {}
    for key in ("impute", "impute_while_running"):
        if key in metric:
            raise ConfigError(f"sweep: {path}: metric.{key}: Optuna leaves failed trials out")
    for key in ("program", "metric", "parameters"):
        if not content.get(key):
            raise ConfigError(f"sweep: {path}: {key} is missing")
    if content["method"] == "custom":
        raise ConfigError(f"sweep: {path}: method: grid, random or bayes, not custom")
    space = read_space(content["parameters"])
    early = content.get("early_terminate")
    if early is not None:
        _check_early_terminate(early, path)
    return Sweep(
        path=path,
        name=_slug(content.get("name") or Path(path).stem),
        method=content["method"],
        program=content["program"],
        command=tuple(str(word) for word in content.get("command") or _DEFAULT_COMMAND),
        metric=metric["name"],
        minimize=metric.get("goal", "minimize") == "minimize",
        target=metric.get("target"),
        space=space,
        early_terminate=early,
        run_cap=content.get("run_cap"),
        overrides=overrides or {},
    )


def _load(path: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"sweep: {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"sweep: {path} is no mapping")
    return content


def _check_schema(content: dict[str, Any], path: str) -> None:
    """By the schema of wandb's `sweeps` 0.3.0, so that a server takes the same file."""
    import jsonschema

    formats = jsonschema.FormatChecker(())
    formats.checks("float")(lambda value: isinstance(value, float))
    formats.checks("integer")(lambda value: isinstance(value, int))
    schema = json.loads(files("palmforge").joinpath("assets/sweep/schema.json").read_text("utf-8"))
    validator = jsonschema.Draft7Validator(schema, format_checker=formats)
    for error in validator.iter_errors(content):
        where = ".".join(str(part) for part in error.absolute_path)
        message = error.message
        if error.validator == "anyOf" and where.startswith("parameters."):
            message = (
                f"{json.dumps(error.instance, default=str)} is none of wandb's forms: value; "
                "values; min and max; a distribution with what it needs"
            )
        raise ConfigError(f"sweep: {path}: {where + ': ' if where else ''}{message}")


def _check_early_terminate(early: dict[str, Any], path: str) -> None:
    """Optuna's pruners take whole numbers, and know one way of being strict."""
    eta = early.get("eta", 3)
    if eta != int(eta) or eta < 2:
        raise ConfigError(
            f"sweep: {path}: early_terminate.eta: {eta}, and Optuna takes 2, 3, 4, ..."
        )
    if early.get("strict") is False:
        raise ConfigError(f"sweep: {path}: early_terminate.strict: Optuna has no lenient one")
    if "min_iter" not in early and int(early["max_iter"] / eta ** int(early["s"])) < 1:
        raise ConfigError(
            f"sweep: {path}: early_terminate.s: max_iter / eta^s is below one validation"
        )


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "sweep"
