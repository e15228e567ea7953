"""Notes beside the losses are right, and taken only when it is time."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from palmforge.callbacks import RunNotes, run_notes
from palmforge.callbacks.run_notes import memory_mib, num_images


class Linear(L.LightningModule):
    """The gradient of its loss is (3, 4), whatever the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.zeros(2))
        self.frozen = torch.nn.Linear(1, 1).requires_grad_(False)
        self.part = torch.nn.Linear(2, 1, bias=False)

    def training_step(self, batch, batch_idx):
        return (self.one * torch.tensor([3.0, 4.0])).sum() + 12 * self.part.weight[0, 0]

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def clock(monkeypatch):
    """A second a look."""
    now = [0.0]

    def tick() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(run_notes.time, "perf_counter", tick)
    return now


def train(folder, notes=None, **settings) -> list[dict[str, float]]:
    """Rows of the log of 6 steps of 5 images, with a note every 2."""
    logger = CSVLogger(str(folder), name="run")
    loader = DataLoader(TensorDataset(torch.zeros(30, 2)), batch_size=5)
    trainer = L.Trainer(
        accelerator="cpu", logger=logger, callbacks=[notes or RunNotes()], max_steps=6,
        log_every_n_steps=2, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, num_sanity_val_steps=0, gradient_clip_val=1.0, **settings,
    )  # fmt: skip
    validate = DataLoader(TensorDataset(torch.zeros(5, 2)))
    trainer.fit(Linear(), loader, validate if settings.get("val_check_interval") else None)
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [row for row in rows if "train/grad_norm" in row]


def test_the_gradient_norm_is_that_before_clipping(tmp_path):
    rows = train(tmp_path)
    assert [row["step"] for row in rows] == [1, 3, 5]
    assert [row["train/grad_norm"] for row in rows] == [pytest.approx(13.0)] * 3
    assert not any("grad_norm/part" in row for row in rows)


def test_each_part_on_request(tmp_path):
    rows = train(tmp_path, RunNotes(per_module=True))
    assert rows[0]["grad_norm/part"] == pytest.approx(12.0)
    assert "grad_norm/frozen" not in rows[0]


def test_images_a_second_count_all_since_the_note_before(tmp_path, clock):
    rates = [row["train/images_per_s"] for row in train(tmp_path)]
    assert rates == [10.0, 10.0, 10.0]  # 2 batches of 5, a second apart by this clock


def test_micro_batches_of_a_step_are_one_note(tmp_path, clock):
    rates = [row["train/images_per_s"] for row in train(tmp_path, accumulate_grad_batches=3)]
    assert rates == [30.0, 30.0, 30.0]  # 6 batches of 5, a second apart by this clock


def test_validation_does_not_count(tmp_path, clock):
    def slow(self, batch, batch_idx):
        clock[0] += 100.0

    validation_step, Linear.validation_step = Linear.validation_step, slow
    try:
        rates = [r["train/images_per_s"] for r in train(tmp_path, val_check_interval=2)]
    finally:
        Linear.validation_step = validation_step
    assert min(rates) > 3  # looks at the clock, no hundreds of seconds


def test_images_of_all_processes_together(clock):
    """As many processes, as many images: each has batches of the same size."""
    notes = RunNotes()
    told: dict[str, float] = {}
    module = Linear()
    module.log_dict = told.update  # type: ignore[method-assign]

    class Connector:
        should_update_logs = True

    class Trainer:
        world_size = 4
        _logger_connector = Connector()
        fit_loop = SimpleNamespace(_should_accumulate=lambda: False)

    notes.on_train_start(Trainer(), module)
    notes.on_train_batch_end(Trainer(), module, None, {"image": torch.zeros(5, 3, 2, 2)}, 0)
    assert told["train/images_per_s"] == 20.0
    assert "train/gpu_percent" not in told  # there is none


def test_memory_of_the_process_is_plausible():
    assert 50 < memory_mib(torch.device("cpu")) < 100_000


@pytest.mark.parametrize(
    ("batch", "images"),
    [
        ({"seed": torch.zeros(7), "image": torch.zeros(5, 1)}, 5),
        ({"index": torch.zeros(4), "prompt": ["a"] * 4}, 4),
        ([torch.zeros(3, 2), torch.zeros(3)], 3),
        (torch.zeros(2, 1), 2),
        (torch.tensor(1.0), 0),
        ({"prompt": ["a"]}, 0),
        (None, 0),
    ],
)
def test_images_of_any_batch(batch, images):
    assert num_images(batch) == images
