"""The graph of a quickstart, read back from the files of its offline runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import wandb
import yaml
from conftest import ROOT
from PIL import Image
from runs import STUDENT, TEACHER, callbacks_yaml
from test_wandb import read_run, run_config, run_history

from palmforge import cli as cli_module
from palmforge.commands import study as study_module
from palmforge.commands.study import study
from palmforge.data.digests import checkpoint_digest
from palmforge.errors import TrainingError

WANDB = "--config=configs/logger/wandb.yaml"
STEPS = (
    "--trainer.max_steps=2", "--trainer.log_every_n_steps=1", "--trainer.val_check_interval=2",
    "--trainer.limit_val_batches=1",
)  # fmt: skip


@dataclass
class Told:
    """An offline run: what it used and made, each by role, kind or alias."""

    path: Path
    records: dict[str, list]
    used: dict[str, dict] = field(default_factory=dict)
    made: dict[str, dict] = field(default_factory=dict)

    @property
    def model(self) -> dict:
        return next(a for a in self.made.values() if a["type"] == "model")


def told_by(folder: Path) -> dict[str, list[Told]]:
    """The runs under a folder by name, the oldest first."""
    wandb.teardown()  # `finish` comes back before the last of them is on the disk
    found: dict[str, list[Told]] = {}
    for path in sorted(folder.rglob("offline-run-*")):
        records = read_run(path)
        run = Told(path, records)
        for record in records.get("artifact", []):
            told = _artifact(record)
            if record.use_after_commit:
                run.used[told["used_as"]] = told
            else:
                run.made[told["name"]] = told
        found.setdefault(records["run"][0].display_name, []).append(run)
    return found


def _artifact(record) -> dict:
    (entry,) = record.manifest.contents
    assert not entry.local_path  # a description: no file goes with it
    return {
        **json.loads(record.metadata or "{}"),
        "name": record.name,
        "type": record.type,
        "version": record.digest,  # by which wandb tells versions apart
        "sha256": entry.ref.removeprefix("sha256:"),
        "aliases": set(record.aliases) - {"latest"},
    }


def _reference(role: str, artifact: dict) -> dict[str, str]:
    return {"role": role, **{key: artifact[key] for key in ("name", "type", "sha256")}}


@pytest.fixture(autouse=True)
def _fresh_tracker():
    """wandb's own process writes to where it was started, an earlier test's folder."""
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def tracked(cli, tiny_data, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)

    def run(command: str, *settings: str) -> None:
        callbacks = callbacks_yaml(tmp_path / "callbacks.yaml")
        try:
            cli(command, settings[0], callbacks, WANDB, *tiny_data, *settings[1:])
        finally:
            wandb.finish()  # a second run in this process would join the first

    return run


def _quickstart(tracked, tmp_path: Path, logs: Path, monkeypatch) -> tuple[Told, Told, Told]:
    """A teacher, a student distilled from it, and a test of the student."""
    tracked("fit", *TEACHER, "--name=q/IF/teacher", *STEPS)
    weights = logs / "q/IF/teacher/version_0/checkpoints/last.ckpt"
    # As wandb would give it: its own tests are in callbacks/test_lineage_fetch.py.
    given = {"wandb:team/palms/q-IF-teacher:last": weights}
    monkeypatch.setattr(cli_module, "fetch", lambda reference, save_dir, key: given[reference])
    distilled = [
        "--config=configs/experiment/dhn_distilled.yaml", *STUDENT[1:],
        "--model.teacher_ckpt=wandb:team/palms/q-IF-teacher:last", "--name=q/IF/distilled",
    ]  # fmt: skip
    tracked("fit", *distilled, *STEPS)
    tracked("test", *distilled, "--ckpt_path=last")
    runs = told_by(tmp_path)
    return (*runs["q/IF/teacher"], *runs["q/IF/distilled"])


def test_every_model_of_a_quickstart_names_its_data_and_its_parents(
    tracked, tmp_path, logs, monkeypatch
):
    teacher, student, tested = _quickstart(tracked, tmp_path, logs, monkeypatch)
    data, rois = teacher.used["data"], teacher.used["rois"]
    assert (data["type"], rois["type"]) == ("dataset", "roi-cache")
    assert (data["identities"], data["images"], data["domains"]) == (8, 56, ["IF"])
    assert rois["data"] == _reference("data", data)

    made = teacher.model
    _check_teacher(made, logs / "q/IF/teacher/version_0")
    assert made["parents"] == [_reference("data", data), _reference("rois", rois)]

    # Child to parent: the very version that the other run made.
    assert student.used["teacher"]["version"] == made["version"]
    assert student.used["teacher"]["name"] == made["name"]
    assert student.model["role"] == "distilled student"
    assert student.model["parents"] == [
        _reference("data", data), _reference("rois", rois), _reference("teacher", made),
    ]  # fmt: skip
    assert set(tested.used) == {"data", "rois", "checkpoint"}  # no teacher: a test reads none
    assert tested.used["checkpoint"]["version"] == student.model["version"]
    (report,) = tested.made.values()
    assert (report["type"], report["name"]) == ("report", "q-IF-distilled-report")
    assert "test/eer" in report["metrics"]
    assert report["made_from"][-1] == _reference("checkpoint", student.model)

    for run in (teacher, student, tested):  # the same data is the same version in all runs
        assert {run.used[role]["version"] for role in ("data", "rois")} == {
            data["version"], rois["version"],
        }  # fmt: skip
    noted = {"train/grad_norm", "train/images_per_s", "train/memory_mib"}
    assert noted <= run_history(teacher.records)


def _check_teacher(made: dict, folder: Path) -> None:
    """What a model's description holds."""
    assert (made["name"], made["role"]) == ("q-IF-teacher", "teacher")
    assert made["sha256"] == checkpoint_digest(folder / "checkpoints/last.ckpt")
    assert made["aliases"] == {"last", f"sha256-{made['sha256'][:12]}"}
    assert made["selection"]["protocol"] == "first_five"
    assert made["selection"]["train"] == {"images": 40, "identities": 8}
    assert {"train/loss", "val/eer"} <= made["metrics"].keys()
    assert made["config_sha256"] == checkpoint_digest(folder / "config.yaml")
    assert len(made["revision"].removesuffix("+changes")) == 40


@pytest.fixture
def own_palms(tmp_path) -> Path:
    """Somebody's pictures, in folders with their names, one of them broken."""
    root = tmp_path / "home/jane/people"
    random = np.random.default_rng(0)
    for person in ("smith-anna-left", "smith-bob-right", "miller-carl-left"):
        (root / person).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 255, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / person / f"visit{number}.png")
        (root / person / "torn-apart.png").write_bytes(b"no picture")
    return root


def test_what_is_printed_is_kept_from_wandb_before_it_is_asked_for_anything(cli, monkeypatch):
    """It looks at this once: with `--ckpt_path wandb:…` long before there is a run."""
    monkeypatch.delenv("WANDB_CONSOLE", raising=False)
    with pytest.raises(SystemExit):
        cli("study", "--help")
    assert os.environ["WANDB_CONSOLE"] == "off"


def test_neither_palms_nor_their_names_leave_the_machine(cli, own_palms, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home/jane"))
    monkeypatch.delenv("WANDB_CONSOLE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "false")
    try:
        cli(
            "fit", *STUDENT, WANDB, f"--data.root={own_palms}", "--data.domains=null",
            "--data.layout=folder", "--data.train_images=3", "--data.num_workers=0",
            "--data.identities_per_batch=3", "--data.images_per_identity=2",
            "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false", "--name=own", *STEPS, "--test_ckpt=last",
        )  # fmt: skip
    finally:
        wandb.finish()
    problems = tmp_path / "lightning_logs/own/version_0/problems.csv"
    assert "torn-apart.png" in problems.read_text()  # it was there to be told
    ((run,),) = told_by(tmp_path).values()
    files = [path for path in run.path.rglob("*") if path.is_file()]
    content = b"".join(path.read_bytes() for path in files if path.suffix != ".png")
    for secret in ("smith", "miller", "visit", "torn-apart", str(tmp_path / "home")):
        assert secret.encode() not in content, secret
    pictures = {path.name.split("_")[0] for path in files if path.suffix == ".png"}
    assert pictures == {"roc", "det", "distances"}
    assert b"\x89PNG" not in content
    assert run.used["data"]["name"] == "people"  # the root's own name is told
    assert run_config(run.records)["data"]["init_args"]["root"] == "~/people"


@pytest.fixture
def tiny_study(tmp_path, monkeypatch) -> Path:
    """A teacher and its student, tracked."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    own = callbacks_yaml(tmp_path / "callbacks.yaml").removeprefix("--config=")
    layers = [own, "configs/logger/wandb.yaml"]
    run = {"layers": layers, "overrides": {}}
    content = {
        "name": "tiny",
        "domains": ["IF"],
        "overrides": _settings(*STEPS),
        "runs": {
            "teacher": {
                **run, "config": "configs/experiment/dhn_teacher.yaml",
                "overrides": _settings(*TEACHER[1:]),
            },
            "distilled": {
                **run, "config": "configs/experiment/dhn_distilled.yaml",
                "overrides": _settings(*STUDENT[1:]),
                "needs": {"model.teacher_ckpt": "teacher"},
            },
        },
    }  # fmt: skip
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def _settings(*words: str) -> dict:
    pairs = (word.removeprefix("--").split("=", 1) for word in words)
    return {key: yaml.safe_load(value) for key, value in pairs}


@pytest.mark.parametrize("own", [{}, {"WANDB_RUN_GROUP": "mine"}])
def test_a_study_groups_its_runs_unless_the_user_has(tiny_study, monkeypatch, own):
    seen: list[dict[str, str]] = []

    def stopped(command: list[str], check: bool) -> SimpleNamespace:
        seen.append({key: os.environ[key] for key in ("WANDB_RUN_GROUP", "WANDB_JOB_TYPE")})
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(study_module, "subprocess", SimpleNamespace(run=stopped))
    for name in ("WANDB_RUN_GROUP", "WANDB_JOB_TYPE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError):
        study(str(tiny_study))
    assert seen == [{"WANDB_RUN_GROUP": "tiny", "WANDB_JOB_TYPE": "teacher", **own}]
    assert "WANDB_JOB_TYPE" not in os.environ  # as it was


@pytest.mark.slow
def test_a_study_is_one_group_and_one_graph(tiny_study, tiny_data, tmp_path):
    """The real thing: each run a process of its own."""
    overrides = json.dumps(_settings(*tiny_data))
    command = [sys.executable, str(ROOT / "train.py"), "study", str(tiny_study)]
    env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    done = subprocess.run(
        [*command, f"--overrides={overrides}"], cwd=tmp_path, env=env,
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    runs = told_by(tmp_path)
    (teacher,), (student,) = runs["tiny/IF/teacher"], runs["tiny/IF/distilled"]
    for run, column in ((teacher, "teacher"), (student, "distilled")):
        (told,) = run.records["run"]
        assert (told.run_group, told.job_type) == ("tiny", column)
    for run in (teacher, student):
        roles = [parent["role"] for parent in run.model["parents"]]
        assert roles[:2] == ["data", "rois"]
        assert run.used["data"]["version"] == teacher.used["data"]["version"]
        kinds = sorted(artifact["type"] for artifact in run.made.values())
        assert kinds == ["model", "report"]
    assert student.used["teacher"]["version"] == teacher.model["version"]
    assert student.model["parents"][2] == _reference("teacher", teacher.model)
