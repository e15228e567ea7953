"""Public databases by their released names, on made-up trees of empty files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pictures import RIGHT_HAND, write_keypoints

from palmforge.data.databases import DATABASES
from palmforge.data.databases.page import markdown, markdown_table
from palmforge.data.databases.reader import _compiled
from palmforge.data.layouts import LAYOUTS, scan
from palmforge.errors import DataError

READ_HERE = {name: database for name, database in DATABASES.items() if database.forms}

# layout → path → (subject, hand, identity, domain, device); None: a picture that is left out
TREES = {
    "tongji": {
        "ROI/session1/00001.bmp": ("001", "", "001", "session1", ""),
        "ROI/session1/00010.bmp": ("001", "", "001", "session1", ""),
        "ROI/session1/00011.bmp": ("002", "", "002", "session1", ""),
        "ROI/session2/06000.bmp": ("600", "", "600", "session2", ""),
        "ROI/session2/06001.bmp": None,
        "ROI/session2/00000.bmp": None,
        "ROI/session3/00001.bmp": None,
    },
    "iitd": {
        "IITD Palmprint V1/Segmented/Left/001_1.bmp": ("001", "L", "L_001", "", ""),
        "IITD Palmprint V1/Segmented/Right/230_6.bmp": ("230", "R", "R_230", "", ""),
        "IITD Palmprint V1/Segmented/Right/230.bmp": None,
        "IITD Palmprint V1/Segmented/Both/001_1.bmp": None,
    },
    "polyu_contactless": {
        "Session1/1_1.bmp": ("1", "", "1", "session1", ""),
        "Session2/left/177_5.bmp": ("177", "", "177", "session2", ""),
        "12_3.bmp": ("12", "", "12", "", ""),
        "Session1/hand.bmp": None,
    },
    "polyu_3d": {
        "Sub2D/Sub2D_I_1_1.bmp": ("1", "", "1", "session1", ""),
        "Sub2D/Sub2D_II_550_10.bmp": ("550", "", "550", "session2", ""),
        "Sub2D/Sub2D_III_1_1.bmp": None,
    },
    "polyu_ii": {
        "PolyU_001_F_01.bmp": ("001", "", "001", "session1", ""),
        "PolyU_386_S_10.bmp": ("386", "", "386", "session2", ""),
        "PolyU_001_T_01.bmp": None,
    },
    "casia": {
        "0001/0001_m_l_01.jpg": ("0001", "L", "L_0001", "", ""),
        "0312/0312_f_r_11.jpg": ("0312", "R", "R_0312", "", ""),
        "0312_f_r_12.jpg": ("0312", "R", "R_0312", "", ""),
        "0001/0001_m_01.jpg": None,
        "0001/001_m_l_01.jpg": None,
    },
    "casia_ms": {
        "images/001_l_460_01.jpg": ("001", "L", "L_001", "460", ""),
        "images/100_r_WHT_06.jpg": ("100", "R", "R_100", "WHT", ""),
        "images/001_l_500_01.jpg": None,
    },
    "mpdv2": {
        "original palms/001_1_h_l_01.jpg": ("001", "L", "L_001", "H1", "huawei"),
        "original palms/200_2_m_r_10.jpg": ("200", "R", "R_200", "M2", "xiaomi"),
        "original palms/001_3_h_l_01.jpg": None,
        "original palms/001_1_x_l_01.jpg": None,
    },
    "ntu_pi": {
        "img/1-L1.jpg": ("1", "L", "L_1", "", ""),
        "img/3-R12.JPG": ("3", "R", "R_3", "", ""),
        "img/3-12.jpg": None,
        "img/1-L1-Class1.jpg": None,
    },
    "ntu_cp": {
        "0001_L_1.jpg": ("0001", "L", "L_0001", "", ""),
        "328-R4.jpg": ("328", "R", "R_328", "", ""),
        "0001_1.jpg": None,
    },
    "rest": {
        "p1/Hand/Left/p1_l_1.jpg": ("1", "L", "L_1", "", ""),
        "REST database/p179/hand/Right/p179_r_5.jpg": ("179", "R", "R_179", "", ""),
        "p1/Hand/Left/p2_l_1.jpg": None,
        "p1/Hand/Left/p1_r_1.jpg": None,
    },
    "coep": {
        "Image_001_1.JPG": ("001", "", "001", "", ""),
        "168/8.jpg": ("168", "", "168", "", ""),
        "palm.jpg": None,
    },
}


def _touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def _below(root: Path, problems: dict[str, str]) -> dict[str, str]:
    return {Path(path).relative_to(root).as_posix(): why for path, why in problems.items()}


def test_every_database_is_a_layout_and_has_a_tree_here() -> None:
    assert set(DATABASES) | {"auto", "folder"} == set(LAYOUTS)
    assert set(READ_HERE) == set(TREES) == set(DATABASES) - {"xjtu_up"}


@pytest.mark.parametrize("layout", TREES)
def test_names_become_records_and_strangers_problems(tmp_path, layout) -> None:
    root = _touch(tmp_path, *TREES[layout], "readme.txt", "Thumbs.db", ".git/001_1.bmp", "a/x.dat")
    found = scan(str(root), layout)
    read = {
        Path(r.path).relative_to(root).as_posix(): (
            r.subject, r.hand, r.identity, r.domain, r.device
        )
        for r in found.records
    }  # fmt: skip
    assert read == {path: told for path, told in TREES[layout].items() if told is not None}
    problems = _below(root, found.problems)
    assert problems.keys() == {path for path, told in TREES[layout].items() if told is None}
    example = READ_HERE[layout].forms[0].example
    assert all(f"not named like {example}" in why for why in problems.values())
    assert found.layout == layout
    assert found.domains == sorted({told[3] for told in TREES[layout].values() if told})


@pytest.mark.parametrize("layout", TREES)
def test_a_wrong_root_names_what_was_expected(tmp_path, layout) -> None:
    _touch(tmp_path, "holiday/beach.jpg")
    example = re.escape(READ_HERE[layout].forms[-1].example)
    with pytest.raises(DataError, match=rf"layout '{layout}'.*expected.*{example}.*beach\.jpg"):
        scan(str(tmp_path), layout)


@pytest.mark.parametrize("layout", READ_HERE)
def test_each_example_is_of_its_own_form(layout) -> None:
    for form in READ_HERE[layout].forms:
        takers = [f for f in READ_HERE[layout].forms if _compiled(f).fullmatch(form.example)]
        assert takers[0] == form


def test_auto_reads_no_database_but_says_how_to(tmp_path) -> None:
    _touch(tmp_path, "00001.bmp")
    with pytest.raises(DataError, match=r"layout 'folder'.*identity.*layout= one of tongji, iitd"):
        scan(str(tmp_path))


def test_two_files_of_one_capture_are_both_kept(tmp_path) -> None:
    _touch(tmp_path, "a/0001_m_l_01.jpg", "b/0001_m_l_01.jpg", "b/0001_m_l_01.png")
    assert [r.identity for r in scan(str(tmp_path), "casia").records] == ["L_0001"] * 3


def test_only_the_domains_asked_for(tmp_path) -> None:
    _touch(tmp_path, "session1/00001.bmp", "session2/00001.bmp")
    (record,) = scan(str(tmp_path), "tongji", ["session2"]).records
    assert record.path == str(tmp_path / "session2/00001.bmp")
    with pytest.raises(DataError, match=r"session3 not in .*, which has session1, session2"):
        scan(str(tmp_path), "tongji", ["session3"])


MIXED = {
    "iitd": ("Left Hand/001_1.JPG", "Segmented/Left/001_1.bmp"),
    "tongji": ("Original Images/session1/00001.tiff", "ROI/session1/00001.bmp"),
    "mpdv2": ("original palms/001_1_h_l_01.jpg", "generation/3-ROI_verification/001_1_h_l_01.jpg"),
}


@pytest.mark.parametrize("layout", MIXED)
def test_crops_and_whole_hands_are_never_one_set(tmp_path, layout) -> None:
    hand, crop = MIXED[layout]
    found = scan(str(_touch(tmp_path, hand, crop)), layout)
    assert [record.path for record in found.records] == [str(tmp_path / crop)]
    (problem,) = _below(tmp_path, found.problems).items()
    assert problem[0] == Path(hand).parent.as_posix()
    assert problem[1].startswith("1 whole hands left out")
    only = scan(str(_touch(tmp_path / "hands", hand).joinpath()), layout)
    assert [Path(record.path).name for record in only.records] == [Path(hand).name]


def test_key_points_of_whole_hands_choose_them_over_crops(tmp_path) -> None:
    hand, crop = MIXED["iitd"]
    _touch(tmp_path, hand, crop)
    (tmp_path / hand).with_suffix(".json").write_text(
        json.dumps({"keypoints": RIGHT_HAND.tolist()})
    )
    found = scan(str(tmp_path), "iitd")
    assert [record.path for record in found.records] == [str(tmp_path / hand)]
    assert _below(tmp_path, found.problems)["Segmented/Left"].startswith("1 ROI crops left out")


def test_key_points_come_from_the_csv_of_the_root(tmp_path) -> None:
    names = [f"0001/0001_m_l_0{number}.jpg" for number in (1, 2, 3)]
    _touch(tmp_path, *names)
    points = {names[0]: RIGHT_HAND, names[2]: RIGHT_HAND[:13], "0009/gone.jpg": RIGHT_HAND}
    write_keypoints(tmp_path, points)
    found = scan(str(tmp_path), "casia")
    (record,) = found.records
    assert record.path == str(tmp_path / names[0])
    np.testing.assert_array_equal(record.keypoints, RIGHT_HAND)
    problems = _below(tmp_path, found.problems)
    assert "not listed in" in problems[names[1]]
    assert "there are 13" in problems[names[2]]
    assert problems["0009/gone.jpg"] == "listed in keypoints.csv, but not there"


def test_masks_and_mirrored_copies_are_passed_over_as_folders(tmp_path) -> None:
    copies = ("imgMask/1-L1.jpg", "flip/img/train/1-L1-Class1.jpg", "flip/imgGen/1-L1-90Class1.jpg")
    found = scan(str(_touch(tmp_path, "img/1-L1.jpg", *copies)), "ntu_pi")
    assert [record.path for record in found.records] == [str(tmp_path / "img/1-L1.jpg")]
    copies_are = "masks or altered copies: left out"
    assert _below(tmp_path, found.problems) == {"imgMask": copies_are, "flip": copies_are}


def test_a_link_that_leads_back_up_ends(tmp_path) -> None:
    _touch(tmp_path, "0001/0001_m_l_01.jpg")
    (tmp_path / "0001" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(scan(str(tmp_path), "casia").records) == 1


def test_a_linked_folder_is_read(tmp_path) -> None:
    elsewhere = _touch(tmp_path / "disk", "00001.bmp")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "session1").symlink_to(elsewhere, target_is_directory=True)
    (record,) = scan(str(tmp_path / "root"), "tongji").records
    assert record.path == str(tmp_path / "root/session1/00001.bmp")


def test_the_page_is_the_registry() -> None:
    page = (Path(__file__).parents[2] / "docs" / "databases.md").read_text(encoding="utf-8")
    assert page == markdown(), "python -m palmforge.data.databases.page > docs/databases.md"
    rows = [line.strip("| ").split(" | ") for line in markdown_table().splitlines()[2:]]
    assert [(row[0], row[1], row[2], row[3]) for row in rows] == [
        (f"`{d.name}`", d.title, f"{d.identities:,}", f"{d.images:,}") for d in DATABASES.values()
    ]
    for database in DATABASES.values():
        section = page[page.index(f"## {database.title} (`{database.name}`)") :].split("\n## ")[0]
        assert database.access in section
        assert database.licence in section
        assert database.verified == ("**Layout not verified**" not in section)
