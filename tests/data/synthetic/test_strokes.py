import numpy as np
import pytest

from palmforge.data.synthetic.silhouette import Raster
from palmforge.data.synthetic.strokes import SPACING, Stroke, arc, bezier, engrave, folds

RASTER = Raster(300.0)


def straight(depth: float, width: float, fold: float = 0.0) -> Stroke:
    path = arc(np.array([-0.2, 0.5]), 0.0, 0.4, 0.0)
    return Stroke(path, np.full(len(path), depth), np.full(len(path), width), fold)


def profile(groove: np.ndarray) -> np.ndarray:
    """Depth across the middle of the straight stroke."""
    column = round(RASTER.texel(np.array([0.0, 0.5]))[0])
    return groove[:, column]


@pytest.mark.parametrize("width", [0.003, 0.005, 0.009])
def test_a_groove_has_the_depth_and_the_width_that_were_asked_for(width):
    across = profile(engrave([straight(0.5, width)], RASTER))
    rows = np.arange(len(across)) / RASTER.density
    middle = (rows * across).sum() / across.sum()
    spread = np.sqrt((across * (rows - middle) ** 2).sum() / across.sum())
    assert across.max() == pytest.approx(0.5, rel=0.15)
    assert spread == pytest.approx(width, rel=0.2)


def test_a_hair_finer_than_a_texel_keeps_its_area_and_stays_narrow():
    across = profile(engrave([straight(0.5, 0.0015)], RASTER))
    area = 0.5 * np.sqrt(2 * np.pi) * 0.0015 * RASTER.density
    assert across.sum() == pytest.approx(area, rel=0.1)
    assert (across > 0.05).sum() <= 4


def test_crossing_grooves_never_go_through_the_hand():
    assert engrave([straight(1.0, 0.005)] * 6, RASTER).max() <= 1.35


def test_only_strokes_that_fold_deepen_when_the_hand_closes():
    folding = folds([straight(0.5, 0.005, fold=1.0), straight(0.9, 0.02)], RASTER)
    np.testing.assert_allclose(folding, engrave([straight(0.5, 0.005)], RASTER), atol=1e-6)


def test_paths_have_points_at_the_common_spacing():
    for path in (arc(np.zeros(2), 1.0, 0.3, 2.0), bezier((0, 0), (0.2, 0.3), (0.5, 0.1))):
        steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
        assert np.abs(steps / SPACING - 1).max() < 0.1
