"""`data summary` and `data synthesize`."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from pictures import RIGHT_HAND, cut_short, noise, save, write_keypoints, write_tree
from PIL import Image

from palmforge.commands.data import summary, synthesize
from palmforge.data.layouts import scan
from palmforge.data.webdataset import write_shard
from palmforge.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _wide(monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def _rows(text: str) -> dict[str, list[str]]:
    """First cell → the others, of a printed table."""
    lines = [
        [c.strip() for c in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line
    ]
    return {cells[0]: cells[1:] for cells in lines}


def test_summary_counts_what_a_root_holds(palms_root, capsys) -> None:
    summary(palms_root)
    out = capsys.readouterr().out
    assert f"{palms_root} (xjtu_up)" in out
    rows = _rows(out)
    assert rows["IF"] == rows["IN"] == ["8", "56", "7–7", "56", "256 × 256", "0"]
    assert rows["all"] == ["8", "112", "14–14", "112", "256 × 256", "0"]
    assert "problems" not in out


@pytest.mark.parametrize("verify", [True, False])
def test_bad_files_are_counted_and_listed(tmp_path, capsys, verify) -> None:
    root = write_tree(tmp_path / "tree", ("IF", "IN"), ("L_001", "R_001"), images=3, size=48)
    folder = root / "iPhone" / "Flash"
    with open(folder / "L_001" / "IMG_0001.JPG", "r+b") as file:
        file.truncate(os.path.getsize(file.name) - 200)
    (folder / "L_001" / "IMG_0002.JPG").write_text("text")
    save(folder / "R_001" / "IMG_0001.JPG", noise(30, 60))
    (root / "Nokia").mkdir()
    summary(str(root), verify=verify, out=str(tmp_path / "out"))
    out = capsys.readouterr().out
    bad = 2 if verify else 1  # a truncated picture has a good header
    assert _rows(out)["IF"] == ["2", "6", "3–3", "0", "48 × 48 (+1 more)", str(bad)]
    assert _rows(out)["IN"][-1] == "0"
    assert f"{bad + 1} problems:" in out
    for name in ("IMG_0002.JPG: ", "Nokia: not one of the devices"):
        assert name in out
    with open(tmp_path / "out" / "problems.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["path", "reason"]
    assert [Path(path).name for path, _ in rows] == [
        "Nokia", *(["IMG_0001.JPG"] if verify else []), "IMG_0002.JPG"
    ]  # fmt: skip
    assert all(reason for _, reason in rows)
    assert Image.open(tmp_path / "out" / "summary.png").size == (800, 300)


def test_any_folder_and_names_with_brackets(tmp_path, capsys) -> None:
    root = tmp_path / "[red] [/old]"
    for name in ("anna/0.png", "anna/1.png", "anna/2.png", "[b]ob/0.png"):
        save(root / name, noise(16, 16))
    cut_short(root / "[b]ob" / "0.png")
    summary(str(root), out=str(tmp_path / "[/out]"))
    out = capsys.readouterr().out
    assert _rows(out)["all"] == ["2", "4", "1–3", "0", "16 × 16", "1"]
    assert "[red] [/old]/[b]ob/0.png: " in out
    assert (tmp_path / "[/out]" / "summary.png").stat().st_size > 1000


@pytest.mark.parametrize("verify", [True, False])
def test_shards_of_a_factory_are_summed_up(tmp_path, capsys, verify) -> None:
    path = save(tmp_path / "a.png", noise(16, 16))
    with open(path, "rb") as file:
        picture = file.read()
    names = ("000000/000.png", "000000/001.png", "000004/000.png")
    shard = tmp_path / "set" / "shard-000000.tar"
    write_shard(shard, [(name, picture[: 60 if "4" in name else None], {}) for name in names])
    summary(str(tmp_path / "set"), verify=verify)
    out = capsys.readouterr().out
    assert _rows(out)["all"] == ["2", "3", "1–2", "0", "16 × 16", "1" if verify else "0"]
    assert ("shard-000000.tar/000004-000.png: " in out) == verify


def test_many_problems_are_cut_and_say_where_to_find_all(tmp_path, capsys) -> None:
    root = write_tree(tmp_path / "tree", ("IF",), ("L_001",), 1)
    for number in range(25):
        (root / f"Nokia{number}").mkdir()
    summary(str(root))
    out = capsys.readouterr().out
    assert "25 problems:" in out and out.count("not one of the devices") == 20
    assert "all of them with --out=FOLDER" in out


def test_key_points_are_counted_and_their_errors_listed(tmp_path, capsys) -> None:
    root = write_tree(tmp_path, ("IF",), ("L_001",), 3)
    points = {f"L_001/IMG_000{i}.JPG": RIGHT_HAND[: 14 - (i == 2)] for i in (1, 2, 3)}
    write_keypoints(root / "iPhone" / "Flash", points)
    summary(str(root))
    out = capsys.readouterr().out
    assert _rows(out)["IF"] == ["1", "2", "2–2", "2", "32 × 32", "0"]
    assert "14 key points are needed, there are 13" in out


def test_errors_come_before_the_work(tmp_path) -> None:
    with pytest.raises(DataError, match="no directory"):
        summary(str(tmp_path / "nowhere"))
    (tmp_path / "file").touch()
    root = write_tree(tmp_path / "tree", ("IF",), ("L_001",), 1)
    for command in (lambda out: summary(str(root), out=out), synthesize):
        with pytest.raises(DataError, match="out: cannot write to"):
            command(str(tmp_path / "file" / "out"))


def test_synthesize_renders_and_goes_on_where_it_stopped(tmp_path, capsys) -> None:
    out = tmp_path / "new" / "palms"
    what = {"preset": "HN", "identities": 2, "captures": 2, "size": 96, "workers": 1}
    synthesize(str(out), **what)
    printed = capsys.readouterr().out.replace("\n", "")
    assert f"{out}: 4 pictures, listed in manifest.parquet" in printed
    records = scan(str(out)).records
    assert [record.identity for record in records] == ["L_001", "L_001", "R_001", "R_001"]
    first, last = (Path(records[i].path) for i in (0, -1))
    content, stamp = last.read_bytes(), os.stat(first)
    last.unlink()
    synthesize(str(out), **what)
    assert last.read_bytes() == content
    assert os.stat(first).st_mtime_ns == stamp.st_mtime_ns


def test_wild_hands_are_read_with_their_key_points(tmp_path) -> None:
    synthesize(str(tmp_path / "w"), preset="wild", identities=2, captures=1, size=96, workers=1)
    records = scan(str(tmp_path / "w")).records
    assert [(r.identity, r.hand, r.subject) for r in records] == [
        ("L_001", "L", "001"),
        ("R_001", "R", "001"),
    ]
    assert all(record.keypoints is not None for record in records)


def test_settings_that_cannot_be_are_told_by_name(tmp_path) -> None:
    with pytest.raises(ConfigError, match="unknown preset 'IX'"):
        synthesize(str(tmp_path / "x"), preset="IX")
