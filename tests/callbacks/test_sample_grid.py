"""Figures of generated palms as training goes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from generators import TWO, generator, palms, ready, trainer
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from palmforge.callbacks import SampleGrid, WeightEMA, run_folder, sample_grid
from palmforge.data.generation.plan import image_seed


def fit(root, folder, grid, *callbacks, **settings):
    own = {"val_check_interval": 2, "limit_val_batches": 1, "max_steps": 4, **settings}
    one = trainer(folder, *callbacks, grid, **own)
    one.fit(ready(), palms(root))
    return one


def test_a_figure_a_validation(palms_root, tmp_path, monkeypatch):
    drawn = []
    montage = sample_grid.montage
    monkeypatch.setattr(
        sample_grid, "montage", lambda px, names: drawn.append(px) or montage(px, names)
    )
    fit(palms_root, tmp_path, SampleGrid(5, ["a left palm", "a"], batch_size=2),
        num_sanity_val_steps=1)  # fmt: skip
    names = sorted(p.name for p in (tmp_path / "figures").iterdir())
    assert names == ["samples_0000002.png", "samples_0000004.png"]
    assert [px.shape for px in drawn] == [(5, 32, 32, 3)] * 2
    assert drawn[0].dtype == np.uint8 and drawn[0].std() > 0
    assert not np.array_equal(drawn[0], drawn[1])  # it has learned between them
    figure = Image.open(tmp_path / "figures" / names[0])
    assert min(figure.size) > 50


def test_prompts_are_gone_through_and_seeds_are_those_of_a_plan():
    grid = SampleGrid(5, ["a", "b"], seed=3)
    assert grid.prompts == ["a", "b", "a", "b", "a"]
    drawn = SampleGrid(4).prompts
    assert drawn == SampleGrid(4).prompts and all("palm" in prompt for prompt in drawn)


def test_pictures_are_those_of_the_averages(palms_root, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(SampleGrid, "_generated", lambda self, trainer, module: drawn.append(
        {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}
    ) or torch.zeros(1, 3, 32, 32, dtype=torch.uint8))  # fmt: skip
    ema = WeightEMA(0.5)
    fit(palms_root, tmp_path, SampleGrid(1), ema, max_steps=2)
    average = ema.state_dict()["average"]
    assert all(torch.equal(drawn[0][name], average[name]) for name in average)


@pytest.mark.parametrize("num", [1, 5])
def test_two_processes_draw_what_one_draws(palms_root, tmp_path, num):
    pictures = []
    for name, settings in (("one", {}), ("two", TWO)):
        fit(
            palms_root, tmp_path / name, SampleGrid(num, batch_size=2), max_steps=1,
            val_check_interval=1, **settings,
        )  # fmt: skip
        path = tmp_path / name / "figures" / "samples_0000001.png"
        pictures.append(np.asarray(Image.open(path)).astype(int))
    assert pictures[0].shape == pictures[1].shape
    # One step from the same weights; a grey level of rounding.
    assert np.abs(pictures[0] - pictures[1]).max() <= 3


@pytest.mark.parametrize("log_images", [False, True])
def test_loggers_see_pictures_only_when_asked(palms_root, tmp_path, monkeypatch, log_images):
    shown = []

    class Board(CSVLogger):
        @property
        def experiment(self):
            writer = super().experiment
            writer.add_figure = lambda name, figure, step: shown.append((name, step))
            return writer

    monkeypatch.setattr(run_folder, "TensorBoardLogger", Board)
    grid = SampleGrid(2, log_images=log_images)
    one = trainer(tmp_path, grid, max_steps=1, val_check_interval=1, limit_val_batches=1)
    one.loggers = [Board(tmp_path, name=None, version="")]
    one.fit(generator(), palms(palms_root))
    assert (tmp_path / "figures" / "samples_0000001.png").exists()
    assert shown == ([("figures/samples_0000001", 1)] if log_images else [])
    assert image_seed(0, 0) != image_seed(0, 1)
