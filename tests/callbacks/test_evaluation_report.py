"""What is kept of a test, so that two of them can be compared."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from palmforge.callbacks.evaluation_report import EvaluationReport, read_resamples, read_results
from palmforge.data.records import PalmRecord
from palmforge.metrics.verification_metric import VerificationMetrics


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """They take most of the time."""
    name = "palmforge.callbacks.evaluation_report.save_figure"
    monkeypatch.setattr(name, lambda *_, **__: None)


def _tested(
    folder, names: list[str], noise: float = 0.3, bootstrap: int = 50, first: int = 0
) -> None:
    """A test of 5 images of each of 6 palms."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(6).repeat_interleave(5)
    codes = torch.randn(6, 16, generator=generator)[labels]
    codes += noise * torch.randn(codes.shape, generator=generator)
    metric = VerificationMetrics("cosine", fars=(1e-1,), bootstrap=bootstrap)
    metric.update(codes, labels, torch.arange(30))
    records = [PalmRecord(f"/{name}.png", name, "", name) for name in names]
    figures = metric.compute()
    trainer = SimpleNamespace(
        loggers=[SimpleNamespace(log_dir=str(folder))], log_dir=str(folder), is_global_zero=True,
        callback_metrics={f"test/{key}": value for key, value in figures.items()}, ckpt_path=None,
        datamodule=SimpleNamespace(
            test=SimpleNamespace(records=records, labels=[first, 1 - first][: len(names)])
        ),
    )  # fmt: skip
    report, module = EvaluationReport(), SimpleNamespace(test_verification=metric)
    report.on_test_epoch_end(trainer, module)
    metric.reset()
    report.on_test_end(trainer, module)


def test_resamples_are_kept_with_a_name_of_the_test_set(tmp_path):
    _tested(tmp_path / "a", ["x", "y"])
    _tested(tmp_path / "b", ["x", "y"], noise=0.6)
    _tested(tmp_path / "c", ["x", "z"])
    _tested(tmp_path / "d", ["x", "y"], first=1)  # drawn in another order
    (a, one), (b, two), (_, three), (_, four) = (
        read_resamples(tmp_path / name / "results.json") for name in "abcd"
    )
    assert a.keys() == {"eer", "tar@far=1e-1"} and a["eer"].shape == (50,)
    assert one == two and len({one, three, four}) == 3
    metrics, counts = read_results(tmp_path / "a" / "results.json")
    low, high = np.quantile(a["tar@far=1e-1"], [0.025, 0.975])
    assert metrics["test/tar@far=1e-1_low"] == low and metrics["test/tar@far=1e-1_high"] == high
    assert counts.num_genuine == 60 and not np.array_equal(a["eer"], b["eer"])


def test_results_without_resamples_are_read_too(tmp_path):
    _tested(tmp_path / "a", ["x"], bootstrap=0)
    path = tmp_path / "a" / "results.json"
    resampled, test_set = read_resamples(path)
    assert resampled == {} and test_set is not None
    content = json.loads(path.read_text())
    del content["resamples"], content["test_set"]  # as earlier versions wrote it
    path.write_text(json.dumps(content))
    assert read_resamples(path) == ({}, None)
