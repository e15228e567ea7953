"""Whole runs of the identity generator: cut and resumed, divided, killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml
from generators import SIZE, TWO, base, generator, palms, ready, trainer
from runs import assert_same_bits, in_a_process, kill_at_step, load
from torch.multiprocessing.spawn import ProcessExitedException

from palmforge.callbacks import CacheLatents, LastCheckpoint, StepSeed, WeightEMA
from palmforge.modules.identity_generator import IdentityGenerator
from palmforge.networks.lora import LoraSettings

STEPS = 7


def fit(root: str, folder: Path, *, cached: bool, every: int, **settings) -> None:
    """From where it stopped; 4 batches an epoch."""
    last = folder / "checkpoints" / "last.ckpt"
    callbacks = [WeightEMA(0.9), LastCheckpoint(every_n_train_steps=every)]
    callbacks += [CacheLatents(str(folder / "cache"))] if cached else []
    lora = LoraSettings(rank=2, dropout=0.2, text_encoder=not cached)
    data = palms(root, protocol="first_five", caption_dropout=0.5)
    module = generator(lora=lora, warmup_steps=2)
    trainer(
        None, *callbacks, default_root_dir=folder, max_steps=STEPS, **settings
    ).fit(module, data, ckpt_path=str(last) if last.exists() else None)  # fmt: skip


@pytest.mark.parametrize(
    ("cached", "every", "settings"),
    [(True, 2, {}), (False, 1, {"accumulate_grad_batches": 2}), (True, 2, TWO)],
    ids=["cached", "accumulated", "two"],
)
def test_a_run_that_is_killed_twice_ends_with_the_bits_of_one_that_was_not(
    palms_root, tmp_path, monkeypatch, cached, every, settings
):
    """Amid an epoch and at the end of one."""

    def run(name: str, die_at: int | None = None) -> None:
        if die_at is not None:
            kill_at_step(die_at)
        fit(palms_root, tmp_path / name, cached=cached, every=every, **settings)

    run("whole")
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    for die_at in (3, 5):
        if settings == TWO:  # its processes are killed; a fork of a fork CUDA may forbid
            with monkeypatch.context() as patch:
                patch.setattr(StepSeed, "on_train_batch_start", StepSeed.on_train_batch_start)
                with pytest.raises(ProcessExitedException):
                    run("cut", die_at)
        else:
            assert in_a_process(run, "cut", die_at) != 0
        assert load(last)["global_step"] == die_at // every * every
    run("cut")
    whole, cut = load(tmp_path / "whole/checkpoints/last.ckpt"), load(last)
    assert cut["global_step"] == STEPS
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_same_bits(whole[part], cut[part], part)
    assert whole["callbacks"]["WeightEMA"]["num_updates"] == STEPS
    assert_same_bits(whole["callbacks"]["WeightEMA"], cut["callbacks"]["WeightEMA"], "EMA")


@pytest.fixture
def config(tmp_path, palms_root) -> str:
    """An experiment as YAML, for the command line."""
    model = {
        "class_path": "IdentityGenerator",
        "init_args": {
            "pretrained_model_name_or_path": base(), "lora": {"rank": 4, "alpha": 4.0},
            "num_inference_steps": 2, "guidance_scale": 2.0, "warmup_steps": 0,
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
            "lr_schedule": "linear",
        },
    }  # fmt: skip
    data = {
        "class_path": "GenerationDataModule",
        "init_args": {
            "root": palms_root, "cache_dir": str(Path(palms_root).parent / "roi_cache"),
            "image_size": SIZE, "roi": {"size": 40}, "fractions": [0.5, 0.25, 0.25],
            "domains": ["IF"], "batch_size": 2, "eval_batch_size": 3, "num_workers": 0,
            "num_identities": 8,
        },
    }  # fmt: skip
    callbacks = [
        {"class_path": "WeightEMA"},
        {"class_path": "CacheLatents", "init_args": {"directory": str(tmp_path / "cache")}},
        {"class_path": "LastCheckpoint"},
        {"class_path": "RunReport"},
        {"class_path": "ImageWriter"},  # the last one: --trainer.callbacks.directory is its
    ]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = {"callbacks": callbacks, "max_steps": 3, "num_sanity_val_steps": 0, **quiet}
    path = tmp_path / "experiment.yaml"
    path.write_text(
        yaml.safe_dump({"name": "tiny", "model": model, "data": data, "trainer": trainer})
    )
    return f"--config={path}"


def content(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_a_training_by_the_command_line_generates(cli, config, logs, tmp_path):
    cli("fit", config, "--trainer.precision=bf16-mixed")
    checkpoint = load(logs / "tiny/version_0/checkpoints/last.ckpt")
    assert checkpoint["global_step"] == 3
    assert all("lora_" in name for name in checkpoint["state_dict"])
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.0)
    assert (tmp_path / "cache").is_dir()
    cli("predict", config, "--ckpt_path=last", "--return_predictions=false")
    (manifest,) = logs.rglob("manifest.parquet")
    assert len(list(manifest.parent.glob("*/000.png"))) == 8


def test_generated_sets_are_equal_for_two_processes_and_after_a_kill(
    cli, config, tmp_path, palms_root
):
    one = trainer(None)
    one.strategy.connect(ready())
    one.save_checkpoint(tmp_path / "trained.ckpt")

    def predict(name: str, *settings: str) -> None:
        cli(
            "predict", config, f"--ckpt_path={tmp_path / 'trained.ckpt'}",
            "--return_predictions=false", f"--trainer.callbacks.directory={tmp_path / name}",
            "--data.root=/there/is/no/such/folder", *settings,
        )  # fmt: skip

    def predict_and_die() -> None:
        sample = IdentityGenerator.sample
        calls: list[int] = []

        def sample_or_die(self, prompts, seeds):
            calls.append(1)
            if len(calls) == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return sample(self, prompts, seeds)

        IdentityGenerator.sample = sample_or_die
        predict("killed")

    predict("one")
    predict("two", "--trainer.devices=2", "--trainer.strategy=ddp_fork")
    assert in_a_process(predict_and_die) == -signal.SIGKILL
    assert 0 < len(list((tmp_path / "killed").glob("*/000.png"))) < 8
    predict("killed")
    expected = content(tmp_path / "one")
    assert len(expected) == 8 + 2
    assert content(tmp_path / "two") == expected
    assert content(tmp_path / "killed") == expected
