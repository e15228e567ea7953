"""A training of two processes that is told to stop goes on to the bits of one that was not."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from runs import STUDENT, assert_same_bits, callbacks_yaml, in_a_process, load, newest

STEPS, CUT = 11, 6  # 4 steps an epoch


@pytest.fixture
def settings(tiny_data, tmp_path):
    return [
        *STUDENT, *tiny_data, "--data.identities_per_batch=2", f"--trainer.max_steps={STEPS}",
        "--trainer.val_check_interval=1.0", "--trainer.check_val_every_n_epoch=1",
        "--trainer.num_sanity_val_steps=0", callbacks_yaml(tmp_path / "callbacks.yaml"),
    ]  # fmt: skip


@pytest.fixture
def fit(cli, settings):
    def run(name: str, *more: str, devices: int = 2) -> None:
        launcher = ["--trainer.strategy=ddp_fork"] if devices > 1 else []
        cli("fit", *settings, f"--name={name}", f"--trainer.devices={devices}", *launcher, *more)

    return run


def signal_at(step: int, number: int, ranks: tuple[int, ...], place: str = "training") -> None:
    """From now on, training processes get a signal in the middle of a step."""
    from palmforge.modules.hashing_student import HashingStudent

    hook = f"{place}_step"
    whole = getattr(HashingStudent, hook)

    def step_and_signal(self, *arguments):
        if self.trainer.global_step == step and self.global_rank in ranks:
            os.kill(os.getpid(), number)
        return whole(self, *arguments)

    setattr(HashingStudent, hook, step_and_signal)


def assert_same_end(logs: Path, whole: str, cut: str) -> None:
    one, other = (load(newest(logs / name, "last.ckpt")) for name in (whole, cut))
    assert other["global_step"] == STEPS
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_same_bits(one[part], other[part], part)
    assert_same_bits(one["loops"]["fit_loop"], other["loops"]["fit_loop"], "fit_loop")


def test_a_signal_to_any_process_stops_all_after_the_same_step(fit, logs):
    fit("whole")
    for ranks, number in (((1,), signal.SIGTERM), ((0, 1), signal.SIGTERM), ((0,), signal.SIGINT)):
        name = f"cut_{len(ranks)}_{ranks[0]}"

        def fit_and_stop(name=name, ranks=ranks, number=number):
            signal_at(CUT, number, ranks)
            fit(name)

        assert in_a_process(fit_and_stop) != 0
        assert load(newest(logs / name, "last.ckpt"))["global_step"] == CUT + 1
        fit(name, "--ckpt_path=last")
        assert_same_end(logs, "whole", name)


def test_a_signal_within_a_validation_leaves_the_validation_to_be_done_again(fit, logs):
    """After step 8, the end of an epoch; one process."""
    fit("whole", devices=1)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        name = f"cut_{number}"

        def fit_and_stop(name=name, number=number):
            signal_at(8, number, (0,), "validation")
            fit(name, devices=1)

        assert in_a_process(fit_and_stop) == 128 + number
        assert load(newest(logs / name, "last.ckpt"))["global_step"] == 8
        fit(name, "--ckpt_path=last", devices=1)
        assert_same_end(logs, "whole", name)
        first, second = (_evaluations(logs / name / f"version_{n}") for n in (0, 1))
        assert first + second == _evaluations(logs / "whole/version_0")
        assert len(first) == 1 and len(second) == 1


def _evaluations(run: Path) -> list[tuple[str, str]]:
    with (run / "metrics.csv").open() as file:
        return [(row["step"], row["val/eer"]) for row in csv.DictReader(file) if row.get("val/eer")]


def test_gradients_that_are_being_accumulated_are_not_lost(fit, logs):
    two = ["--trainer.accumulate_grad_batches=2", "--trainer.max_epochs=4"]
    fit("whole", *two, devices=1)

    def fit_and_stop():
        signal_at(3, signal.SIGTERM, (0,))
        fit("cut", *two, devices=1)

    assert in_a_process(fit_and_stop) == 143
    assert load(newest(logs / "cut", "last.ckpt"))["global_step"] == 4
    fit("cut", "--ckpt_path=last", *two, devices=1)
    whole, cut = (load(newest(logs / name, "last.ckpt")) for name in ("whole", "cut"))
    assert_same_bits(whole["state_dict"], cut["state_dict"])


# --- with what starts the processes in earnest ---


def signalling(folder: Path, to: str, name: str) -> str:
    """A file that adds `SignalOnce` to what is called back."""
    told = {"step": CUT, "to": to, "name": name, "marker": str(folder / "signalled")}
    callback = {"class_path": "signals.SignalOnce", "init_args": told}
    path = folder / "signalling.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"callbacks+": [callback]}}))
    return f"--config={path}"


def start(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs it there, where there is a `train.py`; and nothing may be left of it."""
    if not (folder / "train.py").exists():
        (folder / "train.py").symlink_to(ROOT / "train.py")
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "tests"), **environment}
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=600
    )
    left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(folder) in _text(p)]
    assert not left, [_text(p) for p in left]
    return done


def _text(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has just ended
        return ""


@pytest.mark.slow
def test_sigterm_to_the_first_of_two_processes(fit, settings, tmp_path, logs):
    """As `kill` does it to what was started: Lightning started the other one."""
    fit("whole")
    command = [
        sys.executable, "train.py", "fit", *settings, signalling(tmp_path, "parent", "SIGTERM"),
        "--name=cut", "--trainer.devices=2", "--trainer.strategy=ddp",
    ]  # fmt: skip
    stopped = start(tmp_path, *command)
    assert stopped.returncode == 143, stopped.stderr
    assert "SIGTERM: stopped after step 7; --ckpt_path last goes on" in stopped.stderr
    resumed = start(tmp_path, *command, "--ckpt_path=last")
    assert resumed.returncode == 0, resumed.stderr
    assert_same_end(logs, "whole", "cut")


@pytest.mark.slow
def test_sigterm_to_torchrun(fit, settings, tmp_path, logs):
    fit("whole")
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "train.py", "fit"]
    line += [*settings, signalling(tmp_path, "parent", "SIGTERM"), "--name=cut"]
    line += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    stopped = start(tmp_path, *line, MASTER_PORT=str(free_port()))
    assert stopped.returncode != 0
    assert load(newest(logs / "cut", "last.ckpt"))["global_step"] == CUT + 1, stopped.stderr
    resumed = start(tmp_path, *line, "--ckpt_path=last", MASTER_PORT=str(free_port()))
    assert resumed.returncode == 0, resumed.stderr
    assert_same_end(logs, "whole", "cut")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


SRUN = """#!/bin/bash
pids=()
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" & pids+=($!)
done
worst=0
for pid in "${pids[@]}"; do wait $pid; status=$?; ((status > worst)) && worst=$status; done
exit $worst
"""


@pytest.mark.slow
def test_a_slurm_job_is_queued_again_and_goes_on(fit, settings, tmp_path, logs):
    """The script itself; `srun` and `scontrol` are stand-ins, SLURM is not here."""
    fit("whole")
    bin = tmp_path / "bin"
    bin.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", '#!/bin/bash\necho "$@" >> scontrol.log\n')):
        (bin / name).write_text(text)
        (bin / name).chmod(0o755)
    preset = {"accelerator": "cpu", "precision": "32-true"}
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(preset))
    slurm = {
        "SLURM_JOB_ID": "4242", "SLURM_JOB_NAME": "cut", "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NNODES": "1", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_SUBMIT_DIR": str(tmp_path), "TRAINER": str(tmp_path / "preset.yaml"),
        "PYTHON": sys.executable, "PATH": f"{bin}:{os.environ['PATH']}",
    }  # fmt: skip
    job = ["bash", str(ROOT / "scripts/slurm.sbatch"), *settings]
    job += [signalling(tmp_path, "itself", "SIGUSR1")]
    stopped = start(tmp_path, *job, **slurm, MASTER_PORT=str(free_port()))
    assert stopped.returncode == 138, stopped.stderr
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4242\n"
    again = start(tmp_path, *job, **slurm, MASTER_PORT=str(free_port()), SLURM_RESTART_COUNT="1")
    assert again.returncode == 0, again.stderr
    assert_same_end(logs, "whole", "cut/4242")
    assert sorted(p.name for p in (logs / "cut/4242").iterdir()) == ["version_0", "version_1"]
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4242\n"
    assert not list(tmp_path.glob("hpc_ckpt*"))
