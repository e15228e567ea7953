"""What the callback says to wandb, and when it keeps silent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from callbacks.test_image_writer import Painter, Plans
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from torch.utils.data import DataLoader, TensorDataset

from palmforge.callbacks import (
    DeidentificationWriter,
    FactoryWriter,
    ImageWriter,
    LastCheckpoint,
    Lineage,
)
from palmforge.callbacks.lineage import written_folder
from palmforge.data.digests import checkpoint_digest


class Run:
    """Keeps what it is told, as `WandbLogger.experiment`."""

    def __init__(self, offline: bool = True, broken: bool = False) -> None:
        self.offline, self.broken = offline, broken
        self.calls: list[tuple[str, Any, list[str]]] = []

    def log_artifact(self, artifact, aliases):
        if self.broken:
            raise ConnectionError("no route to host\nsecond line")
        self.calls.append(("made", artifact, aliases))

    def use_artifact(self, artifact):
        assert not self.offline, "wandb refuses it offline"
        self.calls.append(("used", artifact, []))

    def _log_artifact(self, artifact, aliases, is_user_created, use_after_commit):
        assert self.offline and use_after_commit
        self.calls.append(("used", artifact, aliases))

    def log(self, metrics):
        pass

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(what, artifact.type) for what, artifact, _ in self.calls]


class Small(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.teacher_ckpt: str | None = None

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).sum()

    def test_step(self, batch, batch_idx):
        self.log("test/eer", 0.25)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


LOADER = DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2)


def trainer(folder: Path, run: Run | None, *callbacks: L.Callback, **settings) -> L.Trainer:
    loggers: list = [CSVLogger(str(folder), name="q/student")]
    if run is not None:
        logger = WandbLogger(save_dir=str(folder))
        logger._experiment = run  # type: ignore[assignment]
        loggers.append(logger)
    return L.Trainer(
        accelerator="cpu", logger=loggers, callbacks=[LastCheckpoint(), *callbacks], max_steps=2,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("offline", [True, False])
def test_inputs_are_used_and_checkpoints_made(tmp_path, offline):
    run, module = Run(offline), Small()
    module.teacher_ckpt = str(tmp_path / "t.ckpt")
    torch.save({}, module.teacher_ckpt)
    trainer(tmp_path, run, Lineage()).fit(module, LOADER)
    (_, teacher, _), (_, model, aliases) = run.calls
    assert run.told == [("used", "model"), ("made", "model")]
    digest = checkpoint_digest(tmp_path / "q/student/version_0/checkpoints/last.ckpt")
    assert [entry.ref for entry in model.manifest.entries.values()] == [f"sha256:{digest}"]
    assert aliases == ["last", f"sha256-{digest[:12]}"]
    (parent,) = model.metadata["parents"]
    assert parent["sha256"] == checkpoint_digest(tmp_path / "t.ckpt")
    assert (teacher.name, parent["name"], model.name) == ("t", "t", "q-student")


def test_weights_are_sent_only_when_asked(tmp_path):
    run = Run()
    trainer(tmp_path, run, Lineage(upload=True)).fit(Small(), LOADER)
    (_, model, aliases), (_, files, same) = run.calls
    assert (model.name, files.name, files.type) == ("q-student", "q-student.files", "model-files")
    assert aliases == same  # so `best` of the one leads to the file of the other
    (entry,) = files.manifest.entries.values()
    assert entry.path == "last.ckpt" and entry.ref is None
    assert files.metadata["sha256"] == model.metadata["sha256"]
    assert all(entry.ref for entry in model.manifest.entries.values())


def test_a_test_after_a_fit_uses_what_the_run_has_made(tmp_path):
    run, module = Run(), Small()
    fitted = trainer(tmp_path, run, Lineage())
    fitted.fit(module, LOADER)
    fitted.test(module, LOADER, ckpt_path=f"{fitted.log_dir}/checkpoints/last.ckpt", verbose=False)
    assert run.told == [("made", "model"), ("made", "report")]  # no circle of a run and its model
    _, report, _ = run.calls[1]
    assert report.metadata["metrics"] == {"test/eer": 0.25}
    assert report.metadata["made_from"][0]["role"] == "checkpoint"


def test_a_generated_set_is_made_and_never_sent(tmp_path):
    run, out = Run(), tmp_path / "palms"
    callbacks = [Lineage(upload=True), ImageWriter(str(out))]
    predicting = trainer(tmp_path, run, *reversed(callbacks))
    predicting.predict(Painter(), datamodule=Plans(5), return_predictions=False)
    ((what, made, _),) = run.calls
    assert (what, made.name, made.type) == ("made", "palms", "generated-set")
    assert made.metadata["images"] == 5
    assert made.metadata["how"] == "generated"
    digest = checkpoint_digest(out / "manifest.parquet")
    assert [entry.ref for entry in made.manifest.entries.values()] == [f"sha256:{digest}"]


@pytest.mark.parametrize("kind", [ImageWriter, FactoryWriter, DeidentificationWriter])
def test_each_writer_is_asked_where_it_writes(tmp_path, kind):
    data = SimpleNamespace(plan=object(), out=None)
    stub: Any = SimpleNamespace(datamodule=data, callbacks=[Lineage(), kind(str(tmp_path))])
    assert written_folder(stub) == tmp_path
    data.out = str(tmp_path / "wins")
    assert written_folder(stub) == tmp_path / "wins"


def test_a_run_is_worth_more_than_its_entry(tmp_path):
    with pytest.warns(UserWarning, match="Lineage: wandb was not told: no route to host$"):
        trainer(tmp_path, Run(broken=True), Lineage()).fit(Small(), LOADER)
    assert (tmp_path / "q/student/version_0/checkpoints/last.ckpt").is_file()


def test_an_interrupted_fit_has_made_nothing_yet(tmp_path):
    class Stop(L.Callback):
        def on_train_batch_end(self, *_):
            raise RuntimeError("killed")

    run = Run()
    with pytest.raises(RuntimeError, match="killed"):
        trainer(tmp_path, run, Lineage(), Stop()).fit(Small(), LOADER)
    assert run.calls == []


def test_without_wandb_nothing_is_read_or_told(tmp_path, monkeypatch):
    monkeypatch.setattr("palmforge.callbacks.lineage_models.checkpoint_digest", pytest.fail)
    trainer(tmp_path, None, Lineage()).fit(Small(), LOADER)
