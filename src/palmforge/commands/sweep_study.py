"""The Optuna study of a sweep: where it is kept, who draws, who is stopped, whose turn it is."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import tempfile
import warnings
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from palmforge.commands.sweep_file import Sweep
from palmforge.commands.sweep_space import grid
from palmforge.errors import ConfigError

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal:"
_HEARTBEAT_S, _GRACE_S = 60, 180  # of workers on other machines
_OWNERLESS = timedelta(minutes=5)


def open_study(sweep: Sweep, storage: str) -> optuna.Study:
    """The study, made if it is not there.

    Args:
        sweep: The sweep.
        storage: An SQLAlchemy URL, or `journal:PATH`.

    Raises:
        ConfigError: If it cannot be opened, or is of another sweep.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    try:
        study = optuna.create_study(
            storage=_storage(storage),
            sampler=_sampler(sweep),
            pruner=_pruner(sweep),
            study_name=sweep.name,
            direction="minimize" if sweep.minimize else "maximize",
            load_if_exists=True,
        )
    except Exception as error:  # of any database's driver
        raise ConfigError(f"sweep: storage: {hidden(storage)} cannot be opened: {error}") from error
    known = study.user_attrs.get("digest")
    if known is None:
        study.set_user_attr("digest", sweep.digest)
        study.set_user_attr("runs", f"sweep/{sweep.name}-{secrets.token_hex(3)}")
    elif known != sweep.digest:
        raise ConfigError(
            f"sweep: {sweep.path}: {hidden(storage)} holds trials of {sweep.name!r} with another "
            "command, metric, parameters or overrides, or another value of a variable in the "
            "command. Give the file another name:, or --storage"
        )
    return study


def hidden(storage: str) -> str:
    """The storage without its password."""
    return re.sub(r"://([^:/@]*):[^@]*@", r"://\1:***@", storage)


def _storage(storage: str) -> Any:
    from optuna import storages
    from optuna.storages.journal import JournalFileBackend

    if storage.startswith(JOURNAL):
        path = Path(storage.removeprefix(JOURNAL)).expanduser()
        path.parent.mkdir(parents=True, exist_ok=True)
        return storages.JournalStorage(JournalFileBackend(str(path)))
    engine: dict[str, Any] = {"pool_pre_ping": True}
    if storage.startswith("sqlite:"):
        Path(storage.partition(":///")[2]).parent.mkdir(parents=True, exist_ok=True)
        engine = {"connect_args": {"timeout": 60}}  # while another worker writes
    return storages.RDBStorage(
        storage,
        engine_kwargs=engine,
        heartbeat_interval=_HEARTBEAT_S,
        grace_period=_GRACE_S,
        heartbeat_stale_trial_callback=try_again,
    )


def _sampler(sweep: Sweep) -> Any:
    from optuna import samplers

    if sweep.method == "grid":
        return samplers.GridSampler(grid(sweep.space), seed=0)  # one order for all workers
    if sweep.method == "random":
        return samplers.RandomSampler()
    return samplers.TPESampler(constant_liar=True)  # others are at work at the same time


def _pruner(sweep: Sweep) -> Any:
    """Hyperband of wandb: with min_iter ASHA, with max_iter and s in brackets."""
    from optuna import pruners

    early = sweep.early_terminate
    if early is None:
        return pruners.NopPruner()
    eta = int(early.get("eta", 3))
    if "min_iter" in early:
        return pruners.SuccessiveHalvingPruner(early["min_iter"], reduction_factor=eta)
    last = early["max_iter"]
    return pruners.HyperbandPruner(int(last / eta ** int(early["s"])), last, reduction_factor=eta)


def grid_size(sweep: Sweep) -> int | None:
    """How many points the grid has; None for other methods."""
    if sweep.method != "grid":
        return None
    size = 1
    for values in grid(sweep.space).values():
        size *= len(values)
    return size


def try_again(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    """Queues a trial whose run was ended from outside, with the values that it had."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    for key in ("owner", "child"):  # else it would look dead until its next worker signs it
        trial.user_attrs.pop(key, None)
    RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, trial)


def first_try(trial: optuna.trial.FrozenTrial) -> int:
    """The number of the trial of which this is a further try; its own, if it is the first."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def begin(study: optuna.Study, retry_failed: bool = False) -> None:
    """Called once by each command, before its workers: what stopped the sweep has been mended.

    Args:
        study: The study.
        retry_failed: Whether trials that failed are queued again.
    """
    from optuna.trial import TrialState

    trials = study.get_trials(deepcopy=False)
    study.set_user_attr("stopped", None)
    study.set_user_attr("since", len(trials))
    again = {n for t in trials for n in t.system_attrs.get("retry_history", [])}
    for trial in study.get_trials(states=(TrialState.FAIL,)) if retry_failed else []:
        if trial.number not in again:
            trial.user_attrs["kills"] = 0
            try_again(study, trial)


def asking_lock(study: optuna.Study, storage: str) -> FileLock:
    """Held by the one worker of this machine that draws a trial: no two draw the same."""
    name = hashlib.sha256(f"{storage} {study.study_name}".encode()).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"palmforge-sweep-{os.getuid()}-{name}.lock")


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        ended: Trials with a result: complete or pruned.
        failed: Trials with an error; tries that were killed and queued again are none.
        running: Trials at work.
        waiting: Trials that are queued.
        in_a_row: Errors since the last result, of this start of the command.
        error: The last one.
        is_reached: Whether the target of the metric is.
    """

    ended: int
    failed: int
    running: int
    waiting: int
    in_a_row: int
    error: str
    is_reached: bool

    def remaining(self, wanted: int, size: int | None) -> int:
        """Trials still to be had; 0 or less: no more.

        Args:
            wanted: Results.
            size: Of the grid; None: no grid. A point of it that fails is not tried again.
        """
        if self.is_reached:
            return 0
        left = wanted - self.ended
        return left if size is None else min(left, size - self.ended - self.failed)


def progress(study: optuna.Study, sweep: Sweep) -> Progress:
    """Of all workers."""
    from optuna.trial import TrialState as State

    trials = study.get_trials(deepcopy=False)
    again = {n for t in trials for n in t.system_attrs.get("retry_history", [])}
    of = {state: [t for t in trials if t.state == state] for state in State}
    failed = [t for t in of[State.FAIL] if t.number not in again]
    since = study.user_attrs.get("since", 0)
    ended = of[State.COMPLETE] + of[State.PRUNED]
    over = sorted(
        (t for t in ended + failed if t.number >= since),
        key=lambda trial: trial.datetime_complete or datetime.min,
    )
    in_a_row = 0
    while in_a_row < len(over) and over[-1 - in_a_row].state == State.FAIL:
        in_a_row += 1
    values = [t.value for t in of[State.COMPLETE] if t.value is not None]
    sign = 1 if sweep.minimize else -1
    return Progress(
        ended=len(ended),
        failed=len(failed),
        running=len(of[State.RUNNING]),
        waiting=len(of[State.WAITING]),
        in_a_row=in_a_row,
        error=str(over[-1].user_attrs.get("error", "killed")) if in_a_row else "",
        is_reached=sweep.target is not None
        and any(sign * value <= sign * sweep.target for value in values),
    )


def owner() -> dict[str, Any]:
    """Who is at work on a trial, so that others can see whether it still is."""
    return {"host": platform.node(), "pid": os.getpid(), "started": started(os.getpid())}


def started(pid: int) -> str:
    """Tells a process from a later one with its number; empty where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def queue_the_dead(study: optuna.Study) -> list[int]:
    """Queues the trials of workers of this machine that are no more; returns their numbers.

    Those of other machines are found by Optuna's heartbeat (not in a journal, which has none): call
    this with `asking_lock`, under which a worker signs the trial that it takes.
    """
    import optuna
    from optuna.trial import TrialState

    optuna.storages.fail_stale_trials(study)
    found = []
    for trial in study.get_trials(deepcopy=True, states=(TrialState.RUNNING,)):
        if not _is_dead(trial):
            continue
        try:
            study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            continue  # another worker was quicker
        except RuntimeError:  # it is told, and the grid is through: Study.stop outside optimize()
            pass
        try_again(study, study.trials[trial.number])
        found.append(trial.number)
    return found


def _is_dead(trial: optuna.trial.FrozenTrial) -> bool:
    signed = trial.user_attrs.get("owner")
    if signed is None:  # killed before it could sign
        begun = trial.datetime_start
        return begun is not None and datetime.now() - begun > _OWNERLESS
    if signed["host"] != platform.node():
        return False
    child = trial.user_attrs.get("child", {})
    return not any(_is_alive(one) for one in (signed, child) if one)


def _is_alive(process: dict[str, Any]) -> bool:
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return not process["started"] or started(process["pid"]) == process["started"]
