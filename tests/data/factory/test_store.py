"""The directory of a factory."""

from __future__ import annotations

import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories import SIZE, Killed, content, everything, make, make_together, plan
from PIL import Image

from palmforge.data.factory.store import FactoryStore
from palmforge.data.layouts import scan
from palmforge.errors import DataError

MADE_BY = {"controlnet": "a.ckpt", "controlnet_sha256": "ab", "recogniser_sha256": None, "T": 2}


def finished(out, num=12, shard_identities=0, **settings):
    """A whole set; going on with what is there."""
    store = FactoryStore(out, shard_identities)
    done = make(plan(num, **settings), store)
    assert store.finish(done, MADE_BY) == done.num_kept
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("folder")
    return out, finished(out)


def test_a_set_is_a_folder_a_palm_and_two_tables(folder):
    out, done = folder
    pictures = {f"{i:06d}/{c:03d}.png" for i in done.used() for c in range(3)}
    others = {name for name in content(out) if not name.startswith(".references/")}
    assert others == {*pictures, "manifest.parquet", "attempts.parquet"}
    kept = {f"{i:06d}.png" for i in done.accepted}
    assert {path.name for path in (out / ".references").iterdir()} == kept


def test_it_is_a_layout_again_of_n_palms_and_m_captures(folder):
    out, done = folder
    read = scan(str(out), "folder")
    assert read.problems == {}
    identities = [record.identity for record in read.records]
    assert sorted(set(identities)) == [f"{i:06d}" for i in done.used()]
    assert all(identities.count(i) == 3 for i in identities)


def test_the_manifest_says_of_each_picture_how_it_came_about(folder):
    out, _ = folder
    table = pq.read_table(out / "manifest.parquet")
    types = {field.name: field.type for field in table.schema}
    assert types["seed"] == pa.int64() and types["cosine"] == pa.float32()
    assert types["recogniser_sha256"] == pa.string()  # not of the type null
    rows = table.to_pylist()
    assert list(rows[0]) == [
        "file", "identity", "capture", "attempt", "prompt", "seed", "cosine", "brightness",
        "contrast", "relief", "lines", *MADE_BY,
    ]  # fmt: skip
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    for row in rows:
        pixels = np.asarray(Image.open(out / row["file"]))
        assert pixels.shape == (SIZE, SIZE, 3)
        assert (pixels == [row["seed"] >> shift & 255 for shift in (0, 8, 16)]).all()
        assert MADE_BY.items() <= row.items()


def test_attempts_lists_every_picture_that_was_made_and_why_it_was_rejected(folder):
    out, done = folder
    rows = pq.read_table(out / "attempts.parquet").to_pylist()
    keys = {(row["kind"], row["identity"], row["attempt"]) for row in rows}
    assert keys == everything(done).keys() and len(rows) == len(keys)
    in_set = [row for row in rows if row["kind"] == "capture" and row["reason"] is None]
    assert len(in_set) == 36 and all(row["capture"] is not None for row in in_set)
    assert {"brightness", "consistency", "not needed"} <= {row["reason"] for row in rows}
    assert all(len(r["embedding"]) == 32 for r in rows if r["kind"] == "reference")


def test_finishing_again_changes_nothing(folder):
    out, _ = folder
    before = content(out)
    finished(out)
    assert content(out) == before


def test_palms_that_were_given_up_are_not_made_again(folder):
    out, done = folder
    assert any(done.given_up(i) for i in done.accepted)
    again = plan(12)
    again.add(FactoryStore(out).rows())
    assert again.jobs() == []


@pytest.mark.parametrize("shard_identities", [0, 2])
@pytest.mark.parametrize("kill_after", [1, 3, 4])
def test_what_is_killed_becomes_the_same_files(tmp_path, folder, kill_after, shard_identities):
    whole = folder[0]
    if shard_identities:
        whole = tmp_path / "whole"
        finished(whole, shard_identities=shard_identities)
    out = tmp_path / "killed"
    store = FactoryStore(out, shard_identities)
    with pytest.raises(Killed):
        make_together([plan(12), plan(12)], store, 0, kill_after, 0.5)
    finished(out, shard_identities=shard_identities)
    assert content(out) == content(whole)


@pytest.mark.parametrize("shard_identities", [0, 4])
def test_a_set_that_grows_becomes_the_larger_one(tmp_path, shard_identities):
    finished(tmp_path / "large", 12, shard_identities)
    finished(tmp_path / "grown", 6, shard_identities)
    finished(tmp_path / "grown", 12, shard_identities)
    assert content(tmp_path / "grown") == content(tmp_path / "large")


def test_shards_are_read_as_samples_of_a_picture_and_what_is_known_of_it(tmp_path):
    done = finished(tmp_path, shard_identities=4)
    shards = sorted(tmp_path.glob("shard-*.tar"))
    assert [path.name for path in shards] == [f"shard-00000{i}.tar" for i in range(3)]
    assert list(tmp_path.glob("[0-9]*")) == []
    rows = pq.read_table(tmp_path / "manifest.parquet").to_pylist()
    names = []
    for path in shards:
        with tarfile.open(path) as shard:
            names += [(path.name, name) for name in shard.getnames()]
            first = json.load(shard.extractfile(shard.getnames()[1]))
    expected = [
        (row["shard"], row["file"].replace("/", "-").replace(".png", ending))
        for row in rows for ending in (".png", ".json")
    ]  # fmt: skip
    assert names == expected
    assert first["identity"] == done.used()[8] and first["capture"] == 0


def test_full_shards_are_untouched_when_a_set_grows(tmp_path):
    finished(tmp_path, 6, 4)
    full, last = sorted(tmp_path.glob("shard-*.tar"))
    before = [(path.stat().st_mtime_ns, path.stat().st_ino) for path in (full, last)]
    finished(tmp_path, 12, 4)
    after = [(path.stat().st_mtime_ns, path.stat().st_ino) for path in (full, last)]
    assert after[0] == before[0] and after[1] != before[1]
    assert len(list(tmp_path.glob("shard-*.tar"))) == 3


def test_what_was_packed_when_it_was_killed_is_not_made_again(tmp_path, monkeypatch):
    """A shard is whole, its loose pictures are gone, and there is no manifest yet."""
    finished(tmp_path / "whole", shard_identities=4)
    store = FactoryStore(tmp_path / "killed", 4)
    done = make(plan(12), store)
    monkeypatch.setattr(FactoryStore, "_pack", packed_once(FactoryStore._pack))
    with pytest.raises(Killed):
        store.finish(done, MADE_BY)
    monkeypatch.undo()
    assert (tmp_path / "killed/shard-000000.tar").exists()
    again = plan(12)
    again.add(FactoryStore(tmp_path / "killed", 4).rows())
    assert again.jobs() == []
    finished(tmp_path / "killed", shard_identities=4)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def packed_once(pack):
    def pack_and_die(self, done, palms):
        pack(self, done, palms[: self.shard_identities])
        raise Killed

    return pack_and_die


@pytest.mark.parametrize("shard_identities", [0, 4])
def test_lost_pictures_are_made_again(tmp_path, shard_identities):
    done = finished(tmp_path, shard_identities=shard_identities)
    before = content(tmp_path)
    lost = ["shard-000000.tar"] if shard_identities else [f"{done.used()[2]:06d}/001.png"]
    lost += [f".references/{done.used()[1]:06d}.png", f".references/{done.used()[0]:06d}.png"]
    for name in lost:
        (tmp_path / name).unlink()
    finished(tmp_path, shard_identities=shard_identities)
    assert content(tmp_path) == before


def test_a_picture_of_no_bytes_is_lost(folder, tmp_path):
    done = finished(tmp_path)
    (tmp_path / f"{done.used()[2]:06d}/001.png").write_bytes(b"")
    finished(tmp_path)
    assert content(tmp_path) == content(folder[0])


def test_damaged_rows_are_named_and_can_be_deleted(tmp_path, folder):
    store = FactoryStore(tmp_path)
    with pytest.raises(Killed):
        make_together([plan(12)], store, kill_after=3)
    part = next((tmp_path / ".parts").glob("capture-*.parquet"))
    part.write_bytes(b"nothing")
    with pytest.raises(DataError, match=rf"{part.name}: damaged .*Delete it"):
        store.rows()
    part.unlink()
    finished(tmp_path)
    assert content(tmp_path) == content(folder[0])


def test_a_damaged_shard_is_named(tmp_path):
    finished(tmp_path, shard_identities=4)
    path = tmp_path / "shard-000000.tar"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"shard-000000\.tar: damaged"):
        FactoryStore(tmp_path, 4).rows()


@pytest.mark.parametrize("shard_identities", [0, 4])
def test_palms_that_lie_in_the_set_are_known_without_a_manifest(tmp_path, shard_identities):
    done = finished(tmp_path, shard_identities=shard_identities)
    (tmp_path / "manifest.parquet").unlink()
    assert FactoryStore(tmp_path, shard_identities).placed() == set(done.used())


def test_what_a_killed_process_was_writing_is_swept_away_and_nothing_else(tmp_path):
    finished(tmp_path)
    before = content(tmp_path)
    for name in (".manifest.parquet.x1.parquet", ".shard-000003.tar.x.tar", ".README.md.ab.md"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / ".references/.000001.png.x.png").write_bytes(b"half")
    (tmp_path / ".gitignore").write_text("*")
    FactoryStore(tmp_path).sweep()
    assert content(tmp_path) == {**before, ".gitignore": b"*"}
