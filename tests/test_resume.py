"""A run that is killed and resumed ends with the bits of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from runs import TEACHER, assert_same_bits, callbacks_yaml, in_a_process, kill_at_step, load, newest

STEPS, CUT = 11, 6  # 4 steps an epoch, a checkpoint every 3: cut in mid-epoch and after one


@pytest.fixture
def fit(cli, tiny_data, tmp_path):
    def run(name: str, *settings: str) -> None:
        cli(
            "fit", *TEACHER, *tiny_data, f"--name={name}", "--data.identities_per_batch=2",
            f"--trainer.max_steps={STEPS}", "--trainer.val_check_interval=1.0",
            "--trainer.check_val_every_n_epoch=1", "--trainer.num_sanity_val_steps=0",
            callbacks_yaml(tmp_path / f"{name}.yaml", every_n_train_steps=3), *settings,
        )  # fmt: skip

    return run


@pytest.mark.parametrize(
    ("devices", "workers", "cached"),
    [(1, 0, False), (1, 2, False), (1, 0, True), (1, 2, True), (2, 0, False), (2, 0, True)],
)
def test_killed_and_resumed_run_ends_with_the_same_bits(
    fit, tmp_path, logs, devices, workers, cached
):
    settings = [f"--trainer.devices={devices}", f"--data.num_workers={workers}"]
    settings += ["--trainer.strategy=ddp_fork"] if devices > 1 else []
    settings += ["--model.frozen_blocks=1", "--data.augmented_views=2"] if cached else []

    def cache(name: str) -> list[str]:
        return [f"--model.feature_cache_dir={tmp_path / name}"] if cached else []

    fit("whole", *settings, *cache("cache_whole"))

    def fit_and_die():
        kill_at_step(CUT + 1)
        fit("cut", *settings, *cache("cache_cut"))

    assert in_a_process(fit_and_die) != 0
    assert load(newest(logs / "cut", "last.ckpt"))["global_step"] == CUT
    fit("cut", "--ckpt_path=last", *settings, *cache("cache_cut"))

    whole, resumed = (load(newest(logs / name, "last.ckpt")) for name in ("whole", "cut"))
    assert resumed["global_step"] == STEPS
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "fit_loop"):
        assert_same_bits(
            whole.get(part, whole["loops"].get(part)),
            resumed.get(part, resumed["loops"].get(part)),
            part,
        )


def test_a_longer_training_goes_on_from_the_end_of_a_shorter_one(fit, logs):
    constant = "--model.lr_schedule=constant"  # a cosine would end elsewhere
    fit("whole", constant)
    fit("short", constant, "--trainer.max_steps=5")
    fit("short", constant, "--ckpt_path=last")
    whole, resumed = (load(newest(logs / name, "last.ckpt")) for name in ("whole", "short"))
    assert_same_bits(whole["state_dict"], resumed["state_dict"])


@pytest.mark.slow
def test_sigterm_saves_a_checkpoint_and_exits_with_143(tiny_data, tmp_path):
    logs = tmp_path / "logs"
    command = [
        sys.executable, "train.py", "fit", *TEACHER, *tiny_data, "--name=stopped",
        f"--trainer.logger.init_args.save_dir={logs}", "--trainer.max_steps=100000",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    picture = logs / "stopped/version_0/figures/first_batch.png"
    for _ in range(600):  # drawn at the first training batch
        if picture.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    assert process.poll() is None, process.stderr.read()
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert load(logs / "stopped/version_0/checkpoints/last.ckpt")["global_step"] > 0
