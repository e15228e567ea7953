"""Sweeps on Optuna: workers, kills, failures, pruning, what is left in the folder."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import yaml
from conftest import ROOT

from palmforge.commands.sweep import share_gpus, sweep
from palmforge.commands.sweep_file import Sweep, read_sweep
from palmforge.commands.sweep_results import _with_short_names, write_trials
from palmforge.commands.sweep_study import begin, open_study, progress, queue_the_dead, try_again
from palmforge.commands.sweep_trials import History, Job, Worker
from palmforge.errors import ConfigError, TrainingError

State = optuna.trial.TrialState

# Stands in for train.py: a run's folder, and what can become of a run.
PROGRAM = """
import csv, os, signal, sys, time
from pathlib import Path

settings = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:] if "=" in word)
if "--print_config" in sys.argv:
    logger = "{class_path: CSVLogger, init_args: {save_dir: lightning_logs}}"
    print(f"name: student\\nmodel: {{init_args: {{lr: {settings['lr']}}}}}")
    print(f"trainer: {{max_steps: 4, logger: [{logger}]}}")
    sys.exit()
lr, mode = float(settings["lr"]), settings.get("mode", "ok")
folder = Path("lightning_logs") / settings["name"]
tries = len(list(folder.glob("version_*")))
run = folder / f"version_{tries}"
(run / "checkpoints").mkdir(parents=True)
if mode == "fails":
    sys.exit("ValueError: this one never works")
if mode == "killed" or (mode == "killed_once" and not tries):
    (run / "checkpoints/last.ckpt").touch()
    os.kill(os.getpid(), signal.SIGKILL)
if mode == "worker_killed_once" and lr == 0.3 and not tries:
    Path("orphan.txt").write_text(str(os.getpid()))
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)

def ended(number, frame):
    Path("terminated.txt").write_text(settings["name"])
    sys.exit(143)

signal.signal(signal.SIGTERM, ended)
name = settings.get("metric", "val/eer")
with (run / "metrics.csv").open("w") as file:
    writer = csv.DictWriter(file, ["step", "train/loss", name])
    writer.writeheader()
    for step in (1, 2, 3):
        writer.writerow({"step": step, "train/loss": 1.0})
        writer.writerow({"step": step, name: abs(lr - 0.3) + 0.1 / step})
        file.flush()
        if mode == "slow":
            time.sleep(60)
(run / "resumed.txt").write_text(settings.get("ckpt_path", ""))
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a sweep file over the stand-in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)

    def file(parameters: dict, **changes) -> str:
        content = {
            "name": "tried", "program": "program.py", "method": "grid",
            "metric": {"name": "val/eer", "goal": "minimize"},
            "command": ["${interpreter}", "${program}", "fit", "${args}"],
            "parameters": parameters, **changes,
        }  # fmt: skip
        Path("sweep.yaml").write_text(yaml.safe_dump(content))
        return "sweep.yaml"

    return file


def job(spec: Sweep, trials: int, storage: str = "sqlite:///study.db", **changes) -> Job:
    fast = {"poll_s": 0.05, "grace_s": 5.0}
    return Job(spec, storage, trials, "lightning_logs", "out", **{**fast, **changes})


def of_state(study: optuna.Study, state: State) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(states=(state,))


def test_two_workers_end_all_trials_though_one_is_killed_and_the_command_goes_on(
    write, capfd, monkeypatch
):
    path = write({"lr": {"values": [0.1, 0.2, 0.3]}, "mode": {"value": "worker_killed_once"}})
    monkeypatch.setattr("palmforge.commands.sweep.Job", lambda *a: Job(*a, poll_s=0.1, grace_s=5))
    sweep(path, jobs=2)
    out = Path("results/sweep/tried")
    study = open_study(read_sweep(path), f"sqlite:///{out}/study.db")
    done = of_state(study, State.COMPLETE)
    assert sorted(trial.params["lr"] for trial in done) == [0.1, 0.2, 0.3]
    (killed,) = of_state(study, State.FAIL)
    (again,) = (trial for trial in done if "failed_trial" in trial.system_attrs)
    assert again.params == killed.params == {"lr": 0.3}
    assert again.system_attrs["failed_trial"] == killed.number
    assert "its worker is gone; queued again" in capfd.readouterr().out
    with pytest.raises(ProcessLookupError):  # its program did not outlive it
        os.kill(int(Path("orphan.txt").read_text()), 0)

    rows = list(csv.DictReader((out / "trials.csv").open()))
    assert len(rows) == 4 and {row["state"] for row in rows} == {"complete", "fail"}
    best = (out / "best.yaml").read_text()
    assert yaml.safe_load(best)["model"]["init_args"]["lr"] == 0.3
    assert "val/eer 0.0333333" in best
    for name in ("history", "importance", "parallel"):
        assert (out / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    page = (out / "plots.html").read_text()
    assert page.count("Plotly.newPlot(") >= 3 and "cdn.plot.ly" not in page[:2000]

    sweep(path, jobs=1)  # nothing is left to do
    assert len(open_study(read_sweep(path), f"sqlite:///{out}/study.db").trials) == 4
    with pytest.raises(ConfigError, match="another command, metric, parameters"):
        sweep(write({"lr": {"values": [0.1, 0.2]}}))


def test_failed_trials_keep_their_error_and_do_not_end_the_sweep(write):
    spec = read_sweep(write({"lr": {"value": 0.1}, "mode": {"values": ["ok", "fails"]}}))
    Worker(job(spec, 2)).run()
    study = open_study(spec, "sqlite:///study.db")
    (failed,) = of_state(study, State.FAIL)
    assert failed.user_attrs["error"] == "status 1: ValueError: this one never works"
    assert len(of_state(study, State.COMPLETE)) == 1
    write_trials(study, spec, Path("trials.csv"))
    assert "this one never works" in Path("trials.csv").read_text()

    Path("program.py").write_text(Path("program.py").read_text().replace('"fails"', '"mended"'))
    begin(study, retry_failed=True)
    Worker(job(spec, 2)).run()
    assert len(of_state(study, State.COMPLETE)) == 2


def test_errors_in_a_row_and_a_metric_that_is_not_there_stop_all_workers(write):
    mode = {"mode": {"value": "fails"}}
    spec = read_sweep(write({"lr": {"min": 0.1, "max": 0.2}, **mode}, method="random"))
    Worker(job(spec, 9, max_failed=2)).run()
    study = open_study(spec, "sqlite:///study.db")
    assert len(study.trials) == 2
    assert "2 trials in a row failed, the last: status 1" in study.user_attrs["stopped"]
    Worker(job(spec, 9)).run()
    assert len(study.trials) == 2
    begin(study)  # the next command
    assert progress(study, spec).in_a_row == 0

    other = {"lr": {"min": 0.1, "max": 0.2}, "metric": {"value": "val/err"}}
    spec = read_sweep(write(other, method="random", name="other"))
    Worker(job(spec, 9)).run()
    study = open_study(spec, "sqlite:///study.db")
    assert len(study.trials) == 1
    assert "there are: train/loss, val/err" in study.user_attrs["stopped"]


def test_a_program_that_is_killed_goes_on_from_its_checkpoint_but_not_for_ever(write):
    spec = read_sweep(write({"lr": {"value": 0.3}, "mode": {"values": ["killed_once", "killed"]}}))
    Worker(job(spec, 2, max_retries=1)).run()
    study = open_study(spec, "sqlite:///study.db")
    (done,) = of_state(study, State.COMPLETE)
    assert (Path(done.user_attrs["run"]) / "version_1/resumed.txt").read_text() == "last"
    hopeless = [t for t in of_state(study, State.FAIL) if t.params["mode"] == "killed"]
    assert len(hopeless) == 2 and "killed from outside" in hopeless[-1].user_attrs["error"]


def test_a_bad_trial_is_ended_while_it_runs(write):
    early = {"type": "hyperband", "min_iter": 1, "eta": 2}
    parameters = {"lr": {"values": [0.3, 0.9]}, "mode": {"values": ["ok", "slow"]}}
    spec = read_sweep(write(parameters, early_terminate=early, method="random"))
    study = open_study(spec, "sqlite:///study.db")
    for lr, mode in ((0.3, "ok"), (0.9, "slow")):
        study.enqueue_trial({"lr": lr, "mode": mode})
    Worker(job(spec, 2)).run()
    good, bad = study.trials
    assert good.state == State.COMPLETE and good.value == pytest.approx(0.1 / 3)
    assert bad.state == State.PRUNED and bad.intermediate_values == {1: pytest.approx(0.7)}
    assert Path("terminated.txt").read_text().endswith("trial_0001")  # it could save its state


def test_the_trial_of_a_worker_that_is_no_more_is_found_in_a_journal_too(write):
    spec = read_sweep(write({"lr": {"values": [0.1]}}))
    study = open_study(spec, "journal:study.log")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid in (gone.pid, os.getpid()):
        trial = study.ask()
        node = os.uname().nodename
        trial.set_user_attr("owner", {"host": node, "pid": pid, "started": ""})
    assert queue_the_dead(study) == [0]
    assert [t.state for t in study.trials] == [State.FAIL, State.RUNNING, State.WAITING]
    Worker(job(spec, 1, "journal:study.log"))._one()
    assert study.trials[2].state == State.COMPLETE


def test_the_target_ends_the_sweep(write):
    metric = {"name": "val/eer", "goal": "minimize", "target": 0.5}
    spec = read_sweep(write({"lr": {"min": 0.2, "max": 0.4}}, metric=metric, method="bayes"))
    Worker(job(spec, 5)).run()
    assert len(open_study(spec, "sqlite:///study.db").trials) == 1


def test_the_history_is_that_of_all_tries_by_step(tmp_path):
    for version, rows in enumerate(["1,0.5\n2,0.4\n3,nan\n", "2,0.41\n3,0.3\n4,", ""]):
        (tmp_path / f"version_{version}").mkdir()
        (tmp_path / f"version_{version}/metrics.csv").write_text("step,val/eer\n" + rows)
    assert History(tmp_path, "val/eer").read() == [0.5, 0.41, 0.3]
    (tmp_path / "version_2/results.json").write_text('{"metrics": {"test/eer": 0.2}}')
    assert History(tmp_path, "test/eer").read() == [0.2]


def test_one_trial_without_a_finite_value_does_not_end_the_sweep(write):
    spec = read_sweep(write({"lr": {"values": [float("nan"), 0.3]}}))
    Worker(job(spec, 2)).run()
    study = open_study(spec, "sqlite:///study.db")
    (failed,) = of_state(study, State.FAIL)
    assert "no finite 'val/eer'" in failed.user_attrs["error"]
    assert len(of_state(study, State.COMPLETE)) == 1 and "stopped" not in study.user_attrs


def test_another_value_of_a_variable_in_the_command_is_another_sweep(write, monkeypatch):
    command = ["${interpreter}", "${program}", "--teacher=${envvar:TEACHER}", "${args}"]
    spec = read_sweep(write({"lr": {"values": [0.1]}}, command=command))
    monkeypatch.setenv("TEACHER", "a")
    open_study(spec, "sqlite:///study.db")
    open_study(spec, "sqlite:///study.db")
    monkeypatch.setenv("TEACHER", "b")
    with pytest.raises(ConfigError, match="value of a variable"):
        open_study(spec, "sqlite:///study.db")


def test_a_trial_that_is_queued_again_has_no_worker(write):
    path = write({"lr": {"values": [0.1]}}, method="random")
    study = open_study(read_sweep(path), "sqlite:///study.db")
    trial = study.ask()
    trial.set_user_attr("owner", "gone")
    trial.set_user_attr("kills", 1)
    study.tell(trial, state=State.FAIL)
    try_again(study, study.trials[0])
    assert study.trials[1].user_attrs == {"kills": 1}


def test_pictures_call_a_parameter_by_its_last_name_where_it_is_the_only_one(tmp_path):
    study = optuna.create_study()
    kinds = {name: optuna.distributions.FloatDistribution(0, 1) for name in ("m.lr", "a.w", "b.w")}
    for state, value in ((State.FAIL, None), (State.COMPLETE, 0.5), (State.PRUNED, 0.7)):
        study.add_trial(
            optuna.create_trial(
                state=state, value=value, params=dict.fromkeys(kinds, 0.5), distributions=kinds
            )
        )
    copy = _with_short_names(study)
    assert [trial.state for trial in copy.trials] == [State.FAIL, State.COMPLETE, State.PRUNED]
    assert copy.trials[1].params == {"lr": 0.5, "a.w": 0.5, "b.w": 0.5}
    assert study.trials[1].params.keys() == kinds.keys()


def test_workers_share_the_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5,7")
    assert share_gpus(2) == ["2,3", "5,7"]
    assert share_gpus(5) == ["2", "3", "5", "7", "2"]
    assert share_gpus(1) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert share_gpus(2) == []


def test_trials_and_program_are_asked_for(write):
    with pytest.raises(ConfigError, match="say --trials"):
        sweep(write({"lr": {"min": 0.1, "max": 0.2}}, method="random"))
    with pytest.raises(ConfigError, match=r"program: there is no 'nothing\.py'"):
        sweep(write({"lr": {"values": [0.1]}}, program="nothing.py"))


def test_a_sweep_that_is_stopped_says_so(write, monkeypatch):
    here = "palmforge.commands.sweep.supervise"
    monkeypatch.setattr(here, lambda job, jobs: Worker(job).run() or 0)
    with pytest.raises(TrainingError, match="1 trials in a row failed"):
        sweep(write({"lr": {"value": 0.1}, "mode": {"values": ["fails"]}}), max_failed=1)


@pytest.mark.slow
def test_the_real_program(tiny_data, tmp_path):
    """Three processes: is the file right, the trial, the best; then `fit` takes the best."""
    for name in ("configs", "train.py", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    content = yaml.safe_load((ROOT / "configs/sweep/teacher.yaml").read_text())
    tiny = [
        "--data.image_size=64", "--data.train_images=5", "--data.augmented_views=1",
        "--model.init_args.weights=null", "--model.init_args.width=0.0625",
        "--model.init_args.feature_cache_dir=null", "--trainer.max_steps=2",
        "--trainer.val_check_interval=1",
    ]  # fmt: skip
    content["command"] = [*content["command"][:-1], *tiny_data, *tiny, "${args}"]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    env = {**os.environ, "WANDB_MODE": "disabled"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "train.py", *words]
        return subprocess.run(
            line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=400
        )

    done = run("sweep", "sweep.yaml", "--trials=1", "--out=out")
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = csv.DictReader((tmp_path / "out/trials.csv").open())
    assert row["state"] == "complete" and 0 <= float(row["val/eer"]) <= 1
    taken = run("fit", "--config=out/best.yaml", "--print_config")
    assert taken.returncode == 0, taken.stderr
    lr = yaml.safe_load(taken.stdout)["model"]["init_args"]["lr"]
    assert lr == float(row["model.init_args.lr"])
