import numpy as np
import pytest

from palmforge.data.synthetic.background import _WILD, paint_background

SHAPES = [(96, 96), (70, 130), (131, 64)]


@pytest.mark.parametrize("preset", ["IF", "wild"])
def test_backgrounds_are_linear_light_of_the_shape_asked_for(preset):
    for seed in range(60):
        shape = SHAPES[seed % len(SHAPES)]
        image, what = paint_background(np.random.default_rng(seed), *shape, preset)
        assert image.shape == (*shape, 3) and image.dtype == np.float32
        assert np.isfinite(image).all() and image.min() > 0
        assert len(what.colour) == 3 and what.blur >= 0


@pytest.mark.parametrize("kind", list(_WILD))
def test_every_kind_is_painted_at_every_shape_and_differs_from_seed_to_seed(kind):
    for height, width in SHAPES:
        pictures = [_WILD[kind].paint(np.random.default_rng(s), height, width) for s in (1, 2)]
        assert all(p.shape == (height, width, 3) and p.dtype == np.float32 for p in pictures)
        assert all(np.isfinite(p).all() for p in pictures)
        assert np.abs(pictures[0] - pictures[1]).mean() > 1e-3


def test_the_same_seed_gives_the_same_background():
    for seed in range(20):
        first, again = (
            paint_background(np.random.default_rng(seed), 64, 80, "wild") for _ in range(2)
        )
        np.testing.assert_array_equal(first[0], again[0])
        assert first[1] == again[1]


def test_xjtu_rooms_have_four_kinds_and_the_wild_has_all_sharp_or_blurred():
    def drawn(preset):
        return [paint_background(np.random.default_rng(s), 32, 32, preset)[1] for s in range(300)]

    assert {what.kind for what in drawn("HN")} == {"wall", "wood", "cloth", "clutter"}
    wild = drawn("wild")
    assert {name for what in wild for name in what.kind.split("+")} == set(_WILD)
    assert 0.2 < np.mean([what.blur == 0 for what in wild]) < 0.7
