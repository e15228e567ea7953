"""Both palm finders train through the command line, and say how well."""

from __future__ import annotations

import csv

import pytest
import torch
from hands import write_hands

from palmforge.modules.landmarks import PalmDetectorModule, PalmLandmarksModule
from palmforge.networks.landmarks import expected_points

TINY = [
    "--model.widths=[8,8,16,16]", "--model.depths=[1,1,1,1]", "--model.neck=16",
    "--model.warmup_steps=2", "--data.image_size=64", "--data.num_workers=0",
    "--data.identities_per_batch=4", "--data.fractions=[0.5,0.25,0.25]",
    "--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.max_steps=4",
    "--trainer.val_check_interval=1.0", "--trainer.check_val_every_n_epoch=1",
    "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return str(write_hands(tmp_path_factory.mktemp("hands")))


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("palm_detector", {"val/found", "val/iou", "train/centre_loss", "train/up_loss"}),
        ("palm_landmarks", {"val/present_right", "train/heat_loss", "train/point_loss"}),
    ],
)
def test_a_short_fit_logs_what_counts_and_leaves_a_checkpoint(cli, logs, root, name, keys):
    cli("fit", f"--config=configs/experiment/{name}.yaml", *TINY, f"--data.root={root}")
    folder = logs / name / "version_0"
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert keys <= set(rows[0])
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 4
    assert content["hyper_parameters"]["image_size"] == 64
    assert (folder / "figures" / "first_batch.png").is_file()


def test_the_detector_learns_one_batch_by_heart():
    torch.manual_seed(0)
    module = PalmDetectorModule(widths=(8, 16, 32, 32), neck=16, channels_last=False)
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    palms = torch.tensor([[[30.0, 26, 16, 0, -1, 1, 1]], [[40.0, 40, 24, 1, 0, 0, 1]]])
    losses = _overfit(module, {"image": images, "palms": palms}, steps=60)
    assert losses[-1] < 0.15 * losses[0]
    module.eval().requires_grad_(False)
    module.validation_step({"image": images, "palms": palms}, 0)
    assert module._seen["found"] == [1.0, 1.0]


def test_the_landmark_network_learns_one_batch_by_heart():
    torch.manual_seed(0)
    module = PalmLandmarksModule(
        image_size=64, widths=(8, 16, 32, 32), depths=(1, 1, 1, 1), neck=32, channels_last=False
    )
    batch = {
        "image": torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8),
        "points": 10 + 44 * torch.rand(2, 35, 2),
        "weight": torch.ones(2, 35),
        "visible": torch.ones(2, 35),
        "present": torch.ones(2),
        "mirrored": torch.tensor([0.0, 1.0]),
    }
    losses = _overfit(module, batch, steps=80)
    assert losses[-1] < 0.5 * losses[0]  # the heat maps' entropy stays
    with torch.no_grad():
        output = module(module.images(batch))
    assert (expected_points(output.heat) - batch["points"]).abs().mean() < 4
    assert (output.mirrored > 0).tolist() == [False, True]


def test_crops_without_a_palm_do_not_teach_points():
    module = PalmLandmarksModule(image_size=64, widths=(8, 8, 8, 8), depths=(1, 1, 1, 1), neck=8)
    module.log_losses = lambda losses: losses  # type: ignore[method-assign,assignment,return-value]
    losses = module.training_step(
        {
            "image": torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
            "points": torch.zeros(2, 35, 2),
            "weight": torch.zeros(2, 35),
            "visible": -torch.ones(2, 35),
            "present": torch.zeros(2),
            "mirrored": torch.zeros(2),
        },
        0,
    )
    assert all(losses[name] == 0 for name in ("heat", "point", "visible", "mirrored"))
    assert losses["present"] > 0


def _overfit(module, batch, steps: int) -> list[float]:
    kept: list[float] = []

    def keep(losses):
        total = torch.stack(list(losses.values())).sum()
        kept.append(total.item())
        return total

    module.log_losses = keep
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    for step in range(steps):
        optimizer.zero_grad()
        module.training_step(batch, step).backward()
        optimizer.step()
    return kept
