"""What an offline run of Weights & Biases is given of a report."""

from __future__ import annotations

import json
import math

import pytest
import wandb
from PIL import Image
from reports import example_report

from palmforge.report import HeatMap, Paragraph, Rate, Report, Table, log_to_wandb


@pytest.fixture
def logged(tmp_path, monkeypatch):
    """Logs a report, and gives the run's media: tables by name, pictures by name."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)

    def log(report: Report, **settings: bool) -> tuple[dict, dict]:
        with wandb.init(project="test", dir=tmp_path) as run:
            log_to_wandb(report, run, **settings)
        (media,) = tmp_path.glob("wandb/offline-run-*/files")
        tables = {_name(p): json.loads(p.read_text()) for p in media.rglob("*.table.json")}
        pictures: dict[str, list] = {}
        for path in sorted(media.rglob("*.png")):
            with Image.open(path) as picture:
                pictures.setdefault(_name(path), []).append(picture.size)
        return tables, pictures

    return log


def _name(path) -> str:
    """`report/error-rates_0_0123abcd.table.json` → `error-rates`."""
    assert path.parent.name == "report"
    return path.name.rsplit("_", 2)[0]


def test_tables_keep_numbers_and_palms_stay_here(logged):
    blocks = [
        Table("Errors", ["run", "EER", "n"], [
            ["a", Rate(0.035, 0.03, 0.04), 7], ["b", Rate(math.nan), math.nan], ["c", None, "few"],
        ]),
        Table("Left out", ["path", "reason"], [["jane/1.png", "torn"]], is_private=True),
        HeatMap("Domains", ["IF"], ["IF", "IN"], [[0.5, math.nan]], "enrolled"),
    ]  # fmt: skip
    tables, pictures = logged(Report("t", blocks=blocks))
    assert tables.keys() == {"errors", "domains"}
    assert tables["errors"]["columns"] == ["run", "EER", "EER low", "EER high", "n"]
    assert tables["errors"]["data"] == [
        ["a", 0.035, 0.03, 0.04, 7],
        ["b", None, None, None, None],
        ["c", None, None, None, "few"],
    ]
    assert tables["domains"]["columns"] == ["enrolled", "IF", "IN"]
    assert tables["domains"]["data"] == [["IF", 0.5, None]]
    assert not pictures


@pytest.mark.parametrize("images", [False, True])
def test_curves_are_always_logged_palms_only_when_asked(logged, images):
    tables, pictures = logged(example_report(pairs=2000), images=images)
    assert set(tables) == {"error-rates", "eer-in-domain-against-domain", "every-domain"}
    palms = {"worst-genuine-pairs", "best-impostor-pairs"}
    curves = {"det", "roc", *(f"distances-of-{n}" for n in ("teacher", "student"))}
    assert set(pictures) == curves | (palms if images else set())
    if images:
        assert pictures["worst-genuine-pairs"] == [(260, 128)] * 4


def test_a_report_of_words_logs_nothing(logged):
    assert logged(Report("t", blocks=[Paragraph("p")])) == ({}, {})
