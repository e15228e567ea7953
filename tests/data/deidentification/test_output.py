"""What is written of a photograph, and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from hand_photographs import hand
from pictures import noise, save
from PIL import Image, ImageCms

from palmforge.data.deidentification.output import color_profile, refuse_inside, save_picture
from palmforge.errors import ConfigError

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_a_picture_comes_with_its_profile_and_nothing_else(tmp_path):
    save_picture(tmp_path / "x/a.png", hand()[0], SRGB)
    with Image.open(tmp_path / "x/a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), hand()[0])
        assert set(picture.info) == {"icc_profile"} and not picture.getexif()
    save_picture(tmp_path / "a.jpg", hand()[0], None, 90)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert picture.format == "JPEG" and not picture.getexif()
        assert "icc_profile" not in picture.info and "exif" not in picture.info


def test_only_profiles_of_rgb_are_kept(tmp_path):
    save(tmp_path / "a.jpg", noise(9, 9), icc_profile=SRGB)
    assert color_profile(tmp_path / "a.jpg") == SRGB
    save(tmp_path / "b.jpg", noise(9, 9), icc_profile=SRGB[:16] + b"CMYK" + SRGB[20:])
    assert color_profile(tmp_path / "b.jpg") is None
    save(tmp_path / "c.png", noise(9, 9))
    assert color_profile(tmp_path / "c.png") is None
    (tmp_path / "d.png").write_text("no picture")
    assert color_profile(tmp_path / "d.png") is None


def test_the_folder_of_the_photographs_is_refused_by_whatever_name(tmp_path):
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(images)
    for out in (images, images / "sub/out", tmp_path, tmp_path / "link", images / "../images"):
        with pytest.raises(ConfigError, match=r"data\.out: .* nothing may mix"):
            refuse_inside(out, images)
    refuse_inside(tmp_path / "images-out", images)
