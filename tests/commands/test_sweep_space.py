"""What of a wandb sweep file Optuna can draw, and what is refused by its key."""

from __future__ import annotations

import math
from pathlib import Path
from subprocess import CompletedProcess

import optuna
import pytest
import yaml
from conftest import ROOT

from palmforge.commands import sweep_command
from palmforge.commands.sweep_command import check_command, check_metric, command_line
from palmforge.commands.sweep_file import read_sweep
from palmforge.commands.sweep_space import draw, grid, read_space, values_of
from palmforge.commands.sweep_study import grid_size
from palmforge.errors import ConfigError

BASE = {
    "program": "train.py",
    "method": "random",
    "metric": {"name": "val/eer", "goal": "minimize"},
    "command": ["${env}", "${interpreter}", "${program}", "fit", "--config=x.yaml", "${args}"],
    "parameters": {"model.lr": {"min": 0.1, "max": 0.5}},
}


def drawn(spec: dict, times: int = 200) -> list:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    space = read_space({"x": spec})
    return [draw(space, study.ask())[("x",)] for _ in range(times)]


@pytest.fixture
def sweep_file(tmp_path):
    def write(**changes) -> str:
        content = {k: v for k, v in {**BASE, **changes}.items() if v is not None}
        path = tmp_path / "tried.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("spec", "kind", "low", "high"),
    [
        ({"min": 1, "max": 4}, int, 1, 4),
        ({"distribution": "int_uniform", "min": 1, "max": 4}, int, 1, 4),
        ({"min": 0.5, "max": 2.0}, float, 0.5, 2.0),
        ({"distribution": "uniform", "min": 0, "max": 2}, float, 0, 2),
        ({"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}, float, 1e-4, 1e-1),
        ({"distribution": "inv_log_uniform_values", "min": 0.1, "max": 10}, float, 0.1, 10),
        ({"distribution": "q_uniform", "min": 10, "max": 50, "q": 10}, int, 10, 50),
        ({"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25}, float, 0, 1),
        ({"distribution": "q_log_uniform_values", "min": 8, "max": 512, "q": 8}, int, 8, 512),
    ],
)
def test_numbers_lie_in_their_range_and_are_of_their_kind(spec, kind, low, high):
    values = drawn(spec)
    assert all(type(value) is kind and low <= value <= high for value in values)
    if q := spec.get("q"):
        assert all(abs(value / q - round(value / q)) < 1e-9 for value in values)
    if kind is int and high - low < 10:
        assert set(values) == set(range(low, high + 1))
    if "log" in spec.get("distribution", ""):  # half of them below the geometric mean
        share = sum(value < math.sqrt(low * high) for value in values) / len(values)
        assert 0.35 < share < 0.65


def test_choices_may_be_lists_and_constants_are_not_drawn():
    choices = [["s"], ["s", "m"], None]
    assert {str(value) for value in drawn({"values": choices})} == {str(c) for c in choices}
    assert set(drawn({"values": [1, "a", True, None]})) == {1, "a", None}
    study = optuna.create_study()
    trial = study.ask()
    assert draw(read_space({"x": {"value": 3}}), trial) == {("x",): 3}
    assert trial.params == {}


def test_a_kept_trial_gives_its_values_again():
    parameters = {
        "a": {"values": [[1], [2]]},
        "b": {"distribution": "q_log_uniform_values", "min": 1, "max": 99, "q": 3},
        "c": {"parameters": {"d": {"min": 0.0, "max": 1.0}, "e": {"value": "x"}}},
    }
    space, study = read_space(parameters), optuna.create_study()
    trial = study.ask()
    assert values_of(space, draw(space, trial) and trial.params) == draw(space, trial)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"parameters": {"model.lr": {"distribution": "normal"}}}, "parameters.model.lr: normal"),
        ({"parameters": {"n": {"parameters": {"b": {"distribution": "beta"}}}}}, "n.b: beta"),
        (
            {"parameters": {"a": {"values": [1, 2], "probabilities": [0.5, 0.5]}}},
            "parameters.a: .*probabilities",
        ),
        ({"parameters": {"a": {"min": 2, "max": 1}}}, "parameters.a: min 2 is not less"),
        ({"parameters": {"a": {"min": 2}}}, "parameters.a: .*none of wandb's forms"),
        ({"parameters": {"a": {"values": [1], "oops": 1}}}, "parameters.a"),
        ({"method": "annealing"}, "method"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate"),
        (
            {"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 2.5}},
            "early_terminate.eta",
        ),
        (
            {"early_terminate": {"type": "hyperband", "min_iter": 1, "strict": False}},
            "early_terminate.strict",
        ),
        ({"metric": {"name": "val/eer", "impute": "worst"}}, "metric.impute"),
        ({"metric": None}, "metric is missing"),
        ({"runcap": 3}, "runcap"),
        ({"job": "a job"}, "job: "),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(sweep_file, changes, named):
    with pytest.raises(ConfigError, match=named):
        read_sweep(sweep_file(**changes))


def test_a_grid_has_an_end(sweep_file):
    parameters = {"a": {"values": [[1], [2]]}, "b": {"min": 1, "max": 3}, "c": {"value": 1}}
    spec = read_sweep(sweep_file(method="grid", parameters=parameters))
    assert grid(spec.space) == {"a": ["[1]", "[2]"], "b": [1, 2, 3]}
    assert grid_size(spec) == 6
    with pytest.raises(ConfigError, match=r"parameters\.model\.lr: a grid needs"):
        grid_size(read_sweep(sweep_file(method="grid")))


def test_the_command_is_that_of_wandbs_own_agent(sweep_file, monkeypatch):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    monkeypatch.setenv("ROOT", "/data")
    command = ["${interpreter}", "${program}", "fit", "--data.root=${envvar:ROOT}", "${args}"]
    values = {
        ("model.lr",): 1e-05, ("flag",): False, ("n", "x"): 2, ("n", "y"): None,
        ("domains",): ["IF"],
    }  # fmt: skip
    spec = read_sweep(sweep_file(command=command), {"trainer.devices": "2"})
    nested = {"model.lr": 1e-05, "flag": False, "n": {"x": 2, "y": None}, "domains": ["IF"]}
    theirs = create_sweep_command_args({"args": {k: {"value": v} for k, v in nested.items()}})
    fixed = create_sweep_command(list(command))[2:4]
    ours = command_line(spec, values)
    assert ours[1:] == ["train.py", *fixed, *theirs["args"], "--trainer.devices=2"]
    monkeypatch.delenv("ROOT")
    with pytest.raises(ConfigError, match="variable ROOT is not set"):
        command_line(spec, values)
    with pytest.raises(ConfigError, match="args_json"):
        command_line(read_sweep(sweep_file(command=["${args_json}"])), values)


@pytest.mark.parametrize(
    ("changes", "config", "reason"),
    [
        ({"metric": {"name": "eer"}}, {}, "no metric of a run"),
        ({"metric": {"name": "test/eer"}}, {"test_ckpt": None}, "--test_ckpt"),
        ({}, {"trainer": {"limit_val_batches": 0}}, "limit_val_batches"),
        ({}, {"trainer": {"logger": False}}, "CSVLogger"),
        ({"command": ["${program}", "test", "${args}"]}, {}, "not written by test"),
    ],
)
def test_a_metric_that_no_trial_can_write_is_refused(sweep_file, changes, config, reason):
    with pytest.raises(ConfigError, match=r"metric\.name.*" + reason):
        check_metric(read_sweep(sweep_file(**changes)), config)


@pytest.fixture
def asked(cli, capsys, monkeypatch):
    """`--print_config` in this process: starting another takes ten seconds."""

    def ask(line: list[str]) -> CompletedProcess[str]:
        words = line[line.index("train.py") + 1 :]
        with pytest.raises(SystemExit) as stop:
            cli(*words, "--print_config")
        told = capsys.readouterr()
        return CompletedProcess(line, int(stop.value.code or 0), told.out, told.err)

    monkeypatch.setattr(sweep_command, "_print_config", ask)
    monkeypatch.setenv("TEACHER", "teacher.ckpt")
    Path("train.py").symlink_to(ROOT / "train.py")


@pytest.mark.parametrize("path", sorted(p.name for p in (ROOT / "configs/sweep").glob("*.yaml")))
def test_the_sweeps_of_the_house_are_wandbs_and_the_programs(asked, path):
    spec = read_sweep(f"configs/sweep/{path}")  # by wandb's own schema
    config = check_command(spec)
    assert check_metric(spec, config) == "lightning_logs"
    assert grid_size(spec) or spec.run_cap


@pytest.mark.parametrize(
    ("key", "spec"),
    [
        ("model.init_args.learning_rate", {"min": 0.1, "max": 0.2}),
        ("model.init_args.num_bits", {"values": [64, "many"]}),
        ("trainer.max_step", {"value": 3}),
    ],
)
def test_a_setting_that_the_experiment_does_not_take_is_refused_by_its_key(
    asked, sweep_file, key, spec
):
    command = [*BASE["command"][:4], "--config=configs/experiment/dhn_student.yaml", "${args}"]
    parameters = {"model.init_args.lr": {"min": 1e-4, "max": 1e-3}, key: spec}
    with pytest.raises(ConfigError, match=f"parameters.{key}: train.py does not take it"):
        check_command(read_sweep(sweep_file(command=command, parameters=parameters)))
