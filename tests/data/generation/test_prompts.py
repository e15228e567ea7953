"""The grammar of prompts."""

from __future__ import annotations

import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import noise, record, save

from palmforge.data.generation.prompt_words import SKINS, WORDS, manifest_rows, words_of
from palmforge.data.generation.prompts import (
    DEFAULT_TEMPLATES,
    draw_prompts,
    prompt_of,
    prompts_of,
    read_prompts,
)
from palmforge.data.layouts import scan
from palmforge.errors import ConfigError, DataError

ISSUE = ["a {hand} palm, {skin} skin, {illumination}, {device}, {pose}"]
FLAT = {"pose.cupping": 0.0, "viewpoint.tilt.0": 3.0, "viewpoint.tilt.1": -4.0}
SPREAD = {f"pose.spread.{finger}": 0.0 for finger in range(1, 5)}
CLOSED = dict(zip(SPREAD, (-8.0, -1.2, 5.2, 11.2), strict=True))


def _skin(*reflectance: float) -> dict[str, float]:
    return {f"skin.palm.{channel}": value for channel, value in enumerate(reflectance)}


@pytest.fixture
def tree(tmp_path) -> Path:
    for name in ("L_001/1.png", "L_001/2.png", "R_002/1.png"):
        save(tmp_path / name, noise(8, 8))
    return tmp_path


def test_a_record_says_hand_device_and_light_and_never_who_it_is():
    one = record("x.jpg", "L_0042", device="mi8", illumination="nature")
    words = words_of(one)
    assert words == {"hand": "left", "device": "Mi 8 phone", "illumination": "natural light"}
    assert prompt_of(words, ISSUE, 0) == "a left palm, natural light, Mi 8 phone"
    assert not any("42" in prompt_of(words, DEFAULT_TEMPLATES, seed) for seed in range(3))


def test_what_is_not_known_is_left_out_and_the_sentence_stays_whole():
    assert prompt_of({}, ISSUE, 0) == "a palm"
    assert prompt_of({"skin": "dark"}, ["the palm of a {hand} hand, {skin} skin"], 0) == (
        "the palm of a hand, dark skin"
    )
    anywhere = ["{device}, a {hand} palm, {pose}"]
    assert prompt_of({}, anywhere, 0) == "a palm"
    assert prompt_of({"device": "webcam"}, anywhere, 0) == "webcam, a palm"
    assert prompt_of({"hand": "left"}, ["{pose}"], 0) == "a palm"


def test_the_article_follows_the_word():
    template = ["a {device} picture of a palm"]
    said = [
        prompt_of({"device": d}, template, 0) for d in ("iPhone", "LG phone", "webcam", "old phone")
    ]
    assert [words.split(" picture")[0] for words in said] == [
        "an iPhone", "an LG phone", "a webcam", "an old phone",
    ]  # fmt: skip
    assert prompt_of({}, template, 0) == "a picture of a palm"


@pytest.mark.parametrize(
    ("row", "pose"),
    [
        (FLAT | SPREAD, "fingers spread"),
        (FLAT | CLOSED, "fingers closed"),
        (FLAT | {name: angle / 2 for name, angle in CLOSED.items()}, None),
        (FLAT | SPREAD | {"frame_error": 0.0}, None),  # a ROI has no fingers
        (FLAT | SPREAD | {"viewpoint.tilt.1": -35.0}, "tilted"),
        (FLAT | SPREAD | {"pose.cupping": 0.4, "frame_error": 0.0}, "cupped"),
        (FLAT | {name: None for name in SPREAD}, None),
        ({}, None),
    ],
)
def test_the_pose_is_said_where_it_is_clear(row, pose):
    assert words_of(record("x.jpg"), row).get("pose") == pose


def test_skin_has_five_words_from_the_palest_to_the_darkest():
    tones = [(0.74, 0.49, 0.40), (0.65, 0.40, 0.30), (0.55, 0.32, 0.21), (0.44, 0.24, 0.16),
             (0.28, 0.15, 0.11)]  # fmt: skip
    assert [words_of(record("x.jpg"), _skin(*tone))["skin"] for tone in tones] == list(SKINS)
    assert "skin" not in words_of(record("x.jpg"), {"skin.palm.0": 0.5})


def test_rendered_palms_say_everything(palms_root):
    records = scan(palms_root).records
    rows = manifest_rows(Path(palms_root) / "manifest.parquet")
    assert len(rows) == len(records)
    words = [words_of(r, rows[r.path.removeprefix(palms_root + "/")]) for r in records]
    for field in ("hand", "device", "illumination", "skin"):
        assert all(one[field] in WORDS[field] for one in words)
    assert {one["illumination"] for one in words} == {"flash", "natural light"}
    assert {one["device"] for one in words} == {"iPhone"}
    prompts = prompts_of(records, palms_root)
    assert {prompt.split(",")[0] for prompt in prompts} >= {"a left palm", "a right palm"}


def test_a_prompt_depends_on_seed_and_path_alone(palms_root):
    records = scan(palms_root).records
    whole = prompts_of(records, palms_root, seed=3)
    assert prompts_of(records[::-1][:9], palms_root + "/", seed=3) == whole[::-1][:9]
    assert prompts_of(records, palms_root, seed=4) != whole
    assert len({prompt.split(",")[0].split(" left")[0] for prompt in whole}) >= 3  # templates


def test_the_users_captions_win_picture_by_picture(tree):
    (tree / "captions.csv").write_text('file,text\nL_001\\1.png,"my palm, at noon"\ngone.png,x\n')
    with pytest.warns(UserWarning, match="captions.csv") as said:
        prompts = prompts_of(scan(str(tree)).records, str(tree), ISSUE)
    assert prompts == ["my palm, at noon", "a left palm", "a right palm"]
    messages = [str(warning.message) for warning in said]
    assert "1 of its files are not there: gone.png" in messages[0]
    assert "2 of 3 pictures have no caption" in messages[1] and "L_001/2.png" in messages[1]


def test_captions_of_all_pictures_are_taken_without_a_word(tree):
    names = ["L_001/1.png", "L_001/2.png", "R_002/1.png"]
    (tree / "captions.csv").write_text("file,text\n" + "".join(f"{n},of {n}\n" for n in names))
    records = scan(str(tree)).records
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prompts_of(records[:2], str(tree)) == ["of L_001/1.png", "of L_001/2.png"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"name,caption\na,b\n", "header"),
        (b"file,text\nL_001/1.png,a palm, flash\n", "line 2"),
        (b"file,text\nL_001/1.png,\n", "line 2"),
        (b"file,text\nL_001/1.png,a\n\nL_001/1.png,b\n", "line 4.*already"),
        (b"file,text\nL_001/1.png,\xff\n", "UTF-8"),
        (b"", "header"),
    ],
)
def test_malformed_captions_are_refused(tree, content, what):
    (tree / "captions.csv").write_bytes(content)
    with pytest.raises(DataError, match=what):
        prompts_of(scan(str(tree)).records, str(tree))


def test_a_manifest_of_another_kind_gives_no_words_and_a_broken_one_is_refused(tree):
    pq.write_table(pa.table({"file": ["L_001/1.png"], "prompt": ["x"]}), tree / "manifest.parquet")
    records = scan(str(tree)).records
    assert prompts_of(records, str(tree), ISSUE) == ["a left palm"] * 2 + ["a right palm"]
    (tree / "manifest.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="not a manifest"):
        prompts_of(records, str(tree))
    pq.write_table(pa.table({"path": ["x"]}), tree / "manifest.parquet")
    with pytest.raises(DataError, match="column `file`"):
        prompts_of(records, str(tree))


@pytest.mark.parametrize(
    ("templates", "what"),
    [
        (["a {hand} palm, {colour}"], r"a \{hand\} palm.*\{colour\}.*\{hand\}, \{device\}"),
        (["a {hand palm"], "braces"),
        (["a {} palm"], r"\{\}"),
        ([" "], "braces"),
        ([], "at least one"),
        ("a {hand} palm", "a list"),
    ],
)
def test_templates_that_are_none_are_refused_by_name(templates, what):
    with pytest.raises(ConfigError, match=what):
        draw_prompts(0, templates)
    with pytest.raises(ConfigError, match=what):
        prompts_of([], "/nowhere", templates)


def test_drawn_prompts_are_of_the_grammar_and_each_of_its_own_number():
    prompts = draw_prompts(200, seed=5)
    assert draw_prompts(50, seed=5) == prompts[:50]
    assert draw_prompts(50, seed=6) != prompts[:50]
    assert len(set(prompts)) > 190
    for words in WORDS.values():
        for word in words:
            assert any(word in prompt for prompt in prompts)
    # All five fields are known: nothing is dropped.
    assert {prompt.count(",") for prompt in prompts} == {4}


def test_prompts_are_read_from_a_file_or_taken_from_a_list(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("\ufeff# mine\na left palm, flash\n\n  a right palm \n", encoding="utf-8")
    assert read_prompts(str(path)) == ["a left palm, flash", "a right palm"]
    assert read_prompts(["a palm ", "# 1"]) == ["a palm", "# 1"]
    path.write_text("# nothing\n\n")
    with pytest.raises(DataError, match="no prompt in"):
        read_prompts(str(path))
    with pytest.raises(DataError, match="in a list"):
        read_prompts("a left palm")
    with pytest.raises(DataError, match="no prompt in"):
        read_prompts([])
