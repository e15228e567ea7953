"""Studies: the plan, what is skipped, what goes on, and the table."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT

from palmforge.callbacks.evaluation_report import write_results
from palmforge.commands import study as study_module
from palmforge.commands import study_lines
from palmforge.commands.study import make_plan, read_study, study
from palmforge.errors import ConfigError, TrainingError
from palmforge.metrics.scores import ScoreCounts
from palmforge.metrics.verification_metric import VerificationMetrics

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


def test_settings_typed_one_by_one_all_arrive(place, cli, capsys):
    words = [f"trainer.{name}={value}" for value, name in enumerate(("max_steps", "b", "c"), 5)]
    cli("study", "study.yaml", *(f"--overrides.{word}" for word in words), "--dry-run")
    told = capsys.readouterr().out
    assert all(f"--{word}" in told for word in words)


def test_dry_run_lists_and_does_nothing(place, trained, capsys):
    odd = {"data.prompts": ["a b", "it's"], "data.domains": "[lines]"}  # a shell and rich see more
    study("study.yaml", dry_run=True, overrides=odd)
    *blocks, rest = capsys.readouterr().out.split("\n\n")
    plan = read_study("study.yaml")
    plan.overrides |= odd
    assert len(blocks) == 4 and rest == ""
    for block, item in zip(blocks, make_plan(plan), strict=True):
        label, *lines = block.splitlines()
        assert label == f"# {item.label} (to do)"
        shell = ["bash", "-c", f"python() {{ printf '%s\\n' \"$@\"; }}\n{block}"]
        pasted = subprocess.run(shell, capture_output=True, text=True, check=True).stdout
        assert pasted.splitlines() == ["train.py", *item.command()]
        assert len(lines) == len(item.command()) and all(w.endswith(" \\") for w in lines[:-1])
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


# --- studies without domains: a line a run, and runs that generate palms for others

LINES = {
    "name": "loop",
    "title": "The loop",
    "baseline": "real",
    "notes": ["real means rendered"],
    "overrides": {"trainer.max_steps": 3},
    "runs": {
        "palms": {
            "command": "predict",
            "config": "factory.yaml",
            "overrides": {"ckpt_path": "weights.ckpt", "data.captures": 2},
        },
        "real": {"config": "student.yaml"},
        "both": {"config": "student.yaml", "needs": {"data.added": "palms"}},
        "other": {"config": "student.yaml", "overrides": {"data.split_seed": 1}},
    },
}
HARD = {"real": 0.6, "both": 0.3, "other": 0.6}  # noise of the codes


@pytest.fixture
def loop(place) -> Path:
    (place / "factory.yaml").write_text("name: factory\n")
    (place / "weights.ckpt").write_text("weights")
    return _write(place, LINES)


def _write(place: Path, content: dict) -> Path:
    (place / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return place


def _test(version: Path, run: str) -> None:
    """What a test of 10 palms × 4 images leaves; `other` has other test palms."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(10).repeat_interleave(4)
    codes = torch.randn(10, 8, generator=generator)[labels]
    codes += HARD[run] * torch.randn(codes.shape, generator=generator)
    metric = VerificationMetrics("cosine", fars=(1e-3, 1e-4), bootstrap=50)
    metric.update(codes, labels, torch.arange(40))
    metrics = {f"test/{key}": value for key, value in metric.compute().items()}
    write_results(
        version / "results.json", metrics, metric.score_counts(), "", metric.resampled,
        "others" if run == "other" else "these",
    )  # fmt: skip
    data = {"selection": [f"train: 5 images of 2 identities {run}", "validation: 1"]}
    (version / "run.json").write_text(json.dumps({"data": data}))


@pytest.fixture
def ran(monkeypatch) -> list[list[str]]:
    """Stands in for `train.py fit` and `predict`, and keeps the command lines."""
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess:
        commands.append(command[2:])
        settings = dict(word.split("=", 1) for word in command if word.startswith("--"))
        if command[2] == "predict":
            (Path(settings["--data.out"]) / "000000").mkdir(parents=True)
        else:
            folder = Path("lightning_logs") / settings["--name"]
            version = folder / f"version_{len(list(folder.glob('version_*')))}"
            version.mkdir(parents=True)
            if "--test_ckpt" in settings:
                _test(version, folder.name)
            elif command[2] == "test":
                (version / "config.yaml").write_text("{}")  # what is measured lies elsewhere
            else:
                (version / "checkpoints").mkdir()
                (version / "checkpoints/last.ckpt").write_text("weights")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(study_module, "subprocess", SimpleNamespace(run=run))
    return commands


def test_a_run_that_is_not_tested_gives_its_weights_and_is_in_no_table(loop, ran, monkeypatch):
    monkeypatch.setattr(study_lines, "draw_curves", lambda *_: None)
    control = {"config": "student.yaml", "tested": False, "overrides": {"model.lr": 1}}
    palms = {**LINES["runs"]["palms"], "needs": {"model.controlnet": "control"}}
    _write(loop, {**LINES, "runs": {"control": control, **LINES["runs"], "palms": palms}})
    study("study.yaml", out="out")
    assert "--model.lr=1" in ran[0]
    # What trains and tests a recogniser is no setting of other weights.
    assert not any("max_steps" in word or "test_ckpt" in word for word in ran[0])
    weights = "lightning_logs/loop/control/version_0/checkpoints/last.ckpt"
    assert f"--model.controlnet={weights}" in ran[1]
    assert "control" not in Path("out/results.md").read_text()
    study("study.yaml", out="out")
    assert len(ran) == 5  # it is done
    _write(loop, {**LINES, "baseline": "control", "runs": {"control": control}})
    with pytest.raises(ConfigError, match="baseline 'control' must be a run that is trained"):
        study("study.yaml")


def test_a_study_may_end_in_a_test_that_needs_the_others_weights(loop, ran):
    runs = {
        "ccnet": {"config": "student.yaml", "tested": False},
        "tables": {
            "command": "test", "config": "factory.yaml", "overrides": {"data.out": "tables"},
            "needs": {"trainer.callbacks.recognisers.CCNet": "ccnet"},
        },
    }  # fmt: skip
    _write(loop, {"name": "loop", "runs": runs})
    study("study.yaml", out="out")
    weights = "lightning_logs/loop/ccnet/version_0/checkpoints/last.ckpt"
    assert ran[1][0] == "test" and f"--trainer.callbacks.recognisers.CCNet={weights}" in ran[1]
    assert "--data.out=tables" in ran[1] and not any("test_ckpt" in word for word in ran[1])
    study("study.yaml", out="out")
    assert len(ran) == 2


def test_a_run_trains_on_the_folder_that_another_has_generated(loop, ran, monkeypatch):
    monkeypatch.setattr(study_lines, "draw_curves", lambda *_: None)
    study("study.yaml")
    assert [command[0] for command in ran] == ["predict", "fit", "fit", "fit"]
    (out,) = (word.split("=")[1] for word in ran[0] if word.startswith("--data.out="))
    assert Path(out).is_dir() and out.startswith("data/generated/loop/palms-")
    assert f'--data.added=["{out}"]' in ran[2] and not any("added" in word for word in ran[1])
    assert "--ckpt_path=weights.ckpt" in ran[0] and "--data.captures=2" in ran[0]
    # What trains a recogniser is no setting of a generator.
    assert not any("max_steps" in word or "test_ckpt" in word for word in ran[0])
    assert "--trainer.max_steps=3" in ran[1] and "--name=loop/real" in ran[1]


def test_palms_are_generated_again_only_for_other_settings_or_weights(loop, ran, monkeypatch):
    monkeypatch.setattr(study_lines, "draw_curves", lambda *_: None)  # they take most of the time
    study("study.yaml")
    study("study.yaml", overrides={"trainer": {"max_steps": 9}})
    assert [command[0] for command in ran[4:]] == ["fit", "fit", "fit"]
    study("study.yaml")
    (loop / "weights.ckpt").write_text("other weights")
    study("study.yaml")
    generated = [word for command in ran for word in command if "--data.out" in word]
    assert len(generated) == 2 and generated[0] != generated[1]
    assert [command[0] for command in ran[-2:]] == ["predict", "fit"]  # real stands on no palms
    shutil.rmtree(generated[1].split("=")[1])
    study("study.yaml")
    assert ran[-1][0] == "predict"


def test_a_stopped_generation_goes_on_with_the_same_command(loop, ran, monkeypatch):
    run = study_module.subprocess.run

    def stopped(command, check):
        run(command, check)
        return subprocess.CompletedProcess(command, 143)

    monkeypatch.setattr(study_module, "subprocess", SimpleNamespace(run=stopped))
    with pytest.raises(TrainingError, match="palms ended with status 143"):
        study("study.yaml")
    again = SimpleNamespace(run=lambda c, check: subprocess.CompletedProcess(ran.append(c[2:]), 2))
    monkeypatch.setattr(study_module, "subprocess", again)
    with pytest.raises(TrainingError):
        study("study.yaml")
    assert ran[0] == ran[1]


def test_each_run_is_a_line_and_is_compared_with_the_baseline_palm_by_palm(loop, ran):
    study("study.yaml", out="out")
    text = Path("out/results.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines] == [
        "| run", "| real", "| both", "| other", "| minus real, points", "| both", "| other",
    ]  # fmt: skip
    assert "| 5 images of 2 identities both |" in lines[2]
    assert lines[6] == "| other | – | – | – |"  # other palms: no pairs to compare
    assert "palms" not in text.split("Brackets")[0] and "- real means rendered" in text
    content = json.loads(Path("out/results.json").read_text())
    both = content["runs"][1]
    value, low, high = both["minus_baseline"]["eer"]
    ours = both["metrics"]["eer"] - content["runs"][0]["metrics"]["eer"]
    assert value == pytest.approx(ours) and low <= value <= high < 0
    assert lines[5].split(" | ")[1].endswith("*")
    with Path("out/results.csv").open() as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert float(rows["both"]["eer/minus_baseline_high"]) == pytest.approx(100 * high)
    assert {path.name for path in Path("out/figures").iterdir()} == {"roc.png", "det.png"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "palms"}, "baseline 'palms' must be a run that is trained"),
        ({"baseline": "none"}, "baseline 'none' must be a run that is trained"),
        ({"domains": ["IF"]}, "in a study without domains"),
        ({"reference": "paper.yaml"}, "reference goes by domain"),
        ({"runs": {"real": {"command": "validate", "config": "student.yaml"}}}, "command"),
    ],
)
def test_a_wrong_study_of_lines_is_refused_by_name(loop, ran, change, message):
    _write(loop, {**LINES, **change})
    with pytest.raises(ConfigError, match=message):
        study("study.yaml")
    assert not ran


@pytest.mark.slow
def test_a_real_loop_generates_trains_and_compares(cli, tmp_path, palms_root, monkeypatch):
    """All in this process, which has torch already."""

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess:
        cli(*command[2:])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(study_module, "subprocess", SimpleNamespace(run=run))
    small = {
        "trainer.accelerator": "cpu", "trainer.enable_progress_bar": False,
        "trainer.enable_model_summary": False,
    }  # fmt: skip
    palms = {
        **small, "ckpt_path": "pretrained", "data.num_identities": 3, "data.eval_batch_size": 3,
        "model.num_inference_steps": 1,
    }  # fmt: skip
    recogniser = {
        **small, "data.root": palms_root, "data.cache_dir": f"{tmp_path}/cache",
        "data.fractions": [0.25, 0.25, 0.5], "data.train_domains": ["IF"],
        "data.test_domains": ["IN"], "data.open_set_images": 2, "data.identities_per_batch": 2,
        "data.images_per_identity": 2, "trainer.max_steps": 2, "trainer.val_check_interval": 1,
    }  # fmt: skip
    config = "configs/experiment/margin_small.yaml"
    generator = {"config": "configs/experiment/identity_lora_tiny.yaml", "command": "predict"}
    runs = {
        "palms": {**generator, "overrides": palms},
        "real": {"config": config},
        "both": {"config": config, "needs": {"data.added": "palms"}},
    }
    _write(tmp_path, {**LINES, "overrides": recogniser, "runs": runs})
    study("study.yaml")
    text = (tmp_path / "results/loop/results.md").read_text()
    assert "| real | 4 images of 2 identities IF |" in text
    assert "| both | 7 images of 5 identities IF added |" in text
    assert "- Test: 84 genuine and 294 impostor pairs." in text
    both = json.loads((tmp_path / "results/loop/results.json").read_text())["runs"][1]
    assert "eer" in both["minus_baseline"] and "tar@far=1e-3" not in both["minus_baseline"]


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
