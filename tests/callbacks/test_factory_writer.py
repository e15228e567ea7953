"""What a factory keeps, how it goes on, and whose directories it leaves alone."""

from __future__ import annotations

import errno
import json
from dataclasses import replace

import lightning as L
import pyarrow.parquet as pq
import pytest
import torch
from factories import FILTERS, SIZE, content, paint, score
from torch.utils.data import DataLoader

from palmforge.callbacks import FactoryWriter, ImageWriter
from palmforge.data.factory import store
from palmforge.data.factory.datamodule import FactoryDataModule
from palmforge.data.factory.plan import WAIT
from palmforge.data.generation.plan import GenerationPlan
from palmforge.errors import ConfigError, DataError

TWO = {"devices": 2, "strategy": "ddp_fork"}


class Painter(L.LightningModule):
    """A factory without networks; fails in its `fail_at`-th batch that does not wait."""

    makes_sets = True

    def __init__(self, fail_at: int | None = None, **told) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.provenance = {"controlnet": "a.ckpt", "generator": "world:IF", "guidance_scale": 3.0}
        self.provenance |= told
        self.sha = "ab" * 32
        self.fail_at = fail_at
        self.made: list[str] = []

    def digests(self):
        return {"controlnet_sha256": self.sha, "generator_sha256": None}

    def predict_step(self, batch, batch_idx):
        if batch["kind"] == WAIT:
            return {"kind": WAIT}
        if len(self.made) == self.fail_at:
            raise RuntimeError("killed")
        self.made.append(batch["job"].name)
        image = torch.from_numpy(paint(batch)).permute(0, 3, 1, 2)
        return {"kind": batch["kind"], "job": batch["job"], "image": image, "rows": score(batch)}


def data(num: int = 5, captures: int = 3, seed: int = 10, **settings) -> FactoryDataModule:
    own = {"batch_size": 4, "filters": FILTERS, "max_attempts": 3, "image_size": SIZE, "seed": seed}
    return FactoryDataModule(num, captures, **{**own, **settings})


def generate(out, model=None, datamodule=None, callbacks=None, **settings) -> Painter:
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[FactoryWriter(out and str(out))] if callbacks is None else callbacks, **settings,
    )  # fmt: skip
    model = model or Painter()
    trainer.predict(model, datamodule=datamodule or data(), return_predictions=False)
    return model


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "set"
    generate(out)
    return out


def test_a_set_is_pictures_tables_settings_and_a_card(one):
    names = {name for name in content(one) if not name.startswith(".references")}
    pictures = {name for name in names if name.endswith(".png")}
    assert len(pictures) == 15 and len({name.split("/")[0] for name in pictures}) == 5
    others = {"manifest.parquet", "attempts.parquet", "factory.json", "README.md"}
    assert names == pictures | others
    rows = pq.read_table(one / "manifest.parquet").to_pylist()
    assert {row["file"] for row in rows} == pictures
    assert {row["guidance_scale"] for row in rows} == {3.0}
    assert (one / "README.md").read_text().split("---\n")[2].startswith("# set\n")


def test_two_processes_write_the_files_of_one(one, tmp_path):
    generate(tmp_path / "set", **TWO)
    assert content(tmp_path / "set") == content(one)


@pytest.mark.parametrize("fail_at", [1, 3, 6])
def test_a_killed_run_goes_on_where_it_was(one, tmp_path, fail_at):
    out, killed = tmp_path / "set", Painter(fail_at)
    with pytest.raises(RuntimeError, match="killed"):
        generate(out, killed)
    rest = generate(out)
    assert len(killed.made) == fail_at
    assert not set(rest.made) & set(killed.made)  # nothing twice
    assert content(out) == content(one)


def test_a_run_with_a_limit_of_batches_is_no_end(one, tmp_path):
    """`--trainer.fast_dev_run`: what is not whole yet must not be swept away."""
    out = tmp_path / "set"
    generate(out, limit_predict_batches=7)
    assert not (out / "manifest.parquet").exists() and list(out.rglob("*.png"))
    generate(out)
    assert content(out) == content(one)


def test_a_set_that_is_done_is_left_as_it_is(one):
    before = content(one)
    stamps = {p: p.stat().st_mtime_ns for p in one.glob("0*/*.png")}
    assert generate(one).made == []
    assert content(one) == before
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


def test_it_grows_and_is_never_made_smaller(tmp_path, one):
    generate(tmp_path / "large/set", datamodule=data(9))
    out = tmp_path / "grown/set"
    generate(out)
    generate(out, datamodule=data(9))
    assert content(out) == content(tmp_path / "large/set")
    with pytest.raises(ConfigError, match="made for more palms than 5 and has 9 already"):
        generate(out)
    assert content(out) == content(tmp_path / "large/set")


def test_a_larger_set_that_was_killed_is_not_finished_as_a_smaller_one(tmp_path):
    out = tmp_path / "set"
    with pytest.raises(RuntimeError, match="killed"):
        generate(out, Painter(19), data(12))
    assert len(list(out.glob("0*"))) > 4
    with pytest.raises(ConfigError, match=r"data\.num_identities: .* made for more palms"):
        generate(out, datamodule=data(2))


@pytest.mark.parametrize(
    ("model", "changed", "what"),
    [
        (Painter(guidance_scale=5.0), {}, "guidance_scale: 3.0 there, 5.0 now"),
        (Painter(generator="world:MN"), {}, "generator: 'world:IF' there, 'world:MN' now"),
        (None, {"seed": 1}, "seed: 10 there, 1 now"),
        (None, {"captures": 4}, "captures: 3 there, 4 now"),
        (None, {"batch_size": 2}, "batch_size"),
        (None, {"prompts": ["a palm"]}, "; prompts_sha256|prompts_sha256"),
        (None, {"shard_identities": 2}, "shard_identities: 0 there, 2 now"),
    ],
)
def test_other_settings_are_refused_by_name(one, model, changed, what):
    before = content(one)
    with pytest.raises(ConfigError, match=what) as error:
        generate(one, model, data(**changed))
    assert "data.out" in str(error.value)
    assert content(one) == before


def test_a_checkpoint_is_known_by_its_content_and_not_by_its_name(one):
    generate(one, Painter(controlnet="moved.ckpt"))
    other = Painter()
    other.sha = "cd" * 32
    with pytest.raises(ConfigError, match="controlnet_sha256: abababab… there, cdcdcdcd… now"):
        generate(one, other)
    generate(one)  # the manifest tells the name of the last run


def test_two_processes_refuse_as_one_does_and_hang_not(one):
    with pytest.raises(Exception, match="seed: 10 there, 1 now"):
        generate(one, datamodule=data(seed=1), **TWO)


def test_two_processes_lose_patience_together(tmp_path):
    asked = data(patience=8, filters=replace(FILTERS, lines=(0.9, 1.0)))
    with pytest.raises(Exception, match="references were all rejected"):
        generate(tmp_path / "set", datamodule=asked, **TWO)


def test_directories_of_others_are_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"data\.out: .* holds files that no factory made"):
        generate(tmp_path)
    assert set(content(tmp_path)) == {"mine.txt"}


def test_a_set_of_an_image_writer_is_refused_and_it_refuses_ours(one, tmp_path):
    class Plans(L.LightningDataModule):
        plan = GenerationPlan(["a"], 2, 2)

        def predict_dataloader(self):
            return DataLoader(self.plan, batch_size=None)

    class Images(L.LightningModule):
        def predict_step(self, batch, batch_idx):
            return {**batch, "image": torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)}

    out = tmp_path / "images"
    generate(None, Images(), Plans(), [ImageWriter(str(out))])
    before = content(out)
    with pytest.raises(ConfigError, match="no factory made"):
        generate(out)
    assert content(out) == before
    with pytest.raises(ConfigError, match="not generated here"):
        generate(None, Images(), Plans(), [ImageWriter(str(one))])


def test_other_modules_and_data_are_told_apart(tmp_path):
    class Other(L.LightningModule):
        def predict_step(self, batch, batch_idx):
            return batch

    with pytest.raises(ConfigError, match="FactoryDataModule is for PalmFactory, not for Other"):
        generate(tmp_path / "set", Other())
    with pytest.raises(ConfigError, match="FactoryWriter is missing"):
        generate(None, callbacks=[])
    with pytest.raises(ConfigError, match=r"data\.out must be given"):
        generate(None)


def test_a_full_disk_says_how_many_are_there_and_how_to_go_on(tmp_path, monkeypatch, one):
    save, written = store.write_png, []

    def save_some(path, pixels):
        if len(written) == 18:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        save(path, pixels)

    monkeypatch.setattr(store, "write_png", save_some)
    with pytest.raises(DataError, match=r"\d+ of 15 images are written.* goes on"):
        generate(tmp_path / "set")
    monkeypatch.undo()
    generate(tmp_path / "set")
    assert content(tmp_path / "set") == content(one)


def test_damaged_settings_are_named(tmp_path):
    out = tmp_path / "set"
    generate(out, datamodule=data(1))
    assert json.loads((out / "factory.json").read_text())["captures"] == 3
    (out / "factory.json").write_text("{")
    with pytest.raises(ConfigError, match=r"factory\.json: damaged"):
        generate(out, datamodule=data(1))


def test_the_progress_tells_how_far_it_is_and_what_was_rejected(tmp_path, caplog):
    with caplog.at_level("INFO"):
        generate(tmp_path / "set")
    lines = [r.message for r in caplog.records if "palms" in r.message]
    assert "0 of 5 palms, 0 of 15 images; rejected: none" in lines[0]
    assert "5 of 5 palms, 15 of 15 images; rejected: " in lines[-2] and "left" in lines[-2]
    rejected, spare = lines[-2].split("; not needed: ")
    attempts = pq.read_table(tmp_path / "set/attempts.parquet")["reason"].to_pylist()
    assert int(spare.split(";")[0]) == attempts.count("not needed") > 0
    assert "not needed" not in rejected
    assert lines[-1].startswith("15 images of 5 palms in ")
