"""A photograph becomes hands, or a reason; it never ends a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hand_photographs import hand, write_folder
from pictures import cut_short, save

from palmforge.data.deidentification.photographs import (
    NO_HAND,
    Preparation,
    find_pictures,
    look_at,
    output_names,
    picture_digest,
)
from palmforge.data.deidentification.segmentation import everything, palm_polygon
from palmforge.errors import ConfigError, DataError
from palmforge.localization.hand_points import keypoints14_from_21
from palmforge.localization.location import PalmLocation

SMALL = Preparation(image_size=64, variants=2)
IMAGE, POINTS = hand()


def location(points: np.ndarray = POINTS) -> PalmLocation:
    return PalmLocation(keypoints14_from_21(points), points, "R", 0.9)


class Finds:
    """A localizer that always gives these."""

    def __init__(self, *palms: PalmLocation) -> None:
        self.palms = list(palms)

    def locate_all(self, image: np.ndarray) -> list[PalmLocation]:
        return self.palms


def look(root, source="a.png", *palms, preparation=SMALL):
    return look_at(root, source, Finds(*(palms or [location()])), everything, preparation)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    save(root / "a.png", IMAGE)
    return root


def test_a_hand_is_cut_masked_and_given_its_exemplars(root):
    (found,) = look(root).hands
    assert found.image.shape == (3, 64, 64) and found.mask.shape == (1, 64, 64)
    assert found.exemplars.shape == (2, 3, 128, 128)
    rows, columns = found.box.inside(*IMAGE.shape[:2])
    wanted = palm_polygon(POINTS, *IMAGE.shape[:2])
    np.testing.assert_array_equal(found.full_mask, wanted[rows, columns])
    assert found.full_mask.sum() == wanted.sum()


def test_seeds_follow_from_seed_pixels_hand_and_variant_and_not_from_the_name(root, tmp_path):
    two = look(root, "a.png", location(), location(POINTS + 3))
    seeds = [seed for h in two.hands for seed in h.seeds]
    assert len(set(seeds)) == 4
    save(tmp_path / "other.bmp", IMAGE)
    again = look(tmp_path, "other.bmp")
    assert again.hands[0].seeds == two.hands[0].seeds
    assert again.digest == picture_digest(IMAGE) != picture_digest(IMAGE[:-1])
    more = look(root, preparation=replace(SMALL, variants=3, seed=0))
    assert more.hands[0].seeds[:2] == two.hands[0].seeds
    assert look(root, preparation=replace(SMALL, seed=1)).hands[0].seeds != two.hands[0].seeds


def test_pictures_are_upright_before_anything_is_looked_for(tmp_path):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned = Image.fromarray(IMAGE[:100]).transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "a.png", exif=exif)
    assert look(tmp_path).digest == picture_digest(IMAGE[:100])


@pytest.mark.parametrize("damage", ["text", "cut", "gone"])
def test_what_cannot_be_read_has_a_reason(tmp_path, damage):
    path = tmp_path / "a.png"
    if damage == "text":
        path.write_text("no picture")
    elif damage == "cut":
        save(path, IMAGE)
        cut_short(path)
    found = look(tmp_path)
    assert found.reason.startswith("unreadable: ") and not found.hands


def test_no_hand_is_a_reason(root):
    assert look_at(root, "a.png", Finds(), everything, SMALL).reason == NO_HAND


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.full((21, 2), 5.0), "span no palm"),
        (POINTS + 5000, "beside the picture"),
        (np.where(np.arange(21)[:, None] == 3, np.nan, POINTS), "no finite numbers"),
        (POINTS - [0, POINTS[:, 1].min() + 155], "no pixel of its palm|beside"),
    ],
)
def test_one_hand_that_cannot_be_done_leaves_the_whole_photograph_out(root, points, reason):
    bad = replace(location(), keypoints21=points)
    if np.isfinite(points).all():
        bad = location(points)
    found = look(root, "a.png", location(), bad)
    assert found.hands == [] and found.reason.startswith("hand 2 of 2: ")
    assert any(word in found.reason for word in reason.split("|"))


def test_what_is_odd_is_told_and_done(root, tmp_path):
    assert (
        look(root, "a.png", location(POINTS - [40, 0]))
        .notes[0]
        .startswith("hand 1 of 1: cut by the picture's border")
    )
    tiny = look(root, "a.png", location(0.3 * POINTS))
    assert "tiny: its palm is" in tiny.notes[0] and tiny.hands[0].mask.any()
    save(tmp_path / "a.png", IMAGE[..., 0])
    assert look(tmp_path).notes == ["grey: repainted in grey"] and look(root).notes == []


def test_a_localizer_without_the_21_points_is_refused(root):
    with pytest.raises(ConfigError, match="no 21 key points"):
        look(root, "a.png", replace(location(), keypoints21=None))


def test_a_folder_is_listed_with_what_is_below_and_without_what_is_hidden(tmp_path):
    write_folder(tmp_path)
    save(tmp_path / ".thumbnails/a.png", IMAGE)
    (tmp_path / ".DS_Store").write_text("")
    pictures, others = find_pictures(tmp_path)
    assert pictures == [
        "a.jpg", "bad.jpg", "cut.png", "grey.png", "none.png", "sub/b.png", "sub/two.png",
    ]  # fmt: skip
    assert list(others) == ["notes.txt"]


def test_a_folder_without_pictures_or_none_at_all_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"data\.images: no picture"):
        find_pictures(tmp_path)
    with pytest.raises(DataError, match=r"data\.images: no directory"):
        find_pictures(tmp_path / "none")


def test_results_have_the_names_of_their_pictures():
    assert output_names(["x/a.jpg", "b.PNG"], 1) == [["x/a.png"], ["b.png"]]
    assert output_names(["a.jpg"], 2) == [["a_00.png", "a_01.png"]]
    assert output_names(["a.jpg", "A.png", "c.d.jpg"], 1, ".jpg") == [
        ["a.jpg.jpg"], ["A.png.jpg"], ["c.d.jpg"],
    ]  # fmt: skip
    with pytest.raises(DataError, match="both be written"):
        output_names(["a.jpg", "a.bmp", "a.jpg.bmp"], 1)
