"""What is written, what never is, how a run goes on, and whose folders are left alone."""

from __future__ import annotations

import csv
import errno
import json
import shutil

import exemplars
import lightning as L
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from factories import content
from hand_photographs import hand, write_folder
from pictures import save
from PIL import Image, ImageCms

from palmforge.callbacks import DeidentificationWriter
from palmforge.data.deidentification import output
from palmforge.data.deidentification.datamodule import DeidentificationDataModule
from palmforge.data.deidentification.photographs import Preparation
from palmforge.data.deidentification.plan import DeidentificationPlan
from palmforge.data.images import read_image
from palmforge.errors import ConfigError, DataError
from palmforge.modules import Deidentifier

TWO = {"devices": 2, "strategy": "ddp_fork"}
SIDE = exemplars.SIZE
DONE = ["a.png", "cut.png", "grey.png", "sub/b.png", "sub/two.png"]
TABLES = {"manifest.parquet", "problems.csv", "deidentification.json"}


class Painter(L.LightningModule):
    """Paints each palm in the colour of its seed; fails in its `fail_at`-th group."""

    def __init__(self, fail_at: int | None = None, hole: str = "", **told) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.provenance = {"model": "m", "alpha": 0.1, **told}
        self.sha = "ab" * 32
        self.fail_at, self.hole = fail_at, hole
        self.made: list[str] = []

    def digests(self):
        return {"model_sha256": self.sha}

    def repaint(self, hands, seeds):
        colours = [torch.tensor([s & 255, s >> 8 & 255, s >> 16 & 255]) for s in seeds]
        return [c.to(torch.uint8)[:, None, None].expand(3, SIDE, SIDE) for c in colours]

    def predict_step(self, batch, batch_idx):
        if batch_idx == self.fail_at:
            raise RuntimeError("killed")
        photographs = batch["photographs"]
        self.made += [photograph.source for photograph in photographs]
        found = [[self.repaint([h] * len(h.seeds), h.seeds) for h in p.hands] for p in photographs]
        for photograph, hands in zip(photographs, found, strict=True):
            if photograph.source == self.hole:
                hands[-1][-1] = None
        return {"photographs": photographs, "repainted": found}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("pictures") / "in")


def deidentify(root, out, model=None, writer=None, settings=None, **trainer) -> Painter:
    own = {"image_size": SIDE, "batch_size": 2, "num_workers": 0, **(settings or {})}
    data = DeidentificationDataModule(str(root), str(out), **own)
    loop = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[DeidentificationWriter(**(writer or {}))], **trainer,
    )  # fmt: skip
    model = model or Painter()
    loop.predict(model, datamodule=data, return_predictions=False)
    return model


def problems(out) -> dict[str, str]:
    with (out / "problems.csv").open(newline="") as file:
        return {r["source"]: r["reason"] for r in csv.DictReader(file) if r["left_out"] == "yes"}


@pytest.fixture(scope="module")
def one(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "out"
    before = content(root)
    deidentify(root, out)
    assert content(root) == before  # the originals are never changed
    return out


def test_what_can_be_done_is_written_and_nothing_else(one):
    assert set(content(one)) == {*DONE, *TABLES}
    assert problems(one) == {
        "bad.jpg": "unreadable: not a picture in a format that Pillow knows",
        "none.png": "no hand found",
        "notes.txt": "not a kind of picture that is read",
    }


def test_pixels_outside_the_masks_are_the_photographs(root, one):
    rows = {row["file"]: row for row in pq.read_table(one / "manifest.parquet").to_pylist()}
    sources = [rows[name]["source"] for name in DONE]
    plan = DeidentificationPlan(
        str(root), sources, 5, "default", "grabcut", Preparation(image_size=SIDE)
    )
    for name, photograph in zip(DONE, plan[0]["photographs"], strict=True):
        original, made = read_image(root / photograph.source)[0], read_image(one / name)[0]
        inside = np.zeros(original.shape[:2], bool)
        for found in photograph.hands:
            rows_, columns = found.box.inside(*original.shape[:2])
            inside[rows_, columns] |= found.full_mask
        np.testing.assert_array_equal(made[~inside], original[~inside])
        assert (made[inside] != original[inside]).any(-1).mean() > 0.9


def test_the_manifest_tells_hands_places_seeds_and_settings(one):
    rows = {row["file"]: row for row in pq.read_table(one / "manifest.parquet").to_pylist()}
    assert list(rows) == DONE
    two = rows["sub/two.png"]
    assert two["width"] == 320 and sorted(two["hands"]) == ["L", "R"]
    assert [len(quad) for quad in two["quads"]] == [8, 8] and len(set(two["seeds"])) == 2
    told = json.loads(two["settings"])
    assert told["alpha"] == 0.1 and told["exemplars"] == ["s", "m"] and told["feather"] == 0.01
    assert rows["grey.png"]["notes"] == ["grey: repainted in grey"]
    grey = read_image(one / "grey.png")[0]
    assert (grey == grey[..., :1]).all()


def test_two_processes_write_the_files_of_one(root, one, tmp_path):
    deidentify(root, tmp_path / "out", **TWO)
    assert content(tmp_path / "out") == content(one)


def test_two_processes_with_the_model_write_the_bits_of_one(root, tmp_path):
    for name, trainer in (("one", {}), ("two", TWO)):
        model = Deidentifier(exemplars.saved(), num_inference_steps=1, image_size=SIDE)
        deidentify(root, tmp_path / name, model, **trainer)
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.parametrize("fail_at", [0, 2])
def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(root, one, tmp_path, fail_at):
    out, killed = tmp_path / "out", Painter(fail_at)
    with pytest.raises(RuntimeError, match="killed"):
        deidentify(root, out, killed)
    assert not (out / "manifest.parquet").exists()
    rest = deidentify(root, out)
    assert len(killed.made) == 2 * fail_at and not set(killed.made) & set(rest.made)
    assert content(out) == content(one)


def test_what_is_done_is_left_as_it_is_and_what_is_lost_is_made_again(root, one, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(one, out)
    assert deidentify(root, out).made == []
    assert content(out) == content(one)
    (out / "sub/b.png").unlink()
    (out / "sub/.b.png.killed.png").write_bytes(b"half")
    assert "sub/b.png" in deidentify(root, out).made
    assert content(out) == content(one)


def test_a_killed_run_that_lost_a_picture_tells_of_its_others(root, one, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="killed"):
        deidentify(root, out, Painter(3))
    (out / "cut.png").unlink()  # of a group with another
    deidentify(root, out)
    assert content(out) == content(one)


def test_new_photographs_are_added(root, one, tmp_path):
    shutil.copytree(root, tmp_path / "in")
    shutil.copytree(one, tmp_path / "out")
    save(tmp_path / "in/zz.png", hand(4)[0])
    deidentify(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out/zz.png").exists()
    assert {**content(one), **content(tmp_path / "out")} == content(tmp_path / "out")


def test_several_variants_are_different_palms(root, tmp_path):
    deidentify(root, tmp_path / "out", settings={"variants": 3})
    rows = pq.read_table(tmp_path / "out/manifest.parquet").to_pylist()
    assert len(rows) == 15 and [r["file"] for r in rows[:3]] == ["a_00.png", "a_01.png", "a_02.png"]
    assert len({tuple(row["seeds"]) for row in rows[:3]}) == 3
    assert len({(tmp_path / "out" / row["file"]).read_bytes() for row in rows[:3]}) == 3


@pytest.mark.parametrize("place", ["in", "in/sub/out", "."])
def test_the_folder_of_the_photographs_is_refused(root, tmp_path, place):
    shutil.copytree(root, tmp_path / "x/in")
    before = content(tmp_path)
    with pytest.raises(ConfigError, match="nothing may mix with the originals"):
        deidentify(tmp_path / "x/in", tmp_path / "x" / place)
    assert content(tmp_path) == before


def test_other_settings_and_other_folders_are_refused(root, one, tmp_path):
    before = content(one)
    other = Painter()
    other.sha = "cd" * 32
    for model, settings, writer, what in (
        (Painter(alpha=0.5), {}, {}, r"alpha: 0.1 there, 0.5 now"),
        (other, {}, {}, "model_sha256"),
        (None, {"seed": 7}, {}, "seed: 0 there, 7 now"),
        (None, {"exemplars": ["f"]}, {}, "exemplars"),
        (None, {"variants": 2}, {}, "variants: 1 there, 2 now"),
        (None, {}, {"feather": 0.0}, "feather"),
        (None, {}, {"jpeg_quality": 90}, "jpeg_quality"),
    ):
        with pytest.raises(ConfigError, match=what):
            deidentify(root, one, model, writer, settings)
    assert content(one) == before
    save(tmp_path / "out/mine.png", hand()[0])
    with pytest.raises(ConfigError, match="not written here"):
        deidentify(root, tmp_path / "out")
    assert set(content(tmp_path)) == {"out/mine.png"}


def test_a_picture_that_is_not_finite_is_not_written(root, tmp_path):
    deidentify(root, tmp_path / "out", Painter(hole="sub/two.png"))
    assert not (tmp_path / "out/sub/two.png").exists()
    assert "not finite" in problems(tmp_path / "out")["sub/two.png"]


def test_a_picture_that_changes_meanwhile_is_not_written(root, tmp_path):
    shutil.copytree(root, tmp_path / "in")

    class Slow(Painter):
        def predict_step(self, batch, batch_idx):
            save(tmp_path / "in/a.jpg", hand(5)[0])
            (tmp_path / "in/cut.png").unlink(missing_ok=True)
            return super().predict_step(batch, batch_idx)

    deidentify(tmp_path / "in", tmp_path / "out", Slow(), settings={"batch_size": 9})
    told = problems(tmp_path / "out")
    assert "changed" in told["a.jpg"] and told["cut.png"].startswith("unreadable")
    assert not (tmp_path / "out/a.png").exists() and not (tmp_path / "out/cut.png").exists()


def test_exif_is_applied_and_gone_and_the_profile_stays(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0xA431] = 3, "Maker", "serial 123"
    exif.get_ifd(0x8825)[1] = "N"  # GPS
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    turned = np.ascontiguousarray(hand(0)[0][::-1, ::-1])
    save(tmp_path / "in/a.jpg", turned, exif=exif, icc_profile=profile, quality=95, comment=b"me")
    deidentify(tmp_path / "in", tmp_path / "out")
    with Image.open(tmp_path / "out/a.png") as made:
        assert set(made.info) == {"icc_profile"} and made.info["icc_profile"] == profile
        upright = np.asarray(made)
    original = read_image(tmp_path / "in/a.jpg")[0]
    assert (upright[:20] == original[:20]).all()
    assert b"serial" not in (tmp_path / "out/a.png").read_bytes()


def test_jpeg_is_written_where_it_is_asked_for(root, tmp_path):
    deidentify(root, tmp_path / "out", writer={"jpeg_quality": 95})
    with Image.open(tmp_path / "out/a.jpg") as made:
        assert made.format == "JPEG" and not made.getexif()
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_full_disk_says_how_far_it_came_and_how_to_go_on(root, one, tmp_path, monkeypatch):
    write, written = output.save_picture, []

    def save_some(path, *others):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write(path, *others)

    monkeypatch.setattr(output, "save_picture", save_some)
    with pytest.raises(DataError, match=r"\d of 7 photographs are written.* goes on"):
        deidentify(root, tmp_path / "out")
    monkeypatch.undo()
    deidentify(root, tmp_path / "out")
    assert content(tmp_path / "out") == content(one)


def test_damaged_tables_are_named(root, one, tmp_path):
    for name in ("manifest.parquet", "deidentification.json"):
        out = tmp_path / name / "out"
        shutil.copytree(one, out)
        (out / name).write_text("{")
        with pytest.raises((DataError, ConfigError), match="damaged"):
            deidentify(root, out)


def test_other_modules_are_told_apart(root, tmp_path):
    class Other(L.LightningModule):
        def predict_step(self, batch, batch_idx):
            return batch

    with pytest.raises(ConfigError, match="is for Deidentifier, not for Other"):
        deidentify(root, tmp_path / "out", Other())


def test_a_long_run_tells_how_far_it_is(root, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("palmforge.callbacks.deidentification_writer._TELL_EVERY", 0.0)
    with caplog.at_level("INFO"):
        deidentify(root, tmp_path / "out")
    told = [r.message for r in caplog.records if "% of the photographs" in r.message]
    assert [line.split()[0] for line in told] == ["25", "50", "75", "100"]
    assert told[-1].endswith("0:00:00 left")


def test_the_end_tells_what_was_left_out_and_why(root, tmp_path, caplog):
    with caplog.at_level("INFO"):
        deidentify(root, tmp_path / "out")
    lines = [record.message for record in caplog.records]
    assert any("0 of 7 photographs are done already" in line for line in lines)
    last = next(line for line in lines if "left out" in line)
    assert "5 pictures in" in last and "left out 3" in last and "no hand found 1" in last
