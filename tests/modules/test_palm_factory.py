"""Whole sets by the command line: generated, divided, killed, and what is refused."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import controlnets
import generators
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from factories import content
from generators import SIZE, trainer
from runs import in_a_process

from palmforge.data.digests import checkpoint_digest
from palmforge.data.layouts import scan
from palmforge.errors import CheckpointError, ConfigError, DataError
from palmforge.modules.controlnet_files import PRETRAINED_PATH
from palmforge.modules.palm_factory import PalmFactory
from palmforge.modules.stable_diffusion import EMBEDDED_PATH
from palmforge.recognition.weights import EMBEDDED

PALMS, CAPTURES = 4, 3
PROCESSES = ("--trainer.devices=2", "--trainer.strategy=ddp_fork")


def saved(module, path: Path) -> str:
    one = trainer(None)
    one.strategy.connect(module)
    one.save_checkpoint(path)
    return str(path)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "plain": saved(controlnets.ready(), folder / "plain.ckpt"),
        "dial": saved(controlnets.ready(similarity_weight=0.05), folder / "dial.ckpt"),
        "generator": saved(generators.ready(), folder / "generator.ckpt"),
    }


@pytest.fixture
def config(tmp_path, checkpoints) -> str:
    """An experiment as YAML, for the command line."""
    model = {
        "class_path": "PalmFactory",
        "init_args": {
            "controlnet": checkpoints["plain"], "generator": "world:IF", "num_inference_steps": 2,
        },
    }  # fmt: skip
    filters = {
        "consistency": [-0.1, 1.0], "uniqueness": 0.9, "contrast": [0.0, 0.5],
        "relief": [0.0, 1.0], "lines": [0.0, 1.0],
        "brightness": [0.0, 1.0],
    }  # fmt: skip
    data = {
        "class_path": "FactoryDataModule",
        "init_args": {
            "num_identities": PALMS, "captures": CAPTURES, "batch_size": 2, "image_size": SIZE,
            "max_attempts": 4, "patience": 30, "filters": filters,
        },
    }  # fmt: skip
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    callbacks = [{"class_path": "FactoryWriter"}]
    path = tmp_path / "factory.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "f",
                "model": model,
                "data": data,
                "trainer": {"callbacks": callbacks, **quiet},
            }
        )
    )
    return f"--config={path}"


@pytest.fixture
def predict(cli, config, tmp_path):
    """Makes a set; returns its directory."""

    def run(name: str, *settings: str) -> Path:
        cli("predict", config, f"--data.out={tmp_path / name}", *settings)
        return tmp_path / name

    return run


def rows(out: Path, name: str = "manifest") -> list[dict]:
    return pq.read_table(out / f"{name}.parquet").to_pylist()


def test_one_and_two_processes_and_a_killed_one_make_the_same_set(predict):
    """Every byte, of the pictures, the tables and the card."""

    def predict_and_die() -> None:
        step = PalmFactory.predict_step
        calls: list[int] = []

        def step_or_die(self, batch, batch_idx):
            calls.append(batch["kind"] == "capture")
            if sum(calls) == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self, batch, batch_idx)

        PalmFactory.predict_step = step_or_die
        predict("killed/set")

    one = content(predict("one/set"))
    assert {"manifest.parquet", "attempts.parquet", "factory.json", "README.md"} < set(one)
    two = predict("two/set", *PROCESSES)
    assert content(two) == one
    assert in_a_process(predict_and_die) == -signal.SIGKILL
    killed = two.parents[1] / "killed/set"
    assert list(killed.rglob("*.png")) and not (killed / "manifest.parquet").exists()
    assert content(predict("killed/set", *PROCESSES)) == one
    self_made = scan(str(killed), "folder")
    assert self_made.problems == {}
    assert len(self_made.records) == PALMS * CAPTURES
    assert len({record.identity for record in self_made.records}) == PALMS
    assert {"consistency", "not needed"} <= {row["reason"] for row in rows(killed, "attempts")}


def test_a_generator_and_a_dial_by_their_checkpoints_are_in_every_row(predict, checkpoints):
    settings = [
        f"--model.generator={checkpoints['generator']}",
        f"--model.controlnet={checkpoints['dial']}", "--model.similarity=0.5", "--data.seed=3",
        "--data.num_identities=2", "--data.filters.uniqueness=1.0", "--data.shard_identities=2",
        "--data.filters.consistency=[-1,1]",
    ]  # fmt: skip
    out = predict("one", *settings)
    (shard,) = out.glob("*.tar")
    for row in rows(out):
        assert row["shard"] == shard.name
        assert row["controlnet"] == checkpoints["dial"]
        assert row["generator"] == checkpoints["generator"]
        assert len(row["controlnet_sha256"]) == len(row["generator_sha256"]) == 64
        assert len(row["recogniser_sha256"]) == len(row["controlnet.recogniser_sha256"]) == 64
        assert row["controlnet.similarity"] == 0.5 and row["recogniser"] == "synthetic-only"
        assert row["controlnet.num_inference_steps"] == row["generator.num_inference_steps"] == 2
    before = content(out)
    predict("one", *settings)  # nothing is left to do
    assert content(out) == before


@pytest.mark.parametrize(
    ("settings", "error", "what"),
    [
        (["--model.controlnet=no.ckpt"], CheckpointError, r"model.controlnet: no checkpoint"),
        (["--model.controlnet={generator}"], CheckpointError, "of IdentityGenerator, not of"),
        (["--model.generator={plain}"], CheckpointError, "of IdentityControlNet, not of"),
        (["--model.generator=no.ckpt"], CheckpointError, "model.generator: no checkpoint"),
        (["--model.generator=world:mars"], ConfigError, "model.generator: .*mars"),
        (["--data.image_size=64"], ConfigError, r"image_size: 64, but IdentityControlNet .* 32"),
        (["--model.similarity=0.5"], ConfigError, "model.similarity: .* has no dial"),
        (["--model.similarity=1.5"], ConfigError, r"1.5 is not in \[-1, 1\]"),
        (["--model.shared_steps=1"], ConfigError, "adds no noise that could be shared"),
        (["--model.shared_steps=-1"], ConfigError, "shared_steps"),
        (["--model.num_inference_steps=0"], ConfigError, "num_inference_steps: 0"),
        (["--model.recogniser=mtcc"], ConfigError, "model.recogniser: mtcc makes codes"),
        (["--data.filters.lines=[0.9,0.1]"], ConfigError, r"data\.filters\.lines: .* must rise"),
        (["--data.captures=0"], ConfigError, "captures, .* must be 1 or more"),
        (["--data.shard_identities=-1"], ConfigError, "data.shard_identities must be"),
        (["--ckpt_path={plain}"], CheckpointError, "leave --ckpt_path out"),
        (["--trainer.callbacks=[]"], ConfigError, "FactoryWriter is missing"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    predict, checkpoints, tmp_path, settings, error, what
):
    with pytest.raises(error, match=what):
        predict("out", *(setting.format(**checkpoints) for setting in settings))
    assert not list((tmp_path).glob("out/*"))


@pytest.mark.parametrize(
    ("settings", "error", "what"),
    [
        (["--model.generator=no.ckpt"], CheckpointError, "model.generator: no checkpoint"),
        (["--model.recogniser=mtcc"], ConfigError, "model.recogniser: mtcc makes codes"),
        (["--model.eta=1.5"], ConfigError, r"model.eta: 1.5 is not in \[0, 1\]"),
        (["--model.shared_steps=-1"], ConfigError, "model.shared_steps: -1 is less than 0"),
        (["--model.controlnet={folder}", "--model.similarity=1"], ConfigError, "has no dial"),
        (["--model.controlnet={folder}", "--data.image_size=64"], ConfigError, "was trained for"),
        (["--model.controlnet=pretrained"], ConfigError, "image_size: 32, but .* for 64 pixels"),
        (["--trainer.callbacks=[]"], ConfigError, "FactoryWriter is missing"),
        (["--data.out={tmp_path}"], ConfigError, "data.out: .* no factory made"),
        (["--data=GenerationDataModule", "--data.image_size=32"], ConfigError, "is for FactoryDa"),
    ],
)  # fmt: skip
def test_what_needs_no_model_to_be_known_is_refused_before_one_is_loaded(
    predict, tmp_path, monkeypatch, settings, error, what
):
    for load in ("load_controlnet", "load_generator"):
        monkeypatch.setattr(f"palmforge.modules.palm_factory.{load}", never)
    folder = tmp_path / "controlnet"
    controlnets.ready().export(folder)
    with pytest.raises(error, match=what):
        predict("out", *(setting.format(folder=folder, tmp_path=tmp_path) for setting in settings))


def test_other_settings_are_refused_before_a_model_is_loaded(predict, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "factory.json").write_text('{"format_version": 1, "size": 32, "seed": 9}')
    monkeypatch.setattr("palmforge.modules.palm_factory.load_controlnet", never)
    with pytest.raises(ConfigError, match=r"captures: not told there, 3 now; .* 9 there, 1 now"):
        predict("out")


def test_weights_of_the_package_are_known_by_their_content():
    told = PalmFactory().digests()
    assert told == {
        "controlnet_sha256": checkpoint_digest(PRETRAINED_PATH),
        "generator_sha256": checkpoint_digest(EMBEDDED_PATH),
        "recogniser_sha256": checkpoint_digest(EMBEDDED["synthetic-only"]),
    }
    assert PalmFactory(generator="world:IF").digests()["generator_sha256"] is None


def test_without_a_logger_nothing_lies_beside_the_set(predict, tmp_path):
    before = set(tmp_path.iterdir())
    out = predict("out", "--trainer.logger=false", "--data.num_identities=1")
    assert set(tmp_path.iterdir()) - before == {out} and (out / "manifest.parquet").exists()


def never(*_) -> None:
    pytest.fail("a model was loaded")


def test_training_it_is_refused(cli, config):
    with pytest.raises(ConfigError, match="nothing to train; use predict"):
        cli("fit", config)


def test_a_filter_that_rejects_everything_stops_with_the_histogram(predict, tmp_path):
    with pytest.raises(DataError) as error:
        predict("out", "--data.filters.lines=[0.9,1.0]")
    for words in ("references were all rejected (lines", "<- limit 0.9", "data.filters.lines"):
        assert words in str(error.value)


def test_pictures_that_are_not_finite_are_no_captures(predict, monkeypatch):
    """A checkpoint that diverged: black pictures have no contrast."""

    def sample(self, prompts, *_):
        return torch.zeros(len(prompts), 3, SIZE, SIZE, dtype=torch.uint8)

    monkeypatch.setattr("palmforge.modules.palm_factory.IdentityControlNet.sample", sample)
    with pytest.raises(DataError, match=r"captures were all rejected \(contrast"):
        predict("out", "--data.filters.contrast=[0.02,0.5]")
