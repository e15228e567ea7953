"""Build, add, remove, calibrate, search and info, as they are typed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palmforge.errors import ConfigError, DataError

PALMS, BITS = 40, 128


def _write(path: Path, codes: np.ndarray, identities: list, **changed) -> str:
    """As callbacks.CodeWriter writes it."""
    columns = {
        "path": [f"{name}/{i}.jpg" for i, name in enumerate(identities)],
        "subject": identities,
        "hand": ["L"] * len(identities),
        "identity": identities,
        "domain": ["IF"] * len(identities),
    }
    if codes.dtype == np.uint8:
        columns["code"] = pa.array([c.tobytes() for c in codes], pa.binary(codes.shape[1]))
    else:
        flat = pa.array(codes.astype(np.float32).ravel())
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, codes.shape[1])
    pq.write_table(pa.table(columns | changed), path)
    return str(path)


def _noisy(codes: np.ndarray, seed: int) -> np.ndarray:
    flips = np.random.default_rng(seed).random((len(codes), BITS)) < 0.08
    return codes ^ np.packbits(flips, axis=1)


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    """One image each of 40 palms, a probe of each, and 200 images of 100 strangers."""
    rng = np.random.default_rng(0)
    palms = rng.integers(0, 256, (PALMS, BITS // 8), dtype=np.uint8)
    others = rng.integers(0, 256, (200, BITS // 8), dtype=np.uint8)
    names = [f"{i:03d}" for i in range(PALMS)]
    return {
        "enrol": _write(tmp_path / "enrol.parquet", palms, names),
        "probes": _write(tmp_path / "probes.parquet", _noisy(palms, 1), names),
        "strangers": _write(
            tmp_path / "strangers.parquet", others, [f"s{i // 2}" for i in range(200)]
        ),
    }


@pytest.fixture
def gallery(cli, files, tmp_path) -> str:
    out = str(tmp_path / "gallery")
    cli("gallery", "build", "--codes", files["enrol"], "--out", out,
        "--calibrate_with", files["strangers"])  # fmt: skip
    return out


def test_one_image_an_identity_is_built_calibrated_and_searched(
    cli, gallery, files, tmp_path, capsys
):
    cli("gallery", "info", "--gallery", gallery)
    assert "FPIR 0.01: distance <=" in capsys.readouterr().out
    cli("gallery", "search", "--gallery", gallery, "--codes", files["probes"], "--out",
        "hits.csv", "--k", "3")  # fmt: skip
    shown = capsys.readouterr().out
    assert "40 are enrolled; nearest to themselves: 40" in shown
    assert "accepted at FPIR 0.01" in shown
    rows = list(csv.DictReader((tmp_path / "hits.csv").open()))
    assert list(rows[0]) == ["probe", "rank", "identity", "distance", "fpir", "accepted"]
    assert len(rows) == 3 * PALMS and [row["rank"] for row in rows[:3]] == ["1", "2", "3"]
    first = rows[::3]
    assert [row["identity"] for row in first] == [row["probe"].split("/")[0] for row in first]
    assert all(row["accepted"] == "True" and float(row["fpir"]) <= 0.01 for row in first)
    assert all(row["accepted"] == "False" and float(row["fpir"]) > 0.01 for row in rows[1::3])


def test_strangers_are_accepted_as_often_as_was_asked_for(cli, gallery, files, tmp_path, capsys):
    cli("gallery", "search", "--gallery", gallery, "--codes", files["strangers"],
        "--out", "hits.parquet", "--k", "1", "--fpir", "0.1")  # fmt: skip
    table = pq.read_table(tmp_path / "hits.parquet").to_pydict()
    share = np.mean(table["accepted"])
    assert 0 < share <= 0.1
    assert max(f for f, a in zip(table["fpir"], table["accepted"], strict=True) if a) == share
    with pytest.raises(ConfigError, match=r"out: hits\.parquet is there already"):
        cli("gallery", "search", "--gallery", gallery, "--codes", files["probes"],
            "--out", "hits.parquet")  # fmt: skip
    with pytest.raises(ConfigError, match=r"needs at least 1,000 non-mated probes"):
        cli("gallery", "search", "--gallery", gallery, "--codes", files["probes"],
            "--out", "more.csv", "--fpir", "1e-3")  # fmt: skip


def test_add_and_remove_say_that_the_calibration_is_old(cli, gallery, files, capsys):
    cli("gallery", "add", "--gallery", gallery, "--codes", files["strangers"])
    shown = capsys.readouterr()
    assert "200 images added; 240 images of 140 identities" in shown.out
    assert "warning: calibrated with 40 images enrolled, now there are 240" in shown.err
    Path("leave.txt").write_text("s5\ns6\n")
    cli("gallery", "remove", "--gallery", gallery, "--identities", "003,007",
        "--file", "leave.txt")  # fmt: skip
    assert "6 images of 4 identities removed; 234 images of 136" in capsys.readouterr().out
    cli("gallery", "search", "--gallery", gallery, "--codes", files["probes"], "--out", "a.csv")
    assert "38 are enrolled; nearest to themselves: 38" in capsys.readouterr().out
    with pytest.raises(DataError, match="not in the gallery: 003"):
        cli("gallery", "remove", "--gallery", gallery, "--identities", "003,004")
    with pytest.raises(ConfigError, match="say whom"):
        cli("gallery", "remove", "--gallery", gallery)
    with pytest.raises(DataError, match="196 of 200 are of enrolled identities: s0, s1"):
        cli("gallery", "calibrate", "--gallery", gallery, "--codes", files["strangers"])


def test_a_gallery_without_calibration_accepts_nobody_and_says_so(cli, files, tmp_path, capsys):
    cli("gallery", "build", "--codes", files["enrol"], "--out", "g", "--kind", "hnsw")
    cli("gallery", "search", "--gallery", "g", "--codes", files["probes"], "--out", "a.parquet")
    assert "not calibrated" in capsys.readouterr().out
    table = pq.read_table(tmp_path / "a.parquet")
    assert table["accepted"].null_count == table["fpir"].null_count == table.num_rows
    cli("gallery", "calibrate", "--gallery", "g", "--codes", files["strangers"])
    cli("gallery", "info", "--gallery", "g")
    shown = capsys.readouterr().out
    assert "calibrated with 200 probes" in shown and "hnsw" in shown and "128 bits" in shown


def test_embeddings_are_compared_by_cosine(cli, tmp_path, capsys):
    values = np.random.default_rng(0).normal(size=(20, 16))
    names = [f"palm{i // 2}" for i in range(20)]
    file = _write(tmp_path / "e.parquet", values, names)
    twice = _write(tmp_path / "twice.parquet", 2 * values, names)
    cli("gallery", "build", "--codes", file, "--out", "g")
    cli("gallery", "search", "--gallery", "g", "--codes", twice, "--out", "a.parquet", "--k", "2")
    table = pq.read_table(tmp_path / "a.parquet").to_pydict()
    assert table["identity"][::2] == names
    assert np.allclose(table["distance"][::2], 0, atol=1e-6)
    assert min(table["distance"][1::2]) > 0.01 and max(table["distance"]) <= 2


def test_codes_of_another_length_are_refused_with_both(cli, gallery, tmp_path):
    short = _write(tmp_path / "short.parquet", np.zeros((2, 8), np.uint8), ["a", "b"])
    for command, more in (("add", ()), ("search", ("--out", "x.csv"))):
        with pytest.raises(DataError, match="codes of 64 bits, but the gallery's have 128 bits"):
            cli("gallery", command, "--gallery", gallery, "--codes", short, *more)
    mixed = pa.array([b"12345678", b"1234"], pa.binary())
    both = _write(tmp_path / "both.parquet", np.zeros((2, 8), np.uint8), ["a", "b"], code=mixed)
    with pytest.raises(DataError, match=r"both\.parquet: codes of 32 and 64 bits in one file"):
        cli("gallery", "build", "--codes", both, "--out", "g")
    assert not Path("x.csv").exists() and not Path("g/gallery.json").exists()


@pytest.mark.parametrize(
    ("identities", "changed", "message"),
    [
        ([], {}, "no rows"),
        (["a", None], {}, "1 rows without identity"),
        (["a", "b"], {"code": pa.array([b"1" * 8, None], pa.binary(8))}, "1 rows without code"),
        (["a", "b"], {"code": pa.array([1, 2])}, "packed bits are needed"),
        (["a", ""], {}, "some identities are empty"),
    ],
)
def test_files_without_what_is_needed_are_refused(cli, tmp_path, identities, changed, message):
    codes = np.zeros((len(identities), 8), np.uint8)
    file = _write(tmp_path / "bad.parquet", codes, identities, **changed)
    with pytest.raises(DataError, match=message):
        cli("gallery", "build", "--codes", file, "--out", "g")


def test_files_that_are_no_codes_are_refused(cli, gallery, tmp_path):
    (tmp_path / "text.parquet").write_text("no")
    pq.write_table(pa.table({"path": ["a"], "identity": ["b"]}), tmp_path / "none.parquet")
    for name, message in {
        "gone.parquet": "no file", "text.parquet": "cannot be read as Parquet",
        "none.parquet": "no column code",
    }.items():  # fmt: skip
        with pytest.raises(DataError, match=message):
            cli("gallery", "add", "--gallery", gallery, "--codes", str(tmp_path / name))
    with pytest.raises(DataError, match="no gallery in nowhere"):
        cli("gallery", "add", "--gallery", "nowhere", "--codes", str(tmp_path / "none.parquet"))
    assert not Path("nowhere").exists()


def test_what_is_there_is_not_built_over(cli, gallery, files):
    with pytest.raises(ConfigError, match="is a gallery already"):
        cli("gallery", "build", "--codes", files["enrol"], "--out", gallery)
    Path("mine").mkdir()
    Path("mine/notes.txt").touch()
    with pytest.raises(ConfigError, match="not of a gallery"):
        cli("gallery", "build", "--codes", files["enrol"], "--out", "mine")


def test_a_corrupt_index_is_refused_by_name(cli, gallery, files):
    (index,) = Path(gallery).glob("index-*.faiss")
    content = bytearray(index.read_bytes())
    content[100] ^= 255
    index.write_bytes(content)
    for command in (["info"], ["add", "--codes", files["strangers"]]):
        with pytest.raises(DataError, match=f"{index.name} is damaged"):
            cli("gallery", command[0], "--gallery", gallery, *command[1:])


def test_a_home_folder_is_the_same_in_every_command(cli, files, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    cli("gallery", "build", "--codes", files["enrol"], "--out=~/mine")
    assert (tmp_path / "mine" / "gallery.json").is_file()
    with pytest.raises(ConfigError, match="a gallery already"):
        cli("gallery", "build", "--codes", files["probes"], "--out=~/mine")
    cli("gallery", "remove", "--gallery=~/mine", "--identities=003")
    cli("gallery", "search", "--gallery=~/mine", "--codes", files["probes"], "--out=~/hits.csv")
    assert (tmp_path / "hits.csv").is_file() and not Path("~").exists()


def test_an_fpir_out_of_range_is_not_a_matter_of_more_probes(cli, gallery, files, tmp_path):
    out = str(tmp_path / "hits.csv")
    ask = ["gallery", "search", "--gallery", gallery, "--codes", files["probes"], "--out", out]
    with pytest.raises(ConfigError, match=r"must lie in \(0, 1\], got 0.0$"):
        cli(*ask, "--fpir=0")
    with pytest.raises(ConfigError, match="take a larger one, or calibrate"):
        cli(*ask, "--fpir=1e-5")
