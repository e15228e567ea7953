"""Galleries: the nearest identities, changes, and a folder that is whole or refused."""

from __future__ import annotations

import json
import shutil
import zlib

import numpy as np
import pyarrow.parquet as pq
import pytest

from palmforge.errors import ConfigError, DataError
from palmforge.metrics.hamming import pack_codes
from palmforge.search import Gallery, IndexSettings, gallery_files

IMAGES, BITS = 240, 64
EVERYWHERE = {  # settings with which an approximate index looks at everything
    "flat": IndexSettings("flat"),
    "ivf": IndexSettings("ivf", nprobe=1000),
    "hnsw": IndexSettings("hnsw", ef_search=1000),
}
KINDS = pytest.mark.parametrize("kind", list(EVERYWHERE))
TEMPLATES = pytest.mark.parametrize("template", ["code", "embedding"])


def _templates(template: str, count: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, BITS))
    return pack_codes(values) if template == "code" else values.astype(np.float32)


def _identities(count: int = IMAGES) -> list[str]:
    """Of very different numbers of images: 1, 2, 3, … each."""
    sizes = np.arange(1, count)
    return [f"palm_{i}" for i in np.repeat(sizes, sizes)[:count]]


def _distances(template: str, probes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if template == "code":
        return np.bitwise_count(probes[:, None] ^ rows[None]).sum(2).astype(int)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (probes, rows))
    return 1 - a @ b.T


def _nearest(template: str, probes, rows, identities, k: int) -> list[list[tuple[float, str]]]:
    found = []
    for line in _distances(template, probes, rows):
        best: dict[str, float] = {}
        for distance, name in zip(line, identities, strict=True):
            best[name] = min(best.get(name, np.inf), distance)
        found.append(sorted((distance, name) for name, distance in best.items())[:k])
    return found


def _check(gallery: Gallery, template: str, rows, identities, k: int) -> None:
    """Distances, and identities wherever no other is as near, are those of plain Python."""
    probes = _templates(template, 20, seed=9)
    hits = gallery.search(probes, k)
    expected = _nearest(template, probes, rows, identities, k)
    distances = np.array([[d for d, _ in line] for line in expected])
    np.testing.assert_allclose(hits.distances, distances, atol=1e-5)
    own = _distances(template, probes, rows)
    for p, line in enumerate(hits.identities):
        assert len(set(line)) == k
        for name, distance in zip(line, hits.distances[p], strict=True):
            mine = own[p][[other == name for other in identities]]
            assert mine.min() == pytest.approx(distance, abs=1e-5)


@TEMPLATES
@KINDS
@pytest.mark.parametrize("k", [1, 5, 20])
def test_k_identities_not_images_whatever_their_number(template, kind, k) -> None:
    rows, identities = _templates(template, IMAGES, seed=1), _identities()
    gallery = Gallery.build(rows, identities, EVERYWHERE[kind])
    assert (len(gallery), gallery.width, gallery.template) == (IMAGES, BITS, template)
    _check(gallery, template, rows, identities, k)


@TEMPLATES
@KINDS
def test_each_image_finds_itself(template, kind) -> None:
    rows, identities = _templates(template, IMAGES, seed=1), _identities()
    hits = Gallery.build(rows, identities, EVERYWHERE[kind]).search(rows)
    assert hits.identities[:, 0].tolist() == identities
    assert hits.distances.max() <= 1e-6


def test_a_flat_gallery_misses_nobody_in_many_codes() -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(0, 256, (20_000, 16), dtype=np.uint8)
    probes = rows[:200] ^ np.packbits(rng.random((200, 128)) < 0.1, axis=1)
    hits = Gallery.build(rows, np.arange(20_000).astype(str)).search(probes)
    exact = np.bitwise_count(probes[:, None] ^ rows[None]).sum(2).argmin(1)
    assert hits.identities[:, 0].tolist() == exact.astype(str).tolist()


def test_a_flat_gallery_of_codes_is_little_more_than_the_codes() -> None:
    rows = np.random.default_rng(3).integers(0, 256, (20_000, 16), dtype=np.uint8)
    assert Gallery.build(rows, np.arange(20_000).astype(str)).index_bytes < rows.nbytes + 100


@TEMPLATES
@KINDS
def test_removed_and_added_identities(template, kind) -> None:
    rows, identities = _templates(template, IMAGES, seed=1), _identities()
    gallery = Gallery.build(rows, identities, EVERYWHERE[kind])
    gone = ["palm_2", "palm_9", "palm_21"]
    stay = np.array([name not in gone for name in identities])
    assert gallery.remove([*gone, "palm_2"]) == int((~stay).sum())
    rows, identities = rows[stay], [n for n, s in zip(identities, stay, strict=True) if s]
    _check(gallery, template, rows, identities, 5)
    more, names = _templates(template, 30, seed=2), ["new", "palm_5", "palm_2"] * 10
    gallery.add(more, names)
    rows, identities = np.concatenate((rows, more)), identities + names
    _check(gallery, template, rows, identities, 5)
    assert gallery.identities == list(dict.fromkeys(identities))
    assert gallery.images_of_each.sum() == len(gallery) == len(identities)


@KINDS
def test_what_was_removed_is_in_no_file(kind, tmp_path) -> None:
    rows, names = _templates("code", 60, seed=1), [f"somebody_{i}" for i in range(60)]
    gallery = Gallery.build(rows, names, EVERYWHERE[kind])
    gallery.save(tmp_path)
    gallery.remove(["somebody_7"])
    gallery.save(tmp_path)
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert rows[8].tobytes() in content and rows[7].tobytes() not in content
    (parquet,) = tmp_path.glob("*.parquet")  # compressed
    known = pq.read_table(parquet)["identity"].chunk(0).dictionary.to_pylist()
    assert "somebody_8" in known and "somebody_7" not in known


@KINDS
def test_everybody_can_be_removed(kind, tmp_path) -> None:
    rows = _templates("code", 60, seed=1)
    gallery = Gallery.build(rows, _identities(60), EVERYWHERE[kind])
    gallery.remove(gallery.identities)
    gallery.save(tmp_path / "empty")
    gallery = Gallery.load(tmp_path / "empty")
    hits = gallery.search(rows[:2], 3)
    assert len(gallery) == 0 and hits.identities.tolist() == [[None] * 3] * 2
    assert hits.distances.min() > BITS  # no threshold takes it for somebody
    gallery.add(rows[:2], ["x", "y"])
    assert gallery.search(rows[:2]).identities.tolist() == [["x"], ["y"]]


@KINDS
def test_one_image_and_more_asked_for_than_there_are(kind) -> None:
    rows = _templates("code", 1, seed=1)
    hits = Gallery.build(rows, ["only"], IndexSettings(kind)).search(rows, 3)
    assert hits.identities.tolist() == [["only", None, None]]
    assert hits.distances[0, 0] == 0 and hits.distances[0, 1] > BITS


@TEMPLATES
@KINDS
def test_what_is_saved_loads_the_same(template, kind, tmp_path) -> None:
    rows, identities = _templates(template, IMAGES, seed=1), _identities()
    gallery = Gallery.build(rows, identities, EVERYWHERE[kind], made_by="a test")
    gallery.remove(["palm_3"])
    gallery.calibrate(_templates(template, 100, seed=4), ["stranger"] * 100)
    gallery.save(tmp_path / "g")
    again, probes = Gallery.load(tmp_path / "g"), _templates(template, 30, seed=5)
    for mine, theirs in zip(gallery.search(probes, 4), again.search(probes, 4), strict=True):
        assert mine.tolist() == theirs.tolist()
    assert (again.settings, again.made_by) == (gallery.settings, "a test")
    assert again.calibration and gallery.calibration
    assert again.calibration.distances.tolist() == gallery.calibration.distances.tolist()
    assert again.calibration.thresholds() == gallery.calibration.thresholds()


@TEMPLATES
def test_calibration_is_the_share_of_strangers_let_in(template) -> None:
    gallery = Gallery.build(_templates(template, IMAGES, seed=1), _identities())
    strangers = _templates(template, 200, seed=4)
    found = gallery.calibrate(strangers, [f"s{i}" for i in range(200)])
    nearest = gallery.search(strangers).distances[:, 0]
    assert list(found.thresholds()) == ["0.1", "0.01"]
    for fpir in (0.1, 0.01, 0.5):
        threshold = found.threshold(fpir)
        assert np.mean(nearest <= threshold) <= fpir
        beyond = (
            np.nextafter(np.float32(threshold), np.float32(9)) if template == "embedding" else 0
        )
        assert np.mean(nearest <= (beyond or threshold + 1)) > fpir  # it is the largest
    assert found.fpir(nearest[:5]) == pytest.approx([np.mean(nearest <= d) for d in nearest[:5]])
    with pytest.raises(ConfigError, match=r"FPIR 0\.001 needs at least 1,000 non-mated probes"):
        found.threshold(1e-3)


def test_calibration_refuses_enrolled_identities() -> None:
    rows = _templates("code", 20, seed=1)
    gallery = Gallery.build(rows, _identities(20))
    with pytest.raises(DataError, match=r"not enrolled; 1 of 2 are of enrolled .*: palm_4"):
        gallery.calibrate(rows[:2], ["stranger", "palm_4"])
    gallery.calibrate(rows, ["stranger"] * 20)
    gallery.tune(nprobe=3)
    assert gallery.calibration is None  # measured at another effort


def test_templates_of_another_kind_or_width_change_nothing() -> None:
    rows = _templates("code", 20, seed=1)
    gallery = Gallery.build(rows, _identities(20))
    with pytest.raises(DataError, match="codes of 32 bits, but the gallery's have 64 bits"):
        gallery.add(rows[:, :4], _identities(20))
    with pytest.raises(DataError, match="embeddings were given, the gallery holds codes"):
        gallery.search(np.ones((1, 8), np.float32))
    with pytest.raises(DataError, match="20 templates, but 19 identities"):
        gallery.add(rows, _identities(19))
    with pytest.raises(DataError, match="not in the gallery: nobody"):
        gallery.remove(["palm_1", "nobody"])
    with pytest.raises(DataError, match="some identities are empty"):
        gallery.add(rows[:2], ["a", ""])
    with pytest.raises(ConfigError, match="k: must be at least 1"):
        gallery.search(rows, 0)
    assert len(gallery) == 20 and "palm_1" in gallery.identities


def test_galleries_that_cannot_be() -> None:
    with pytest.raises(DataError, match="at least one image"):
        Gallery.build(np.zeros((0, 8), np.uint8), [])
    with pytest.raises(DataError, match="2 of 3 embeddings are zero, NaN"):
        Gallery.build(np.array([[0, 0], [1, 2], [np.nan, 1]]), ["a", "b", "c"])
    with pytest.raises(ConfigError, match="'tree' is none of flat"):
        IndexSettings("tree")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="nprobe"):
        IndexSettings("ivf", nprobe=0)


def _saved(folder) -> Gallery:
    gallery = Gallery.build(_templates("code", 50, seed=1), _identities(50))
    gallery.save(folder)
    return gallery


@pytest.mark.parametrize("name", ["index-*.faiss", "identities-*.parquet"])
@pytest.mark.parametrize("harm", ["bit", "short", "long", "gone", "foreign"])
def test_a_damaged_file_is_named_before_faiss_sees_it(name, harm, tmp_path, monkeypatch) -> None:
    _saved(tmp_path)
    (path,) = tmp_path.glob(name)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    whole = path.read_bytes()
    changed = {
        "bit": bytes(content), "short": whole[:-9], "long": whole + b"0", "foreign": b"PAR1",
    }  # fmt: skip
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(changed[harm])
    monkeypatch.setattr("palmforge.search.gallery.from_bytes", lambda *_: pytest.fail("it did"))
    with pytest.raises(DataError, match=path.stem):
        Gallery.load(tmp_path)


def test_a_damaged_or_foreign_header_is_refused(tmp_path) -> None:
    _saved(tmp_path)
    path = tmp_path / "gallery.json"
    header = json.loads(path.read_text())
    path.write_text(json.dumps(header | {"format_version": 9}))
    with pytest.raises(DataError, match="format 9, this version reads 1"):
        Gallery.load(tmp_path)
    header["images"] = 49
    path.write_text(json.dumps(header))
    with pytest.raises(DataError, match=r"gallery\.json is damaged or was edited"):
        Gallery.load(tmp_path)
    for text in ("", "{", "[]", '{"format_version": 1}'):
        path.write_text(text)
        with pytest.raises(DataError, match="not the header of a gallery"):
            Gallery.load(tmp_path)
    with pytest.raises(DataError, match="no gallery in"):
        Gallery.load(tmp_path / "elsewhere")


def test_a_header_cannot_lead_out_of_the_folder(tmp_path) -> None:
    _saved(tmp_path / "g")
    path = tmp_path / "g" / "gallery.json"
    header = json.loads(path.read_text())
    header["files"]["index"]["name"] = "../secret"
    header["sha256"] = gallery_files._header_sum(header)
    path.write_text(json.dumps(header))
    with pytest.raises(DataError, match=r"'\.\./secret' is no file of a gallery"):
        Gallery.load(tmp_path / "g")


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_a_crash_between_files_leaves_the_old_gallery(survived, tmp_path, monkeypatch) -> None:
    gallery = _saved(tmp_path)
    before = Gallery.load(tmp_path)
    gallery.remove(["palm_1"])
    written = []

    def dies(path):
        if len(written) == survived:
            raise KeyboardInterrupt
        written.append(path)
        return write_aside(path)

    write_aside = gallery_files.write_aside
    monkeypatch.setattr(gallery_files, "write_aside", dies)
    with pytest.raises(KeyboardInterrupt):
        gallery.save(tmp_path)
    monkeypatch.undo()
    after, probes = Gallery.load(tmp_path), _templates("code", 10, seed=5)
    assert after.identities == before.identities
    assert after.search(probes).distances.tolist() == before.search(probes).distances.tolist()
    (tmp_path / ".index-0123456789abcdef.faiss.x1.faiss").write_bytes(b"of one that was killed")
    gallery.save(tmp_path)  # and the next writer sweeps
    assert "palm_1" not in Gallery.load(tmp_path).identities
    assert len(list(tmp_path.iterdir())) == 3


def test_a_reader_whose_files_are_exchanged_reads_the_new_ones(tmp_path, monkeypatch) -> None:
    old = _saved(tmp_path / "g")
    shutil.copytree(tmp_path / "g", tmp_path / "old")
    old.remove(["palm_1"])
    read = gallery_files._read_header

    def then_exchanged(folder):
        header = read(tmp_path / "old" if not calls else folder)
        calls.append(folder)
        return header

    calls: list = []
    old.save(tmp_path / "g")
    monkeypatch.setattr(gallery_files, "_read_header", then_exchanged)
    assert "palm_1" not in Gallery.load(tmp_path / "g").identities
    assert len(calls) == 2


def test_other_peoples_folders_are_left_alone(tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    gallery = Gallery.build(_templates("code", 5, seed=1), _identities(5))
    with pytest.raises(ConfigError, match=r"files that are not of a gallery \(thesis\.tex"):
        gallery.save(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".git").mkdir()
    with pytest.raises(ConfigError, match=r"not of a gallery \(\.git"):
        gallery.save(tmp_path / "mine")
    with pytest.raises(ConfigError, match="is a file"):
        gallery.save(tmp_path / "thesis.tex")
    assert {p.name for p in tmp_path.iterdir()} == {"thesis.tex", "mine"}
    gallery.save(tmp_path / "new")
    (tmp_path / "new" / "notes.txt").write_text("mine")
    gallery.save(tmp_path / "new")
    assert (tmp_path / "new" / "notes.txt").read_text() == "mine"


@TEMPLATES
def test_shards_merged_are_the_whole_gallery(template) -> None:
    """As docs/scale.md has it: each identity in one shard, the k nearest of each, merged."""
    rows, identities = _templates(template, IMAGES, seed=1), np.array(_identities())
    whole = Gallery.build(rows, identities)
    shard = np.array([zlib.crc32(name.encode()) % 3 for name in identities])
    shards = [Gallery.build(rows[shard == s], identities[shard == s]) for s in range(3)]
    probes, strangers = _templates(template, 20, seed=9), _templates(template, 100, seed=8)
    hits = [part.search(probes, 5) for part in shards]
    distances = np.concatenate([h.distances for h in hits], axis=1)
    np.testing.assert_allclose(
        np.sort(distances, axis=1)[:, :5], whole.search(probes, 5).distances, atol=1e-6
    )
    names = [f"s{i}" for i in range(100)]
    nearest = np.min([part.search(strangers).distances[:, 0] for part in shards], axis=0)
    assert np.sort(nearest) == pytest.approx(whole.calibrate(strangers, names).distances, abs=1e-6)
    # Shards calibrated apart: at one threshold the FPIR of all is at most the sum of theirs.
    apart = [part.calibrate(strangers, names) for part in shards]
    threshold = min(found.threshold(0.3 / 3) for found in apart)
    assert np.mean(nearest <= threshold) <= 0.3
