"""What a sweep leaves: every trial as CSV, the best as a config, plots as HTML and PNG."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palmforge.commands.sweep_command import resolved_config
from palmforge.commands.sweep_file import Sweep
from palmforge.commands.sweep_space import values_of
from palmforge.commands.sweep_study import first_try
from palmforge.data.atomic import write_aside

if TYPE_CHECKING:
    import optuna

_PLOTS = ("history", "importance", "parallel")


def write_trials(study: optuna.Study, sweep: Sweep, path: Path) -> None:
    """One line a trial: state, value, parameters, seconds, run, error, and whose further try it is.

    Args:
        study: The study.
        sweep: Whose parameters are the columns.
        path: The CSV file.
    """
    keys = [parameter.key for parameter in sweep.space if parameter.kind != "constant"]
    columns = ["trial", "state", sweep.metric, *keys, "seconds", "run", "error", "try_again_of"]
    with write_aside(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for trial in study.trials:
            first = first_try(trial)
            writer.writerow({
                "trial": trial.number,
                "state": trial.state.name.lower(),
                sweep.metric: trial.value,
                **_decoded(sweep, trial),
                "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
                "run": trial.user_attrs.get("run"),
                "error": trial.user_attrs.get("error"),
                "try_again_of": first if first != trial.number else None,
            })  # fmt: skip


def _decoded(sweep: Sweep, trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    return {p.key: p.decode(trial.params[p.key]) for p in sweep.space if p.key in trial.params}


def best_trial(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """The best of those that are complete; None: there is none."""
    try:
        return study.best_trial
    except ValueError:
        return None


def write_best(study: optuna.Study, sweep: Sweep, path: Path) -> None:
    """The whole config of the best trial; nothing if there is none.

    Args:
        study: The study.
        sweep: The sweep, with what the user has laid over it.
        path: The YAML; its header says where it comes from.
    """
    trial = best_trial(study)
    if trial is None:
        return
    drawn = "".join(f"#   {key}: {value}\n" for key, value in _decoded(sweep, trial).items())
    header = (
        f"# The best of sweep {sweep.name} ({sweep.path}): trial {trial.number}, "
        f"{sweep.metric} {trial.value:.6g}, {trial.user_attrs.get('run')}\n{drawn}"
    )
    with write_aside(path) as aside:
        config = resolved_config(sweep, values_of(sweep.space, trial.params))
        aside.write_text(header + config, encoding="utf-8")


def write_plots(study: optuna.Study, sweep: Sweep, out: Path) -> list[str]:
    """history, importance and parallel as PNG, and all three in plots.html, which needs no network.

    Args:
        study: The study.
        sweep: Whose metric is drawn.
        out: The folder.

    Returns:
        What could not be drawn, and why: two complete trials are the least.
    """
    import optuna
    from optuna import visualization
    from optuna.visualization import matplotlib as pictures

    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    done = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(done) < 2:
        return [f"{name}: {len(done)} complete trials" for name in _PLOTS]
    ways: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "history": (visualization.plot_optimization_history, pictures.plot_optimization_history),
        "importance": (visualization.plot_param_importances, pictures.plot_param_importances),
        "parallel": (visualization.plot_parallel_coordinate, pictures.plot_parallel_coordinate),
    }
    study = _with_short_names(study)
    figures, missing = [], []
    for name, (interactive, still) in ways.items():
        try:
            figure = interactive(study, target_name=sweep.metric)
            _save(still(study, target_name=sweep.metric), out / f"{name}.png")
        except (ValueError, RuntimeError) as error:  # one value for all: nothing is important
            missing.append(f"{name}: {error}")
            continue
        figures.append(figure)
    if figures:
        _write_page(figures, sweep, out / "plots.html")
    return missing


def _with_short_names(study: optuna.Study) -> optuna.Study:
    """A copy for plots, which cut names: `lr` for `model.init_args.lr`, where that is one alone."""
    import optuna

    trials = study.get_trials()
    names = {name for trial in trials for name in trial.params}
    last = Counter(name.rpartition(".")[2] for name in names)
    short = {n: tail if last[tail := n.rpartition(".")[2]] == 1 else n for n in names}
    copy = optuna.create_study(direction=study.direction)
    for trial in trials:
        trial.params = {short[name]: value for name, value in trial.params.items()}
        trial.distributions = {short[name]: kind for name, kind in trial.distributions.items()}
        copy.add_trial(trial)
    return copy


def _save(axes: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure = axes.figure
    figure.set_size_inches(9, 5)
    try:
        with write_aside(path) as aside:
            figure.savefig(aside, dpi=110, bbox_inches="tight")
    finally:
        pyplot.close(figure)


def _write_page(figures: list[Any], sweep: Sweep, path: Path) -> None:
    """plotly.js (4.6 MB) stands in the page once."""
    parts = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0)
        for number, figure in enumerate(figures)
    ]
    title = f"{sweep.name}: {sweep.metric}"
    with write_aside(path) as aside:
        aside.write_text(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{title}</title></head>\n<body><h1>{title}</h1>\n" + "\n".join(parts) + "\n"
            "</body></html>\n",
            encoding="utf-8",
        )
