from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest

from palmforge.data.synthetic.camera import (
    PRESETS,
    XJTU_PRESETS,
    encode_jpeg,
    expose,
    get_preset,
    sample_device,
    sample_flash,
)
from palmforge.data.synthetic.device import ANY_DEVICE

WILD = get_preset("wild")
PERFECT = replace(ANY_DEVICE, noise=0.0, sharpening=0.0, contrast=0.0, lens_blur=0.1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scene(height: int = 96, width: int = 128) -> np.ndarray:
    blobs = rng(5).random((height // 8, width // 8, 3), dtype=np.float32)
    return cv2.resize(blobs, (width, height), interpolation=cv2.INTER_CUBIC).clip(0.02, 1)


def detail(image: np.ndarray) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std())


def test_the_wild_is_a_preset_but_no_domain_of_xjtu_up():
    assert list(XJTU_PRESETS) == ["IF", "IN", "HF", "HN", "LF", "LN", "SF", "SN", "MF", "MN"]
    assert set(PRESETS) - set(XJTU_PRESETS) == {"wild"}
    assert WILD.flash is None and WILD.code == "wild"


def test_flash_is_as_the_preset_says_and_now_and_then_in_the_wild():
    assert all(sample_flash(get_preset("IF"), rng(i)) for i in range(20))
    assert not any(sample_flash(get_preset("IN"), rng(i)) for i in range(20))
    assert 10 < sum(sample_flash(WILD, rng(i)) for i in range(200)) < 60


def test_the_same_numbers_give_the_same_picture_and_the_scene_is_left_alone():
    light = scene()
    for preset in (WILD, get_preset("HN")):
        before = light.copy()
        first = expose(light, sample_device(preset, rng(3)), False, rng(4))
        np.random.default_rng(9).random(5)
        cv2.setRNGSeed(77)  # whatever others do with OpenCV's generator
        again = expose(light, sample_device(preset, rng(3)), False, rng(4))
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(light, before)


@pytest.mark.parametrize("shape", [(128, 128), (131, 77), (64, 200), (40, 40)])
def test_pictures_of_any_shape_come_out_as_bytes_of_that_shape(shape):
    light = cv2.resize(scene(), shape[::-1])
    for seed in range(40):
        image = expose(light, sample_device(WILD, rng(seed)), bool(seed % 2), rng(seed))
        assert image.shape == (*shape, 3) and image.dtype == np.uint8


def test_every_number_of_a_device_is_a_plain_value_for_the_manifest():
    for preset in (WILD, get_preset("IF")):
        for value in asdict(sample_device(preset, rng(1))).values():
            leaves = value if isinstance(value, tuple) else (value,)
            assert all(type(leaf) in (int, float, str) for leaf in leaves)


def test_the_wild_has_grey_soft_noisy_and_small_pictures_and_most_are_none_of_these():
    devices = [sample_device(WILD, rng(seed)) for seed in range(600)]
    faults = np.array(
        [
            [d.saturation == 0, max(d.defocus, d.motion) > 2.2, d.noise > 6, d.shrink > 2]
            for d in devices
        ]
    )
    assert (faults.mean(0) > 0.01).all() and (faults.mean(0) < 0.3).all()
    assert 0.35 < (~faults.any(1)).mean() < 0.85
    assert len({d.folder for d in devices}) == 5


@pytest.mark.parametrize(
    "fault", [{"defocus": 3.0}, {"motion": 6.0}, {"shrink": 4.0}, {"lens_blur": 2.0}]
)
def test_blur_and_lost_resolution_take_detail_away(fault):
    light = cv2.resize(rng(2).random((384, 384, 3), dtype=np.float32), (384, 384))
    sharp = expose(light, PERFECT, False, rng())
    assert detail(expose(light, replace(PERFECT, **fault), False, rng())) < 0.7 * detail(sharp)


def test_a_part_of_a_picture_is_blurred_as_the_whole_would_be():
    light = rng(2).random((128, 128, 3), dtype=np.float32)
    device = replace(PERFECT, lens_blur=1.0)
    alone, part = (expose(light, device, False, rng(), frame=f) for f in (None, 512))
    assert detail(part) < 0.6 * detail(alone)


def test_flash_leaves_no_time_to_shake():
    light, device = scene(), replace(PERFECT, motion=20.0)
    assert detail(expose(light, device, True, rng())) > detail(expose(light, device, False, rng()))


def test_exposure_noise_and_colour_do_what_they_say():
    light = scene()
    plain = expose(light, PERFECT, False, rng()).astype(float)
    darker = expose(light, replace(PERFECT, exposure=-1.0), False, rng())
    assert darker.mean() < 0.8 * plain.mean()
    noisy = expose(light, replace(PERFECT, noise=8.0, chroma_noise=0.0), False, rng())
    assert 6 < (noisy - plain).std() < 10
    grey = expose(light, replace(PERFECT, saturation=0.0), False, rng())
    assert np.ptp(grey.astype(int), axis=2).max() <= 1
    warm = expose(light, replace(PERFECT, white_balance=(1.3, 1.0, 0.7)), False, rng())
    assert warm[..., 0].mean() > warm[..., 2].mean() + 20


def test_a_bright_hand_on_black_keeps_its_creases():
    light = np.full((96, 96, 3), 0.002, np.float32)
    light[60:, 60:] = 0.5
    image = expose(light, PERFECT, True, rng())
    assert image[80, 80].max() < 255


def test_files_of_presets_and_devices_are_jpeg():
    image = expose(scene(), PERFECT, False, rng())
    files = [encode_jpeg(image, camera) for camera in (WILD, WILD.device, get_preset("IF"))]
    assert files[0] == files[1] != files[2]
    back = cv2.imdecode(np.frombuffer(files[0], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(back.astype(int) - image).mean() < 2


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"'XF'.*MN, wild"):
        get_preset("XF")
