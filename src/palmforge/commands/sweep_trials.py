"""One worker of a sweep: draws a trial, runs the program, tells Optuna; and again."""

from __future__ import annotations

import csv
import ctypes
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palmforge.commands.sweep_command import command_line, subcommand
from palmforge.commands.sweep_file import Sweep
from palmforge.commands.sweep_space import draw
from palmforge.commands.sweep_study import (
    asking_lock,
    first_try,
    grid_size,
    open_study,
    owner,
    progress,
    queue_the_dead,
    started,
    try_again,
)

if TYPE_CHECKING:
    import optuna

_KILLED = {-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGTERM}
# Becomes the program, which ends with its worker: else a trial that is tried again would run twice.
_LEASH = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):
    sys.exit(143)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class TrialError(Exception):
    """The program failed: the trial is kept, with the reason."""


class TrialKilled(Exception):
    """The program was ended from outside: the trial is tried again."""


@dataclass(frozen=True)
class Job:
    """What a worker has to know.

    Attributes:
        sweep: The sweep.
        storage: Of the study.
        trials: Results that are wanted, of all workers.
        logs: Where the program's logger keeps runs.
        out: Where what the programs print is kept.
        max_failed: Errors in a row that end the sweep.
        max_retries: How often a trial whose program is killed is tried again.
        devices: CUDA_VISIBLE_DEVICES of each worker; empty: as it is.
        poll_s: Between two looks at the metrics.
        grace_s: From SIGTERM to SIGKILL.
    """

    sweep: Sweep
    storage: str
    trials: int
    logs: str
    out: str
    max_failed: int = 5
    max_retries: int = 2
    devices: list[str] = field(default_factory=list)
    poll_s: float = 1.0
    grace_s: float = 60.0


def work(job: Job, number: int = 0) -> None:
    """The whole life of a worker, in a process of its own.

    Args:
        job: What it works on.
        number: Its own, from 0.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # when the parent dies
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, _interrupt)
    with suppress(KeyboardInterrupt):
        Worker(job, number).run()


def _interrupt(number: int, frame: Any) -> None:
    for stop in (signal.SIGTERM, signal.SIGINT):  # once: the trial is being put back
        signal.signal(stop, signal.SIG_IGN)
    raise KeyboardInterrupt


class Worker:
    """Draws and runs trials until there are enough."""

    def __init__(self, job: Job, number: int = 0) -> None:
        self.job, self.sweep = job, job.sweep
        self.study = open_study(job.sweep, job.storage)
        self.lock = asking_lock(self.study, job.storage)
        self.devices = job.devices[number % len(job.devices)] if job.devices else None
        self.trial: optuna.Trial | None = None

    def run(self) -> None:
        """Until enough trials have ended, or the sweep is stopped."""
        size = grid_size(self.sweep)
        while not self.study.user_attrs.get("stopped"):
            with self.lock:
                for dead in queue_the_dead(self.study):
                    _tell(f"trial {dead}: its worker is gone; queued again")
                now = progress(self.study, self.sweep)
                left = now.remaining(self.job.trials, size)
                if now.in_a_row >= self.job.max_failed:
                    self._stop(f"{now.in_a_row} trials in a row failed, the last: {now.error}")
                    return
                if left > now.running:
                    self._one()
                    continue
            if left <= 0:
                return
            time.sleep(self.job.poll_s)  # those that run may fail, or be killed

    def _stop(self, reason: str) -> None:
        """All workers, of other machines too."""
        self.study.set_user_attr("stopped", reason)

    def _one(self) -> None:
        """Draws and runs one trial, with the lock, which is given back once it is signed."""
        self.trial = None
        try:
            self.study.optimize(self._objective, n_trials=1, catch=(TrialError, TrialKilled))
        except KeyboardInterrupt:
            if (trial := self._ended()) is not None and trial.value is None:
                try_again(self.study, trial)
            raise
        frozen = self._ended()
        assert frozen is not None
        kills = frozen.user_attrs.get("kills", 0)
        if frozen.user_attrs.get("killed") and kills <= self.job.max_retries:
            try_again(self.study, frozen)
        seconds = frozen.duration.total_seconds() if frozen.duration else 0.0
        result = f"{self.sweep.metric} {frozen.value}" if frozen.value is not None else ""
        told = frozen.user_attrs.get("error") or result
        _tell(f"trial {frozen.number}: {frozen.state.name.lower()}, {seconds:.0f} s, {told}")

    def _ended(self) -> optuna.trial.FrozenTrial | None:
        return None if self.trial is None else self.study.trials[self.trial.number]

    def _objective(self, trial: optuna.Trial) -> float:
        self.trial = trial
        earlier = trial.user_attrs.get("kills", 0)
        trial.set_user_attr("owner", owner())
        for stale in ("child", "killed", "error"):  # of an earlier try
            if trial.user_attrs.get(stale):
                trial.set_user_attr(stale, None)
        values = draw(self.sweep.space, trial)
        self.lock.release(force=True)
        number = first_try(self.study.trials[trial.number])
        name = f"{self.study.user_attrs['runs']}/trial_{number:04d}"
        folder = Path(self.job.logs) / name
        line = [*command_line(self.sweep, values), f"--name={name}"]
        is_fit = subcommand(self.sweep) == "fit"
        if is_fit and any(folder.glob("version_*/checkpoints/last.ckpt")):
            line.append("--ckpt_path=last")
        trial.set_user_attr("run", str(folder))
        trial.set_user_attr("command", shlex.join(line))
        _tell(f"trial {trial.number}: {_told(values)}")
        try:
            return self._follow(trial, line, History(folder, self.sweep.metric))
        except TrialKilled as error:
            trial.set_user_attr("killed", True)
            trial.set_user_attr("kills", earlier + 1)
            trial.set_user_attr("error", str(error))
            raise
        except TrialError as error:
            trial.set_user_attr("error", str(error))
            raise

    def _follow(self, trial: optuna.Trial, line: list[str], history: History) -> float:
        """Runs the program; tells Optuna what it has measured as it goes."""
        import optuna

        log = Path(self.job.out) / "logs" / f"trial_{trial.number:04d}.txt"
        trial.set_user_attr("log", str(log))
        child = start(line, log, self.devices, self.sweep.name)
        trial.set_user_attr("child", {"pid": child.pid, "started": started(child.pid)})
        told = 0
        try:
            is_over = False
            while not is_over:
                is_over = _has_ended(child, self.job.poll_s)  # its last values count for others
                values = history.read() if self.sweep.early_terminate is not None else []
                for value in values[told:]:
                    told += 1  # as wandb counts: validations, from 1
                    trial.report(value, told)
                    if trial.should_prune() and not is_over:
                        raise optuna.TrialPruned
        finally:
            end(child, self.job.grace_s)
        if child.returncode in _KILLED:
            raise TrialKilled("killed from outside (out of memory?)")
        if child.returncode:
            raise TrialError(f"status {child.returncode}: {_last_words(log)}")
        values = history.read()
        if not values:
            seen, missing = history.seen(), f"{self.sweep.metric!r} in {history.folder}"
            if self.sweep.metric in seen:
                raise TrialError(f"no finite {missing}")
            message = f"no {missing}; there are: {', '.join(seen) or 'none'}"
            self._stop(message)
            raise TrialError(message)
        return min(values) if self.sweep.minimize else max(values)


def start(
    line: list[str], log: Path, devices: str | None = None, group: str = ""
) -> subprocess.Popen[bytes]:
    """Starts the program in a session of its own, so that it can be ended with its children."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "WANDB_RUN_GROUP": os.environ.get("WANDB_RUN_GROUP", group)}
    if devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-c", _LEASH, str(os.getpid()), *line],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def end(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """SIGTERM, which lets a training keep its checkpoint; SIGKILL to all when that is not heard."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # what it has left behind
    child.wait()


def _has_ended(child: subprocess.Popen[bytes], seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        child.wait(seconds)
    return child.poll() is not None


class History:
    """A metric in the `metrics.csv` of all tries of a trial, as it grows.

    Args:
        folder: Of the trial: version_0, version_1, ...
        metric: Its name.
    """

    def __init__(self, folder: Path, metric: str) -> None:
        self.folder, self.metric = folder, metric

    def read(self) -> list[float]:
        """The finite values so far, in order; those of `results.json` where there are none."""
        found: dict[int, float] = {}  # by step: one that was killed may have gone back a little
        for number, row in enumerate(self._rows()):
            with suppress(ValueError, TypeError):  # empty, or half of a line
                value = float(row.get(self.metric) or "")
                if math.isfinite(value):
                    found[int(row.get("step") or number)] = value
        if found:
            return [found[step] for step in sorted(found)]
        values: list[float] = []
        for path in sorted(self.folder.glob("version_*/results.json")):
            value = json.loads(path.read_text(encoding="utf-8"))["metrics"].get(self.metric)
            values = [value] if value is not None else values
        return values

    def seen(self) -> list[str]:
        """The metrics that there are."""
        return sorted({key for row in self._rows() for key in row if key and "/" in key})

    def _rows(self) -> list[dict[str, str]]:
        rows: list[dict[str, str]] = []
        versions = sorted(
            self.folder.glob("version_*"), key=lambda path: int(path.name.split("_")[1])
        )
        for version in versions:
            with suppress(OSError), (version / "metrics.csv").open(newline="") as file:
                rows += csv.DictReader(file)
        return rows


def _last_words(log: Path) -> str:
    """The last line that names an error; else the last line."""
    lines = [s for s in log.read_text(encoding="utf-8", errors="replace").splitlines() if s.strip()]
    named = [s for s in lines if s.startswith("error:") or "Error:" in s]
    return (named or lines or ["it printed nothing"])[-1].strip()[:500]


def _told(values: dict[tuple[str, ...], Any]) -> str:
    return ", ".join(f"{'.'.join(path)}={value}" for path, value in values.items())


def _tell(line: str) -> None:
    print(line, flush=True)
