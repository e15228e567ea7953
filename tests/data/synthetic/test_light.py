from dataclasses import replace

import numpy as np
import pytest

from palmforge.data.synthetic.camera import get_preset
from palmforge.data.synthetic.light import Light, sample_light, shade

WILD = get_preset("wild")
SIZE = 96


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ball() -> np.ndarray:
    """Normals of a ball that fills the picture."""
    at = np.linspace(-0.7, 0.7, SIZE, dtype=np.float32)
    x, y = np.meshgrid(at, at)
    return np.dstack([x, y, np.sqrt(1 - x * x - y * y)]).astype(np.float32)


def lamp(**changes) -> Light:
    white = np.ones((1, 3))
    side = np.array([[0.8, 0.0, 0.6]])
    base = replace(
        sample_light(get_preset("IN"), False, rng()),
        directions=side, strengths=np.ones(1), colours=white, ambient=0.2,
        ambient_colour=np.ones(3), lean=np.zeros(3), wrap=0.1, falloff=0.0, shadow=0.0,
        shine=0.1, roughness=0.2, rim=0.0,
    )  # fmt: skip
    return replace(base, **changes)


OPEN = np.ones((SIZE, SIZE), np.float32)


@pytest.mark.parametrize("code", ["IF", "IN", "wild"])
def test_light_is_finite_never_negative_and_depends_on_its_numbers_only(code):
    preset = get_preset(code)
    for seed in range(40):
        flash = bool(seed % 2) if preset.flash is None else preset.flash
        light = sample_light(preset, flash, rng(seed))
        irradiance, mirrored = shade(light, ball(), OPEN, rng(seed))
        for part in (irradiance, mirrored):
            assert part.shape == (SIZE, SIZE, 3) and part.dtype == np.float32
            assert np.isfinite(part).all() and part.min() >= -1e-6
        again = shade(sample_light(preset, flash, rng(seed)), ball(), OPEN, rng(seed))
        np.testing.assert_array_equal(irradiance, again[0])
        np.testing.assert_array_equal(mirrored, again[1])


def test_lamps_are_unit_directions_with_the_strongest_first():
    kinds = set()
    for seed in range(200):
        light = sample_light(WILD, seed % 8 == 0, rng(seed))
        kinds.add(light.kind)
        assert 1 <= len(light.directions) == len(light.strengths) == len(light.colours) <= 3
        np.testing.assert_allclose(np.linalg.norm(light.directions, axis=1), 1)
        assert light.main == light.strengths.max()
        np.testing.assert_allclose(light.colours.mean(1), 1)
        assert light.background_light.shape == (3,) and light.background_light.min() > 0
    assert len(kinds) == 9


def test_the_side_towards_the_lamp_is_brighter_and_mirrors_it():
    irradiance, mirrored = shade(lamp(), ball(), OPEN, rng())
    assert irradiance[:, 60:].mean() > 2 * irradiance[:, :36].mean()
    assert mirrored[:, 48:].mean() > 10 * mirrored[:, :24].mean()


def test_red_light_wraps_farthest_around_the_skin():
    irradiance, _ = shade(lamp(wrap=0.3), ball(), OPEN, rng())
    dark = irradiance[40:56, :8].mean((0, 1)) / irradiance[48, 90]
    assert dark[0] > dark[1] > dark[2]


def test_gaps_are_darker_and_redder_than_open_skin():
    closed = np.full_like(OPEN, 0.4)
    ratio = shade(lamp(), ball(), closed, rng())[0] / shade(lamp(), ball(), OPEN, rng())[0]
    assert ratio.max() < 0.95 and ratio[..., 0].mean() > ratio[..., 2].mean()


def test_low_light_shows_relief_more_than_frontal_light():
    bumps = 0.15 * np.sin(np.arange(SIZE, dtype=np.float32))
    normals = np.zeros((SIZE, SIZE, 3), np.float32)
    normals[..., 0], normals[..., 2] = bumps, np.sqrt(1 - bumps**2)
    low = np.array([[np.cos(0.25), 0, np.sin(0.25)]])
    front = np.array([[0.0, 0.0, 1.0]])
    seen = [shade(lamp(directions=d), normals, OPEN, rng())[0][..., 1] for d in (low, front)]
    contrast = [float(image.std() / image.mean()) for image in seen]
    assert contrast[0] > 5 * contrast[1]


@pytest.mark.parametrize("pattern", ["edge", "blinds", "leaves"])
def test_shadows_with_edges_darken_a_part_of_the_picture(pattern):
    flat = np.zeros((SIZE, SIZE, 3), np.float32)
    flat[..., 2] = 1
    light = lamp(pattern=pattern, pattern_depth=0.8, pattern_softness=0.02)
    image = shade(light, flat, OPEN, rng(1))[0][..., 1]
    assert image.min() < 0.6 * image.max()
