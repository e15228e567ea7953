"""What `predict` generates, on disk."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import lightning as L
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from palmforge.callbacks import ImageWriter, image_writer
from palmforge.data.generation.plan import GenerationPlan, image_seed
from palmforge.data.layouts import scan
from palmforge.errors import ConfigError, DataError

SIZE = 6
TWO = {"devices": 2, "strategy": "ddp_fork"}


class Painter(L.LightningModule):
    """Paints the seed as colour; fails in its `fail_at`-th batch."""

    image_size = SIZE

    def __init__(self, fail_at: int | None = None, guidance_scale: float = 3.0) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.provenance = {"scheduler": "DDIM", "guidance_scale": guidance_scale}
        self.fail_at = fail_at

    def predict_step(self, batch, batch_idx):
        if batch_idx == self.fail_at:
            raise RuntimeError("killed")
        colour = torch.stack([batch["seed"] >> shift & 255 for shift in (0, 8, 16)], 1)
        image = colour.to(torch.uint8)[:, :, None, None].expand(-1, -1, SIZE, SIZE)
        return {**batch, "image": image}


class Plans(L.LightningDataModule):
    def __init__(self, num: int = 21, prompts: tuple[str, ...] = ("a", "b"), seed: int = 0) -> None:
        super().__init__()
        self.num, self.prompts, self.seed = num, prompts, seed

    def setup(self, stage):
        self.plan = GenerationPlan(self.prompts, self.num, 4, self.seed)

    def predict_dataloader(self):
        self.batches_made = list(self.plan.batches)
        return DataLoader(self.plan, batch_size=None)


def generate(out: Path | None, model=None, data=None, checkpoint=None, root=None, **settings):
    """One `predict`; returns the DataModule."""
    data = data or Plans()
    trainer = L.Trainer(
        accelerator="cpu", callbacks=[ImageWriter(out and str(out))], logger=False,
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.predict(
        model or Painter(), datamodule=data, ckpt_path=checkpoint, return_predictions=False
    )
    return data


def content(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.fixture
def one(tmp_path) -> Path:
    generate(tmp_path / "one")
    return tmp_path / "one"


def test_a_set_is_pictures_by_index_and_a_manifest(one):
    names = [f"{i:06d}/000.png" for i in range(21)]
    assert set(content(one)) == {*names, "manifest.parquet", "generation.json"}
    rows = pq.read_table(one / "manifest.parquet").to_pylist()
    assert [row["identity"] for row in rows] == list(range(21))
    seed = image_seed(0, 20)
    assert rows[20] == {
        "file": names[20], "index": 20, "identity": 20, "prompt": "a", "seed": seed,
        "checkpoint": None, "size": SIZE, "scheduler": "DDIM", "guidance_scale": 3.0,
    }  # fmt: skip
    pixels = np.asarray(Image.open(one / names[20]))
    assert (pixels == [seed >> shift & 255 for shift in (0, 8, 16)]).all()
    records = scan(str(one)).records  # a layout again
    assert [record.identity for record in records] == [f"{i:06d}" for i in range(21)]


def test_two_processes_write_the_files_of_one(one, tmp_path):
    generate(tmp_path / "two", **TWO)
    assert content(tmp_path / "two") == content(one)


def test_each_batch_goes_to_one_process(tmp_path):
    class Notes(Painter):
        def predict_step(self, batch, batch_idx):
            (tmp_path / f"{self.global_rank} {batch['index'][0]}").touch()
            return super().predict_step(batch, batch_idx)

    generate(tmp_path / "out", Notes(), **TWO)
    notes = sorted(path.name.split() for path in tmp_path.iterdir() if path.name != "out")
    assert notes == sorted([str(batch % 2), str(4 * batch)] for batch in range(6))


def test_a_set_smaller_than_the_processes_want_is_made_all_the_same(tmp_path):
    generate(tmp_path / "one", data=Plans(3))
    generate(tmp_path / "two", data=Plans(3), **TWO)
    assert content(tmp_path / "two") == content(tmp_path / "one")
    assert pq.read_table(tmp_path / "two/manifest.parquet").num_rows == 3


def test_a_killed_run_goes_on_where_it_was(one, tmp_path):
    out = tmp_path / "again"
    with pytest.raises(RuntimeError, match="killed"):
        generate(out, Painter(fail_at=2))
    assert len(list(out.glob("0*/000.png"))) == 8
    before = {p: p.stat().st_mtime_ns for p in out.glob("0*/000.png")}
    (out / "000009").mkdir()
    (out / "000009" / ".000.png.x.png").write_bytes(b"half")  # what SIGKILL leaves
    data = generate(out)
    assert data.batches_made == [2, 3, 4, 5]
    assert content(out) == content(one)
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_two_processes_go_on_with_what_one_began(one, tmp_path):
    out = tmp_path / "again"
    with pytest.raises(RuntimeError, match="killed"):
        generate(out, Painter(fail_at=5))  # one batch is left, for two processes
    generate(out, **TWO)
    assert content(out) == content(one)


def test_a_set_that_is_done_is_left_as_it_is(one, recwarn):
    before = content(one)
    stamps = {p: p.stat().st_mtime_ns for p in one.glob("0*/000.png")}
    assert generate(one).batches_made == []
    assert generate(one, **TWO) and content(one) == before
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


def test_a_picture_that_was_deleted_is_made_again(one):
    before = content(one)
    (one / "000006" / "000.png").unlink()
    assert generate(one).batches_made == [1]
    assert content(one) == before


def test_a_set_can_grow_and_is_then_the_larger_one(tmp_path, one):
    generate(tmp_path / "large", data=Plans(30))
    data = generate(one, data=Plans(30))
    assert data.batches_made == [5, 6, 7]  # batch 5 had but one picture of the smaller set
    assert content(one) == content(tmp_path / "large")


@pytest.mark.parametrize(
    ("model", "data", "what"),
    [
        (Painter(guidance_scale=5.0), Plans(), "provenance.guidance_scale: 3.0 there, 5.0 now"),
        (Painter(), Plans(seed=1), "seed: 0 there, 1 now"),
        (Painter(), Plans(prompts=("a", "c")), "prompts_sha256"),
    ],
)
def test_other_settings_are_refused_by_name(one, model, data, what):
    before = content(one)
    with pytest.raises(ConfigError, match=what) as error:
        generate(one, model, data)
    assert "Choose another with --data.out" in str(error.value)
    assert content(one) == before


def test_two_processes_refuse_as_one_does_and_hang_not(one):
    with pytest.raises(Exception, match="seed: 0 there, 1 now"):
        generate(one, data=Plans(seed=1), **TWO)


def test_foreign_files_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not generated here"):
        generate(tmp_path)
    assert set(content(tmp_path)) == {"mine.txt"}


def test_the_checkpoint_is_named_and_its_content_decides(tmp_path):
    trainer = L.Trainer(accelerator="cpu", logger=False, barebones=True)
    trainer.strategy.connect(model := Painter())
    paths = [tmp_path / "a.ckpt", tmp_path / "b.ckpt"]
    for path in paths:
        trainer.save_checkpoint(path, weights_only=True)
        model.weight.data += 1
    out = tmp_path / "out"
    generate(out, data=Plans(2), checkpoint=str(paths[0]))
    assert pq.read_table(out / "manifest.parquet")["checkpoint"].to_pylist() == [str(paths[0])] * 2
    digest = hashlib.sha256(paths[0].read_bytes()).hexdigest()
    assert json.loads((out / "generation.json").read_text())["checkpoint_sha256"] == digest
    for num in (2, 9):  # nothing to do, and something
        with pytest.raises(ConfigError, match="checkpoint_sha256"):
            generate(out, data=Plans(num), checkpoint=str(paths[1]))
    assert len(list(out.glob("0*/000.png"))) == 2


def test_other_weights_under_the_same_name_are_refused(tmp_path):
    class Named(Painter):
        """As a ControlNet by its path, which `provenance` tells."""

        def digests(self):
            return {"controlnet_sha256": self.sha, "lora_sha256": None}

    model, out = Named(), tmp_path / "out"
    model.sha = "ab" * 32
    generate(out, model, Plans(2))
    assert json.loads((out / "generation.json").read_text())["controlnet_sha256"] == model.sha
    before = content(out)
    generate(out, model, Plans(2))
    model.sha = "cd" * 32
    with pytest.raises(ConfigError, match="controlnet_sha256: abababab… there, cdcdcdcd… now"):
        generate(out, model, Plans(9))
    assert content(out) == before


def test_what_a_module_refuses_at_its_start_claims_no_directory(tmp_path):
    class Refusing(Painter):
        def on_predict_start(self):
            raise ConfigError("not trained")

    with pytest.raises(ConfigError, match="not trained"):
        generate(tmp_path / "out", Refusing())
    assert content(tmp_path / "out") == {}


def test_a_set_of_other_palms_is_not_added_to(tmp_path):
    class Named(GenerationPlan):
        names = ("p0", "p1", "p2", "p3")

        def columns(self, index):
            return {"reference": self.names[index]}

    class Others(Plans):
        def setup(self, stage):
            self.plan = Named(self.prompts, self.num, 2, self.seed)

    generate(tmp_path / "out", data=Others(2))
    generate(tmp_path / "out", data=Others(4))  # more of them are
    Named.names = ("p0", "another", "p2", "p3")
    with pytest.raises(ConfigError, match=r"000001/000\.png has the reference 'p1'.*'another' now"):
        generate(tmp_path / "out", data=Others(4))


def test_a_full_disk_says_how_many_are_there_and_how_to_go_on(tmp_path, monkeypatch, one):
    out, save, written = tmp_path / "full", image_writer.write_png, []

    def save_nine(path, pixels):
        if len(written) == 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        save(path, pixels)

    monkeypatch.setattr(image_writer, "write_png", save_nine)
    with pytest.raises(DataError, match=r"8 of 21 images are written.*data.out=.*full goes on"):
        generate(out)
    monkeypatch.undo()
    generate(out)
    assert content(out) == content(one)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_made(tmp_path):
    model = Painter()
    model.image_size = 1_000_000
    with pytest.raises(DataError, match=r"ImageWriter.directory: .* MiB are needed"):
        generate(tmp_path / "out", model)
    assert content(tmp_path / "out") == {}


def test_without_a_directory_it_is_in_the_runs_folder_and_without_a_run_it_must_be_given(tmp_path):
    with pytest.raises(ConfigError, match=r"ImageWriter\.directory must be given"):
        generate(None)
    trainer = L.Trainer(
        accelerator="cpu", callbacks=[ImageWriter()], enable_progress_bar=False,
        logger=L.pytorch.loggers.CSVLogger(str(tmp_path)), enable_model_summary=False,
    )  # fmt: skip
    trainer.predict(Painter(), datamodule=Plans(2), return_predictions=False)
    assert (Path(trainer.log_dir) / "predictions/images/000001/000.png").exists()


def test_the_predictions_of_other_modules_are_left_alone(tmp_path):
    class Other(Painter):
        def predict_step(self, batch, batch_idx):
            return {"index": batch["index"]}

    class NoPlan(L.LightningDataModule):
        def predict_dataloader(self):
            return DataLoader(GenerationPlan(["a"], 4, 4), batch_size=None)

    generate(tmp_path / "none", Painter(), NoPlan())
    assert not (tmp_path / "none").exists()
    generate(tmp_path / "other", Other(), Plans(4))
    assert set(content(tmp_path / "other")) == {"generation.json"}


def test_damaged_files_of_ours_are_named(one, tmp_path):
    (one / "manifest.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"manifest\.parquet: damaged"):
        generate(one)
    (one / "generation.json").write_text("{")
    with pytest.raises(ConfigError, match=r"generation\.json: damaged"):
        generate(one)
