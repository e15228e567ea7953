"""The method does what it is for."""

from __future__ import annotations

import pytest
import torch

from palmforge.callbacks.evaluation_report import read_results


@pytest.fixture
def train(cli, tiny_data, logs):
    """Trains on 3 images of each of 8 palms, tests on 4; returns the test's figures."""

    def run(experiment: str, *settings: str) -> dict[str, float]:
        cli(
            "fit", f"--config=configs/experiment/{experiment}.yaml", *tiny_data,
            "--data.train_images=3", "--data.images_per_identity=3", "--data.augmented_views=2",
            "--model.warmup_steps=10", "--trainer.val_check_interval=1000",
            "--trainer.num_sanity_val_steps=0", "--test_ckpt=last", *settings,
        )  # fmt: skip
        return read_results(logs / experiment / "version_0" / "results.json")[0]

    return run


@pytest.mark.slow
def test_a_distilled_student_beats_the_student_alone(train, logs):
    cache = "--model.feature_cache_dir=features"
    teacher = train("dhn_teacher", "--trainer.max_steps=80", cache)
    alone = train("dhn_student", "--trainer.max_steps=150")
    checkpoint = logs / "dhn_teacher/version_0/checkpoints/last.ckpt"
    taught = train(
        "dhn_distilled", "--trainer.max_steps=150", f"--model.teacher_ckpt={checkpoint}", cache
    )
    assert teacher["test/eer"] < alone["test/eer"]
    assert taught["test/eer"] < alone["test/eer"] - 0.05
    assert taught["test/accuracy"] > alone["test/accuracy"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_in_bf16_and_tests(train):
    gpu = ["--trainer.accelerator=gpu", "--trainer.devices=1", "--trainer.precision=bf16-mixed"]
    figures = train("dhn_teacher", "--trainer.max_steps=80", "--model.channels_last=true", *gpu)
    assert figures["test/eer"] < 0.2
