"""Every kind of picture becomes upright RGB, or a reason with its path."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from pictures import RIGHT_HAND, cut_short, noise, save
from PIL import Image

from palmforge.data.images import is_image, read_image, scale_points
from palmforge.data.roi import extract_roi, xjtu_roi_quad
from palmforge.errors import BadImage


def _close(image: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.abs(image.astype(float) - expected).mean() < tolerance


def test_rgb_is_read_as_it_is(tmp_path) -> None:
    image, scale = read_image(save(tmp_path / "a.png", noise(20, 30)))
    np.testing.assert_array_equal(image, noise(20, 30))
    assert scale == 1.0
    assert image.flags.c_contiguous


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_grey_becomes_rgb(tmp_path, suffix) -> None:
    grey = noise(32, 32)[..., 0]
    image, _ = read_image(save(tmp_path / f"a{suffix}", grey))
    _close(image, np.repeat(grey[..., None], 3, axis=2), 3.0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_scaled_and_not_clipped(tmp_path, suffix) -> None:
    grey = noise(24, 24, smooth=0)[..., 0]
    image, _ = read_image(save(tmp_path / f"a{suffix}", grey.astype(np.uint16) * 257))
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))


def test_8_bits_in_a_16_bit_file_are_not_made_dark(tmp_path) -> None:
    image, _ = read_image(save(tmp_path / "a.png", np.full((8, 8), 200, np.uint16)))
    assert (image == 200).all()


def test_cmyk_jpeg_looks_as_it_did(tmp_path) -> None:
    picture = Image.fromarray(noise(40, 40)).convert("CMYK")
    image, _ = read_image(save(tmp_path / "a.jpg", picture, quality=95))
    _close(image, noise(40, 40), 4.0)


def test_palette_and_one_bit(tmp_path) -> None:
    palette = Image.fromarray(noise(32, 32)).quantize(64)
    image, _ = read_image(save(tmp_path / "a.png", palette))
    np.testing.assert_array_equal(image, np.asarray(palette.convert("RGB")))
    image, _ = read_image(save(tmp_path / "b.png", Image.new("1", (8, 8), 1)))
    assert (image == 255).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_are_white(tmp_path, mode) -> None:
    picture = Image.new(mode, (8, 8), (10, 20, 30, 0) if mode == "RGBA" else (10, 0))
    picture.paste((50, 60, 70, 255) if mode == "RGBA" else (50, 255), (0, 0, 4, 8))
    image, _ = read_image(save(tmp_path / "a.png", picture))
    assert image[0, 0].tolist() == ([50, 60, 70] if mode == "RGBA" else [50, 50, 50])
    assert image[0, 7].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_exif_rotation_is_applied(tmp_path, orientation, turns, scale) -> None:
    image = noise(40, 60, smooth=9)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.jpg", image, exif=exif, quality=95)
    upright, decoded = read_image(path, min_scale=scale / 2)
    expected = np.rot90(image, turns)
    assert upright.shape[0] / expected.shape[0] == pytest.approx(decoded)
    small = np.asarray(Image.fromarray(expected).resize(upright.shape[1::-1]))
    _close(upright, small, 6.0)


def test_jpegs_are_decoded_small_but_not_below_what_was_asked(tmp_path) -> None:
    path = save(tmp_path / "a.jpg", noise(300, 400))
    for wanted, expected in ((1.0, 1.0), (0.6, 1.0), (0.4, 0.5), (0.2, 0.25), (0.01, 0.125)):
        image, scale = read_image(path, min_scale=wanted)
        assert scale == expected
        assert image.shape[:2] == (np.ceil(300 * scale), np.ceil(400 * scale))
    _, scale = read_image(save(tmp_path / "a.png", noise(300, 400)), min_scale=0.1)
    assert scale == 1.0


def test_scale_is_exact_for_odd_sizes(tmp_path) -> None:
    image, scale = read_image(save(tmp_path / "a.jpg", noise(131, 101)), min_scale=0.2)
    assert scale == 0.25
    assert image.shape[:2] == (33, 26)


def test_roi_of_a_jpeg_decoded_small_is_that_of_the_whole(tmp_path) -> None:
    picture = Image.fromarray(noise(1000, 1201, smooth=25))
    path, quad = save(tmp_path / "a.jpg", picture, quality=95), xjtu_roi_quad(5 * RIGHT_HAND)
    whole, _ = read_image(path)
    expected = extract_roi(whole, quad, 64).astype(float)
    for min_scale in (0.5, 0.25):
        image, scale = read_image(path, min_scale - 0.01)
        assert scale == min_scale
        crop = extract_roi(image, scale_points(quad, scale), 64)
        assert np.abs(crop - expected).mean() < 0.8
        moved = extract_roi(image, scale_points(quad, scale) + 1, 64)  # one pixel would show
        assert np.abs(moved - expected).mean() > 2.0


def test_scale_points_keeps_the_corner_of_the_picture() -> None:
    corners = np.array([[-0.5, -0.5], [99.5, 49.5]])
    np.testing.assert_allclose(scale_points(corners, 0.25), [[-0.5, -0.5], [24.5, 12.0]])


def _text(path: Path) -> None:
    path.write_text("This is not a picture.")


def _truncated(path: Path) -> None:
    save(path, noise(64, 64))
    cut_short(path)


def _wild_exif(path: Path) -> None:
    save(path, noise(16, 16), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff\0")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_text, "not a picture"),
        (Path.touch, "not a picture"),
        (_truncated, "truncated"),
        (lambda path: None, "no such file"),
        (Path.mkdir, "directory"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_reason(tmp_path, make, reason) -> None:
    path = tmp_path / "bad.jpg"
    make(path)
    with pytest.raises(BadImage, match=reason) as caught:
        read_image(path)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)
    assert str(path) not in caught.value.reason or reason == "directory"


def test_truncated_png_and_broken_exif_raise_nothing_else(tmp_path) -> None:
    path = tmp_path / "a.png"
    _truncated(path)
    with pytest.raises(BadImage):
        read_image(path)
    _wild_exif(tmp_path / "a.jpg")
    with warnings.catch_warnings(), suppress(BadImage):
        warnings.simplefilter("ignore")  # Pillow's
        read_image(tmp_path / "a.jpg")


def test_whatever_a_reader_raises_is_a_bad_image(tmp_path, monkeypatch) -> None:
    path = save(tmp_path / "a.png", noise(8, 8))
    monkeypatch.setattr(Image.Image, "load", lambda self: {}["tag"])
    with pytest.raises(BadImage, match="tag"):
        read_image(path)


def test_decompression_bombs_are_refused(tmp_path, monkeypatch) -> None:
    path = save(tmp_path / "a.png", noise(50, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(BadImage, match="decompression bomb"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("IMG_1.JPG", True), ("a.webp", True), (".a.jpg", False), ("a.json", False), ("jpg", False)],
)
def test_names_of_pictures(name, expected) -> None:
    assert is_image(Path(name)) is expected
