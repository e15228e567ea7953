"""`train.py sweep`: a wandb sweep file on Optuna, here or on many machines, without a server."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from rich.console import Console

from palmforge.commands.overrides import flat, text
from palmforge.commands.sweep_command import check_command, check_metric, command_line
from palmforge.commands.sweep_file import Sweep, read_sweep
from palmforge.commands.sweep_results import best_trial, write_best, write_plots, write_trials
from palmforge.commands.sweep_study import begin, grid_size, hidden, open_study, progress
from palmforge.commands.sweep_trials import Job, work
from palmforge.data.atomic import check_writable
from palmforge.errors import ConfigError, TrainingError

_MOST_REPLACED = 10


def sweep(
    sweep_file: str,
    trials: int | None = None,
    jobs: int = 1,
    storage: str | None = None,
    out: str | None = None,
    overrides: dict[str, Any] | None = None,
    max_failed: int = 5,
    max_retries: int = 2,
    retry_failed: bool = False,
    dry_run: bool = False,
) -> None:
    """Searches settings: runs the trials of a wandb sweep file on Optuna.

    The same command goes on where it was stopped; on further machines, with the same storage, it
    helps. The folder gets trials.csv, best.yaml (for --config), plots.html and PNGs, and what each
    trial printed.

    Args:
        sweep_file: The sweep's YAML (configs/sweep/).
        trials: Results that are wanted, of all workers and starts; null: run_cap of the file, or
            the whole grid.
        jobs: Workers on this machine; each gets its share of the GPUs.
        storage: An SQLAlchemy URL for Optuna, or journal:PATH; null: study.db (SQLite) in the
            folder.
        out: The folder; null: results/sweep/<name>.
        overrides: Settings for all trials, on top of the file's, as
            --overrides.data.root=/data/XJTU-UP.
        max_failed: So many errors in a row end the sweep.
        max_retries: How often a trial is tried again whose program was killed.
        retry_failed: Queues the trials that failed earlier again.
        dry_run: Checks the file, shows what is drawn and the command of a trial, and does nothing.
    """
    laid_over = {key: text(value) for key, value in flat(overrides or {}).items()}
    spec = read_sweep(sweep_file, laid_over)
    wanted = _wanted(spec, trials, jobs)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{spec.path}: asking {spec.program} whether it takes all that may be drawn")
    logs = check_metric(spec, check_command(spec))
    if dry_run:
        _show(spec, wanted, console)
        return
    target = Path(out or f"results/sweep/{spec.name}")
    check_writable(target, "out")
    where = storage or f"sqlite:///{target / 'study.db'}"
    study = open_study(spec, where)
    begin(study, retry_failed)
    now = progress(study, spec)
    console.print(f"{hidden(where)}: {now.ended} of {wanted} trials")
    job = Job(spec, where, wanted, logs, str(target), max_failed, max_retries, share_gpus(jobs))
    try:
        status = supervise(job, jobs) if now.remaining(wanted, grid_size(spec)) > 0 else 0
    finally:
        console.print(_summary(study, spec))
        write_trials(study, spec, target / "trials.csv")
    write_best(study, spec, target / "best.yaml")
    for missing in write_plots(study, spec, target):
        console.print(f"not drawn: {missing}")
    console.print(f"trials.csv, best.yaml, plots.html: {target}")
    if reason := study.user_attrs.get("stopped"):
        raise TrainingError(f"sweep: {reason}. See {target / 'logs'}; the same command goes on")
    if status:
        raise TrainingError(f"sweep: a worker ended with status {status}; see above")


def _wanted(spec: Sweep, trials: int | None, jobs: int) -> int:
    if jobs < 1 or (trials is not None and trials < 1):
        raise ConfigError("sweep: --trials and --jobs must be 1 or more")
    size = grid_size(spec)
    wanted = trials or spec.run_cap or size
    if wanted is None:
        raise ConfigError(f"sweep: {spec.path} has no run_cap: say --trials")
    return min(wanted, size) if size else wanted


def _show(spec: Sweep, wanted: int, console: Console) -> None:
    for parameter in spec.space:
        console.print(f"  {parameter.key}: {parameter}")
    first = {parameter.path: parameter.ends()[0] for parameter in spec.space}
    goal = "least" if spec.minimize else "most"
    console.print(f"{wanted} trials, {spec.method}, for the {goal} {spec.metric}; one of them:")
    console.print(shlex.join(command_line(spec, first)))


def share_gpus(jobs: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each worker; empty: nothing to share.

    Args:
        jobs: Workers. Where there are more than GPUs, they take turns.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        import torch

        gpus = [str(number) for number in range(torch.cuda.device_count())]
    else:
        gpus = [name.strip() for name in visible.split(",") if name.strip()]
    if not gpus or jobs == 1:
        return []
    each = len(gpus) // jobs
    if not each:
        return [gpus[number % len(gpus)] for number in range(jobs)]
    return [",".join(gpus[number * each : (number + 1) * each]) for number in range(jobs)]


def supervise(job: Job, jobs: int) -> int:
    """Starts workers, and others for those that are killed, until all have ended.

    They are spawned: they import Optuna, and nothing of torch.

    Returns:
        The status of a worker that ended with an error; 0: none.

    Raises:
        SystemExit: 130 or 143 after SIGINT or SIGTERM, when the workers have queued their trials.
    """
    before = signal.signal(signal.SIGTERM, _terminated)
    workers: list[BaseProcess] = [_start(job, number) for number in range(jobs)]
    replaced = 0
    try:
        while True:
            for number, worker in enumerate(workers):
                worker.join(0.2)
                if (worker.exitcode or 0) < 0 and replaced < _MOST_REPLACED:
                    replaced += 1
                    workers[number] = _start(job, number)
            if not any(worker.is_alive() for worker in workers):
                return max(worker.exitcode or 0 for worker in workers)
    except (KeyboardInterrupt, SystemExit) as stop:
        for worker in workers:
            worker.terminate()  # which queues the trial again
        for worker in workers:
            worker.join(job.grace_s + 30)
        raise SystemExit(getattr(stop, "code", 130)) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def _start(job: Job, number: int) -> BaseProcess:
    worker = multiprocessing.get_context("spawn").Process(target=work, args=(job, number))
    worker.start()
    return worker


def _summary(study: Any, spec: Sweep) -> str:
    now, best = progress(study, spec), best_trial(study)
    told = f"{now.ended} trials ended, {now.failed} failed, {now.waiting} are queued"
    if best is None:
        return told
    return f"{told}; best: trial {best.number}, {spec.metric} {best.value:.6g}, {best.params}"
