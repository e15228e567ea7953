import numpy as np
import pytest

from palmforge.data.synthetic.complexion import tones
from palmforge.data.synthetic.mesh import PALM_BOX
from palmforge.data.synthetic.skin import Skin, paint_skin


def crop_like(whole: Skin, part: Skin, name: str) -> np.ndarray:
    column, row = np.rint(whole.raster.texel(np.array(part.raster.box[:2]))).astype(int)
    rows, columns = part.raster.shape
    return getattr(whole, name)[row : row + rows, column : column + columns]


def palm_detail(identity: int, density: float = 130.0) -> np.ndarray:
    """Height of the creases in the middle of the palm."""
    skin = paint_skin(identity, 5, density, PALM_BOX)
    corners = skin.raster.texel(np.array([[-0.25, 0.1], [0.25, 0.7]]))
    (left, top), (right, bottom) = np.rint(corners).astype(int)
    return skin.layers[top:bottom, left:right, 1]


@pytest.mark.parametrize("density", [131.0, 260.0])
def test_a_part_of_the_hand_is_painted_like_the_same_part_of_the_whole(density):
    whole, part = paint_skin(4, 5, density), paint_skin(4, 5, density, PALM_BOX)
    border = round(0.06 * density)  # the heaped-up skin knows nothing beyond the box
    inside = (slice(border, -border), slice(border, -border))
    for name in ("distance", "layers"):
        np.testing.assert_allclose(
            crop_like(whole, part, name)[inside], getattr(part, name)[inside], atol=3e-5
        )
    np.testing.assert_array_equal(whole.keypoints14, part.keypoints14)
    np.testing.assert_array_equal(whole.relief, part.relief)


def test_painting_depends_on_nothing_that_was_painted_before():
    first = paint_skin(6, 5, 100.0, PALM_BOX)
    for other in range(8, 14):  # pushes identity 6 out of the cache
        paint_skin(other, 5, 100.0, PALM_BOX)
    again = paint_skin(6, 5, 100.0, PALM_BOX)
    assert again is not first
    np.testing.assert_array_equal(first.layers, again.layers)


def test_layers_have_the_promised_ranges():
    skin = paint_skin(1, 5, 150.0)
    inside = skin.distance < -0.03
    fold, detail, melanin, blood = skin.layers[inside].T
    assert skin.layers.dtype == np.float32 and skin.layers.shape[:2] == skin.raster.shape
    assert skin.relief.shape == skin.relief_raster.shape
    assert fold.min() >= 0 and fold.max() <= 1 and fold.max() > 0.4
    assert abs(detail.mean()) < 1e-4 and -0.012 < detail.min() < -0.002
    assert np.median(np.abs(melanin)) < 0.15 and melanin.max() < 1.5
    assert np.abs(blood).max() < 1.5


def test_key_points_and_creases_do_not_depend_on_the_density():
    coarse, fine = paint_skin(2, 5, 100.0, PALM_BOX), paint_skin(2, 5, 200.0, PALM_BOX)
    np.testing.assert_array_equal(coarse.keypoints14, fine.keypoints14)
    # The same hollows, seen twice: every other texel of the fine one lies on the coarse one.
    a, b = coarse.layers[..., 0], fine.layers[::2, ::2, 0]
    rows, columns = np.minimum(a.shape, b.shape)
    assert np.corrcoef(a[:rows, :columns].ravel(), b[:rows, :columns].ravel())[0, 1] > 0.9


def test_palms_differ_between_identities_and_between_the_two_hands_of_a_person():
    palms = [palm_detail(identity).ravel() for identity in range(10)]
    similar = np.corrcoef(palms) - np.eye(len(palms))
    assert np.abs(similar).max() < 0.35


def test_the_two_hands_of_a_person_share_the_tone_and_people_span_the_range():
    left, right = paint_skin(8, 5, 80.0, PALM_BOX), paint_skin(9, 5, 80.0, PALM_BOX)
    np.testing.assert_array_equal(left.palm, right.palm)
    palm, back = np.stack([tones(subject, 5) for subject in range(200)]).transpose(1, 0, 2)
    assert palm[:, 1].min() < 0.2 and palm[:, 1].max() > 0.45
    assert (back < palm).all()


def test_a_box_outside_the_hand_frame_is_refused():
    with pytest.raises(ValueError, match="inside"):
        paint_skin(0, 0, 100.0, (-3.0, 0.0, 0.5, 1.0))
