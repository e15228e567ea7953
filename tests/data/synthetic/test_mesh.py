import numpy as np
import pytest

from palmforge.data.synthetic.anatomy import build_hand
from palmforge.data.synthetic.mesh import NUM_BONES, PALM, PALM_BOX, WHOLE, build_mesh, skin_weights
from palmforge.data.synthetic.silhouette import Raster, keypoints14, signed_distance


@pytest.fixture(scope="module")
def hand():
    return build_hand(1, 2, seed=0)


@pytest.mark.parametrize("box", [WHOLE, PALM_BOX])
def test_the_mesh_covers_the_hand_once(hand, box):
    mesh = build_mesh(hand, box)
    front = mesh.triangles[: len(mesh.triangles) // 2]
    a, b, c = (mesh.xy[front[:, k]].astype(float) for k in range(3))
    (abx, aby), (acx, acy) = (b - a).T, (c - a).T
    areas = (abx * acy - aby * acx) / 2
    assert (areas >= 0).all()  # none folded over
    left, top, right, bottom = box
    inside = signed_distance(hand, Raster(96.0, box)) < 0
    covered = inside.mean() * (right - left) * (bottom - top)
    assert areas.sum() == pytest.approx(covered, rel=0.02)


def test_normals_point_out_of_the_hand_and_are_of_unit_length(hand):
    mesh = build_mesh(hand)
    normals = mesh.normals(np.column_stack([mesh.xy, mesh.z]).astype(float))
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)
    thick = np.abs(mesh.z) > 0.06
    assert (normals[thick & ~mesh.back, 2] > 0).mean() > 0.99
    assert (normals[thick & mesh.back, 2] < 0).mean() > 0.99


def test_a_flat_sheet_has_upright_normals(hand):
    mesh = build_mesh(hand)
    flat = np.column_stack([mesh.xy, np.zeros(len(mesh.xy))])
    normals = mesh.normals(flat)
    np.testing.assert_allclose(normals[~mesh.back, 2], 1, atol=1e-5)


def test_every_place_of_the_skin_follows_its_own_bones(hand):
    tips = hand.joints[:, 3]
    weights = skin_weights(hand, np.concatenate([tips, [[0.0, 0.6]]]))
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert weights.min() > -1e-6 and weights.shape[1] == NUM_BONES
    assert [int(w.argmax()) for w in weights[:5]] == [3, 6, 9, 12, 15]
    assert weights[5, PALM] > 0.99
    raster = Raster(96.0)
    edge = keypoints14(hand, signed_distance(hand, raster), raster)[[0, 12]]
    assert skin_weights(hand, edge)[:, PALM].min() > 0.6  # the palm's edge stays with the palm
