"""The command line of a trial: wandb's template, filled in; and whether the program takes it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from palmforge.commands.sweep_file import VARIABLE, Sweep
from palmforge.commands.sweep_space import Parameter
from palmforge.errors import ConfigError

_SPLITS = ("train", "val", "test")
Values = dict[tuple[str, ...], Any]


def command_line(sweep: Sweep, values: Values) -> list[str]:
    """What `wandb agent` would run for these values; then what the user lays over every trial."""
    return _fill(sweep, [_nested(values)])


def _fill(sweep: Sweep, settings: list[dict[str, Any]]) -> list[str]:
    macros = {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": [sys.executable],
        "${program}": [sweep.program],
        # As wandb writes them: str(), so that a nested mapping is one setting in braces.
        "${args}": [f"--{k}={v}" for one in settings for k, v in one.items()],
        "${args_no_equals}": [
            w for one in settings for k, v in one.items() for w in (f"--{k}", str(v))
        ],
    }
    line: list[str] = []
    for word in sweep.command:
        if word in macros:
            line += macros[word]
        elif word.startswith("${") and word.endswith("}") and not VARIABLE.fullmatch(word):
            raise ConfigError(f"sweep: {sweep.path}: command: train.py takes ${{args}}, not {word}")
        else:
            line.append(VARIABLE.sub(lambda found: _variable(found[1], sweep), word))
    return line + [f"--{key}={value}" for key, value in sweep.overrides.items()]


def _variable(name: str, sweep: Sweep) -> str:
    # wandb puts the name itself where there is no such variable.
    value = os.environ.get(name)
    if value is None:
        raise ConfigError(f"sweep: {sweep.path}: command: the variable {name} is not set")
    return value


def _nested(values: Values) -> dict[str, Any]:
    """Nested parameters are one argument of the outermost key."""
    found: dict[str, Any] = {}
    for (*above, last), value in values.items():
        place = found
        for key in above:
            place = place.setdefault(key, {})
        place[last] = value
    return found


def subcommand(sweep: Sweep) -> str | None:
    """`fit`, `test` ...: the word after the program, if it is not an option."""
    words = list(sweep.command)
    after = words[words.index("${program}") + 1 :] if "${program}" in words else []
    return after[0] if after and not after[0].startswith(("-", "$")) else None


def check_command(sweep: Sweep) -> dict[str, Any]:
    """Lets the program parse, once and without running, every choice and both ends of every range.

    Later settings win, and each is checked, so that one process does for all of them.

    Returns:
        The config of a trial.

    Raises:
        ConfigError: With the parameter, if it can be told.
    """
    if not Path(sweep.program).is_file():
        raise ConfigError(f"sweep: {sweep.path}: program: there is no {sweep.program!r} here")
    settings = [_nested({p.path: value}) for p in sweep.space for value in p.ends()]
    done = _print_config(_fill(sweep, settings))
    if done.returncode:
        raise ConfigError(_refusal(sweep, done.stderr))
    config = _as_mapping(done.stdout)
    if config is None:
        raise ConfigError(
            f"sweep: {sweep.path}: {sweep.program} does not answer --print_config with a YAML: "
            "command must be one of train.py's own"
        )
    return config


def resolved_config(sweep: Sweep, values: Values) -> str:
    """The whole config of these values, as a YAML that the same subcommand takes.

    Raises:
        ConfigError: If the program does not take them.
    """
    done = _print_config(command_line(sweep, values))
    if done.returncode:
        raise ConfigError(_refusal(sweep, done.stderr))
    return done.stdout


def _print_config(line: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*line, "--print_config"], capture_output=True, text=True, check=False, timeout=600
    )


def _as_mapping(text: str) -> dict[str, Any] | None:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return content if isinstance(content, dict) else None


def _refusal(sweep: Sweep, told: str) -> str:
    """What the program says, after the parameter that it is about."""
    reason = told[told.rfind("error: ") :].removeprefix("error: ").strip() or "no reason given"
    blamed = [p for p in sweep.space if _is_about(p, reason)]
    where = f"parameters.{blamed[0].key}" if blamed else "command"
    return f"sweep: {sweep.path}: {where}: {sweep.program} does not take it: {reason}"


def _is_about(parameter: Parameter, reason: str) -> bool:
    last = re.escape(parameter.path[-1].rsplit(".", 1)[-1])
    return re.search(rf"['\"]{last}['\"]|[-.]{last}\b", reason) is not None


def check_metric(sweep: Sweep, config: dict[str, Any]) -> str:
    """Whether a trial can have written the metric when it ends.

    Args:
        sweep: The sweep.
        config: Of a trial, whole.

    Returns:
        The folder under which its logger keeps runs.

    Raises:
        ConfigError: If not.
    """
    split, command = sweep.metric.split("/")[0], subcommand(sweep)
    where = f"sweep: {sweep.path}: metric.name: {sweep.metric!r}"
    if split not in _SPLITS or split == sweep.metric:
        raise ConfigError(f"{where} is no metric of a run: train/..., val/... or test/...")
    if split == "test" and command == "fit" and config.get("test_ckpt") is None:
        raise ConfigError(
            f"{where} needs a test after the fit: add --test_ckpt=last or =best to command"
        )
    if command in ("validate", "test") and split != {"validate": "val"}.get(command, command):
        raise ConfigError(f"{where} is not written by {command}")
    if split == "test" and sweep.early_terminate is not None:
        raise ConfigError(f"{where} comes at the end: early_terminate needs a val/... metric")
    trainer = config.get("trainer") or {}
    if split == "val" and trainer.get("limit_val_batches") == 0:
        raise ConfigError(f"{where} is not written while trainer.limit_val_batches is 0")
    for logger in trainer.get("logger") or []:
        if str(logger.get("class_path")).endswith("CSVLogger"):
            return str(logger["init_args"]["save_dir"])
    raise ConfigError(f"{where} is read from metrics.csv: trainer.logger needs a CSVLogger")
