"""Studies: the plan, what is skipped, what goes on, and the table."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from conftest import ROOT

from palmforge.callbacks.evaluation_report import write_results
from palmforge.commands import study as study_module
from palmforge.commands.study import make_plan, read_study, study
from palmforge.errors import ConfigError, TrainingError
from palmforge.metrics.scores import ScoreCounts

CONTENT = {
    "name": "tiny",
    "title": "Tiny",
    "domains": ["IF", "IN"],
    "overrides": {"trainer.max_steps": 3},
    "runs": {
        "teacher": {"config": "teacher.yaml"},
        "distilled": {"config": "student.yaml", "needs": {"model.teacher_ckpt": "teacher"}},
    },
}
EER = {"teacher": 0.01, "distilled": 0.05}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py"])
    (tmp_path / "teacher.yaml").write_text("name: teacher\n")
    (tmp_path / "student.yaml").write_text("name: student\n")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(CONTENT, sort_keys=False))
    return tmp_path


@pytest.fixture
def trained(monkeypatch) -> list[list[str]]:
    """Stands in for `train.py fit`: leaves a run's folder, and keeps the command lines."""
    commands: list[list[str]] = []

    def fit(command: list[str], check: bool) -> subprocess.CompletedProcess:
        commands.append(command[2:])
        settings = dict(word.split("=", 1) for word in command if word.startswith("--"))
        folder = Path("lightning_logs") / settings["--name"]
        version = folder / f"version_{len(list(folder.glob('version_*')))}"
        (version / "checkpoints").mkdir(parents=True)
        (version / "checkpoints" / "last.ckpt").touch()
        run = settings["--name"].rsplit("/", 1)[1]
        metrics = {"test/eer": EER[run], "test/accuracy": 0.5, "test/tar@far=1e-2": 0.9}
        counts = ScoreCounts.from_scores(np.array([1, 2, 3.0]), np.array([3, 4, 5.0]))
        write_results(version / "results.json", metrics, counts, checkpoint="")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(study_module, "subprocess", SimpleNamespace(run=fit))
    return commands


def test_plan_trains_what_is_needed_first_domain_by_domain(place):
    plan = make_plan(read_study("study.yaml"))
    names = [(item.domain, item.run) for item in plan]
    assert names == [(d, r) for d in ("IF", "IN") for r in ("teacher", "distilled")]
    assert "--trainer.max_steps=3" in plan[0].command()
    assert "--data.domains=[IF]" in plan[0].command()


def test_a_run_takes_the_checkpoint_of_its_own_domain(place, trained):
    study("study.yaml")
    taken = [word for command in trained for word in command if "teacher_ckpt" in word]
    assert taken == [
        f"--model.teacher_ckpt=lightning_logs/tiny/{domain}/teacher/version_0/checkpoints/last.ckpt"
        for domain in ("IF", "IN")
    ]


def test_what_is_done_is_skipped_and_what_changed_runs_again(place, trained, capsys):
    study("study.yaml")
    assert len(trained) == 4
    study("study.yaml")
    assert len(trained) == 4
    assert capsys.readouterr().out.count("done, skipped") == 4
    (place / "teacher.yaml").write_text("name: teacher\nmodel: {lr: 1}\n")
    study("study.yaml")  # the distilled runs stand on the teachers
    assert len(trained) == 8
    study("study.yaml", overrides={"trainer": {"max_steps": 9}})
    assert "--trainer.max_steps=9" in trained[-1] and len(trained) == 12


def test_dry_run_lists_and_does_nothing(place, trained, capsys):
    study("study.yaml", dry_run=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(line.startswith("to do") for line in lines)
    assert not trained and not (place / "results").exists()


def test_a_stopped_run_goes_on_from_its_checkpoint(place, trained, monkeypatch):
    fit = study_module.subprocess.run

    def stopped(command, check):
        fit(command, check)
        (Path("lightning_logs/tiny/IF/teacher/version_0") / "results.json").unlink()
        return subprocess.CompletedProcess(command, 143)

    monkeypatch.setattr(study_module, "subprocess", SimpleNamespace(run=stopped))
    with pytest.raises(TrainingError, match=r"IF/teacher ended with status 143[\s\S]*fit --config"):
        study("study.yaml")
    monkeypatch.setattr(study_module, "subprocess", SimpleNamespace(run=fit))
    study("study.yaml")
    last = "--ckpt_path=lightning_logs/tiny/IF/teacher/version_0/checkpoints/last.ckpt"
    assert last in trained[1]
    assert not any("--ckpt_path" in word for command in trained[2:] for word in command)


def test_the_table_stands_beside_the_papers_with_computed_means(place, trained):
    reference = {
        "title": "A paper",
        "values": {
            "teacher": {"IF": {"eer": 0.5, "accuracy": 98.0}, "IN": {"eer": 0.7, "accuracy": 97.0}}
        },
        "notes": ["a footnote"],
    }
    (place / "paper.yaml").write_text(yaml.safe_dump(reference))
    content = {**CONTENT, "reference": "paper.yaml"}
    (place / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    study("study.yaml", out="out")
    with Path("out/results.csv").open() as file:
        rows = {row["domain"]: row for row in csv.DictReader(file)}
    assert float(rows["mean"]["teacher/eer"]) == pytest.approx(1.0)
    assert float(rows["mean"]["teacher/eer/paper"]) == pytest.approx(0.6)
    text = Path("out/results.md").read_text()
    assert "| IF | 1.00 (0.50) | 50.00 (98.00) | 5.00 (–) | 50.00 (–) |" in text
    assert "a footnote" in text
    assert json.loads(Path("out/results.json").read_text())["runs"][0]["domain"] == "IF"
    figures = {p.name for p in Path("out/figures").iterdir()}
    assert figures == {f"{name}_{domain}.png" for name in ("roc", "det") for domain in ("IF", "IN")}


def test_the_means_wait_for_domains_with_all_runs(place, trained, monkeypatch):
    tables = []
    write = study_module.write_tables
    monkeypatch.setattr(
        study_module,
        "write_tables",
        lambda out, *rest: (write(out, *rest), tables.append((out / "results.md").read_text())),
    )
    study("study.yaml")
    assert ["| mean |" in table for table in tables] == [False, False, False, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runz": {"x": 1}}, "runz"),
        (
            {"runs": {"student": {"config": "student.yaml", "needs": {"x": "teacher"}}}},
            "needs 'teacher'",
        ),
        ({"runs": {"student": {"config": "none.yaml"}}}, "none.yaml"),
        ({"reference": "none.yaml"}, "none.yaml"),
    ],
)
def test_a_wrong_study_is_refused_by_name(place, trained, change, message):
    (place / "study.yaml").write_text(yaml.safe_dump({**CONTENT, **change}, sort_keys=False))
    with pytest.raises(ConfigError, match=message):
        study("study.yaml")
    assert not trained


@pytest.mark.slow
def test_a_real_study_from_the_command_line(place, palms_root, tiny_data):
    """Two runs in processes of their own: the student stands in for its teacher's column."""
    (place / "configs").symlink_to(ROOT / "configs")
    small = {
        "data.image_size": 64,
        "model.weights": None,
        "model.width": 0.0625,
        **{word[2:].split("=")[0]: word.split("=", 1)[1] for word in tiny_data},
        "trainer.val_check_interval": 2,
    }
    student = {k: v for k, v in small.items() if k not in ("model.weights", "model.width")}
    content = {
        **CONTENT,
        "domains": ["IF"],
        "runs": {
            "teacher": {"config": "configs/experiment/dhn_teacher.yaml", "overrides": small},
            "distilled": {
                "config": "configs/experiment/dhn_distilled.yaml",
                "needs": {"model.teacher_ckpt": "teacher"},
                "overrides": student,
            },
        },
    }
    (place / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    command = [sys.executable, str(ROOT / "train.py"), "study", "study.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "| IF |" in (place / "results/tiny/results.md").read_text()
    again = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert again.stdout.count("done, skipped") == 2
