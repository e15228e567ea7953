import numpy as np
import pytest

from palmforge.data.synthetic.anatomy import build_hand
from palmforge.data.synthetic.mesh import build_mesh
from palmforge.data.synthetic.viewpoint import Viewpoint, look, project, sample_viewpoint


def straight(**changes) -> Viewpoint:
    settings = {
        "roll": 0.0, "tilt": np.zeros(2), "distance": 5.0, "palm_width": 0.3,
        "aim": np.array([0.0, 0.2]), "shift": np.zeros(2), "left": False,
    }  # fmt: skip
    return Viewpoint(**{**settings, **changes})


def test_a_palm_is_as_wide_as_it_says():
    view = straight(shift=np.array([0.1, -0.05]))
    points = np.array([[-0.5, 0.2, 0], [0.5, 0.2, 0]])
    left, right = project(view.intrinsic(400), view.to_camera(points))
    np.testing.assert_allclose(right - left, [0.3 * 400, 0], atol=1e-9)
    np.testing.assert_allclose((left + right) / 2, [199.5 + 40, 199.5 - 20], atol=1e-9)


def test_what_is_nearer_is_larger_and_a_left_hand_is_mirrored():
    near = np.array([[0.2, 0.2, 1.0]])
    right, left = (straight(left=side) for side in (False, True))
    x = project(right.intrinsic(400), right.to_camera(near))[0, 0] - 199.5
    assert x == pytest.approx(0.2 * 0.3 * 400 * 5 / 4)
    assert project(left.intrinsic(400), left.to_camera(near))[0, 0] - 199.5 == pytest.approx(-x)


def test_roll_turns_clockwise():
    view = straight(roll=90.0)
    above = np.array([[0.0, -0.3, 0.0]])  # the fingers' side
    x, y = project(view.intrinsic(400), view.to_camera(above))[0] - 199.5
    assert x > 50 and abs(y) < 1e-6


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("tilt", [(0, 0), (30, -25)])
def test_pixels_see_the_places_that_project_onto_them(left, tilt):
    hand = build_hand(3, 6, seed=0)
    mesh = build_mesh(hand)
    view = straight(left=left, tilt=np.array(tilt), roll=37.0)
    points = np.column_stack([mesh.xy, mesh.z]).astype(float)
    normals = view.normals_to_view(mesh.normals(points))
    camera = view.to_camera(points)
    seen = look(mesh, camera, normals, view.intrinsic(300), (300, 300), left)
    pixels = project(view.intrinsic(300), camera)
    x, y = np.rint(pixels).astype(int).T
    inside = ((x >= 0) & (x < 300) & (y >= 0) & (y < 300)) & ~mesh.back & (mesh.z > 0.03)
    x, y = x[inside], y[inside]
    front = np.abs(seen.depth[y, x] - camera[inside, 2]) < 0.02  # not hidden by others
    assert front.mean() > 0.8
    offset = seen.texture[y, x] - mesh.xy[inside]
    unit = 0.3 * 300
    # A pixel's centre is up to half a pixel away, on skin that may slant.
    assert np.quantile(np.abs(offset[front]).max(1), 0.95) < 1.6 / unit
    assert np.abs(offset[front].mean(0)).max() < 0.15 / unit


def test_wild_cameras_look_from_everywhere():
    views = [sample_viewpoint(np.random.default_rng(n), True, False) for n in range(400)]
    roll = np.array([view.roll for view in views])
    assert np.histogram(roll, bins=8, range=(-180, 180))[0].min() > 25
    assert max(view.palm_width for view in views) / min(view.palm_width for view in views) > 3
