import cv2
import numpy as np
import pytest

from palmforge.data.roi import extract_roi, xjtu_roi_quad
from palmforge.data.synthetic import PRESETS, render_palm, render_roi
from palmforge.data.synthetic.anatomy import build_hand
from palmforge.data.synthetic.camera import encode_jpeg
from palmforge.data.synthetic.mesh import WHOLE, build_mesh
from palmforge.data.synthetic.skin import paint_skin
from palmforge.data.synthetic.viewpoint import project

SIZE = 224


def roi_grey(identity: int, capture: int, preset: str) -> np.ndarray:
    image, truth = render_palm(identity, capture, preset, SIZE, seed=0)
    roi = extract_roi(image, xjtu_roi_quad(truth.keypoints14), 64)
    return cv2.cvtColor(roi, cv2.COLOR_RGB2GRAY)


def lines_of(grey: np.ndarray) -> np.ndarray:
    """A band-pass filter that keeps creases and drops light and colour."""
    grey = grey.astype(np.float32)
    return cv2.GaussianBlur(grey, (0, 0), 1.0) - cv2.GaussianBlur(grey, (0, 0), 4.0)


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Best normalised correlation over small shifts."""
    return float(cv2.matchTemplate(a, b[7:-7, 7:-7].copy(), cv2.TM_CCOEFF_NORMED).max())


def test_the_same_arguments_give_the_same_picture_whatever_was_rendered_before():
    first, truth = render_palm(3, 2, "IN", SIZE, 0)
    for other in range(6):  # pushes identity 3 out of the cache
        render_palm(other + 10, 1, "HF", SIZE, 0)
    again, truth_again = render_palm(3, 2, "IN", SIZE, 0)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(truth.keypoints14, truth_again.keypoints14)
    np.testing.assert_array_equal(truth.mask, truth_again.mask)


@pytest.mark.parametrize(
    "other", [(3, 3, "IN", 0), (5, 2, "IN", 0), (3, 2, "IF", 0), (3, 2, "IN", 1)]
)
def test_another_capture_identity_preset_or_seed_gives_another_picture(other):
    identity, capture, preset, seed = other
    first, truth = render_palm(3, 2, "IN", SIZE, 0)
    second, other_truth = render_palm(identity, capture, preset, SIZE, seed)
    assert np.abs(first.astype(int) - second).mean() > 2
    assert np.abs(truth.keypoints14 - other_truth.keypoints14).max() > 0.5


def test_picture_and_truth_have_the_promised_types():
    image, truth = render_palm(0, 0, "SN", SIZE, 0)
    assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
    assert truth.mask.shape == (SIZE, SIZE) and truth.mask.dtype == bool
    assert truth.keypoints14.shape == (14, 2) and truth.keypoints21.shape == (21, 2)
    assert 0.2 < truth.mask.mean() < 0.8


@pytest.mark.parametrize("identity", range(6))
def test_the_thumb_is_on_the_side_that_the_hand_says(identity):
    _, truth = render_palm(identity, 1, "IF", SIZE, 0)
    assert truth.hand == "LR"[identity % 2]
    to_the_right = 1 if truth.hand == "R" else -1
    p0, p12 = truth.keypoints14[[0, 12], 0]
    thumb_tip, little_tip = truth.keypoints21[[4, 20], 0]
    assert np.sign(p0 - p12) == to_the_right
    assert np.sign(thumb_tip - little_tip) == to_the_right


@pytest.mark.parametrize("identity", range(8))
def test_the_14_points_lie_on_the_outline_in_the_order_of_the_definition(identity):
    _, truth = render_palm(identity, 4, "IF", SIZE, 0)
    points = truth.keypoints14
    inside = truth.mask.astype(np.uint8)
    to_outline = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
    to_outline += cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5)
    rows, columns = np.clip(np.rint(points[:, ::-1]), 0, SIZE - 1).astype(int).T
    assert to_outline[rows, columns].max() < 3.0
    across = points[[0, 1, 3, 6, 9, 11]] @ (points[9] - points[3])
    assert (np.diff(across[1:]) > 0).all()
    # The wrist side is below; the ROI is all skin, and takes up a fair part of the palm.
    assert points[13, 1] > points[12, 1] > points[9, 1]
    roi = extract_roi((inside * 255)[..., None].repeat(3, 2), xjtu_roi_quad(points), 32)
    assert (roi > 127).mean() > 0.97


def test_the_21_points_lie_in_the_hand():
    for identity in range(4):
        _, truth = render_palm(identity, 2, "IN", SIZE, 0)
        points = truth.keypoints21
        seen = ((points >= 0) & (points < SIZE - 0.5)).all(1)
        columns, rows = np.rint(points[seen]).astype(int).T
        thick = cv2.dilate(truth.mask.astype(np.uint8), np.ones((3, 3)))
        assert seen.sum() >= 17
        assert thick[rows, columns].all()


@pytest.mark.parametrize(("identity", "capture"), [(0, 1), (3, 2), (4, 5), (7, 3)])
def test_the_skin_that_a_pixel_shows_projects_back_onto_it(identity, capture):
    _, truth = render_palm(identity, capture, "wild", SIZE, 0)
    drawn, hand = truth.capture, build_hand(identity // 2, identity, 0)
    mesh = build_mesh(hand, WHOLE)
    rows, columns = np.nonzero(truth.mask)
    place = truth.place[rows, columns]
    on_palm = (np.abs(place[:, 0]) < 0.3) & (place[:, 1] > 0.3) & (place[:, 1] < 0.9)
    rows, columns, place = rows[on_palm][::7], columns[on_palm][::7], place[on_palm][::7]
    front = ~mesh.back
    nearest = np.linalg.norm(mesh.xy[front][None] - place[:, None], axis=2).argmin(1)
    height = mesh.z[front][nearest]  # the mesh's own: palms are smooth at its spacing
    camera = drawn.viewpoint.to_camera(drawn.pose.place_skin(hand, place, height))
    pixels = project(drawn.viewpoint.intrinsic(SIZE), camera)
    error = np.linalg.norm(pixels - np.column_stack([columns, rows]), axis=1)
    assert len(error) > 20 and np.median(error) < 0.8


def test_points_are_where_their_places_are_seen():
    skin = paint_skin(5, 0, round(0.58 * SIZE))
    for capture in range(4):
        _, truth = render_palm(5, capture, "IN", SIZE, 0)
        rows, columns = np.nonzero(truth.mask)
        places = truth.place[rows, columns]
        for point, place in zip(truth.keypoints14, skin.keypoints14, strict=True):
            seen = np.linalg.norm(places - place, axis=1).argmin()  # the same spot of skin
            assert np.linalg.norm(point - [columns[seen], rows[seen]]) < 0.02 * SIZE


def test_hidden_points_are_said_to_be_hidden():
    flags = []
    for capture in range(12):
        _, truth = render_palm(2, capture, "wild", 160, 0)
        x, y = np.rint(truth.keypoints21).astype(int).T
        outside = (x < 0) | (y < 0) | (x >= 160) | (y >= 160)
        assert not truth.visible21[outside].any()
        flags.append(truth.visible14)
    assert 0.7 < np.mean(flags) <= 1.0


def test_a_roi_rendered_directly_is_the_roi_cut_from_the_photograph():
    scores = []
    for identity, capture in ((2, 1), (3, 1), (6, 4), (9, 2)):
        image, truth = render_palm(identity, capture, "IF", 640, 0)
        cut = cv2.cvtColor(extract_roi(image, truth.quad, 96), cv2.COLOR_RGB2GRAY)
        direct, _ = render_roi(identity, capture, "IF", 96, 0)
        scores.append(similarity(lines_of(cut), lines_of(cv2.cvtColor(direct, cv2.COLOR_RGB2GRAY))))
    assert min(scores) > 0.75


def test_a_frame_error_moves_the_frame_and_nothing_else():
    exact, truth = render_roi(3, 2, "IN", 96, 0)
    missed, other = render_roi(3, 2, "IN", 96, 0, frame_error=1.0)
    assert truth.capture.parameters() == other.capture.parameters()
    assert np.abs(exact.astype(int) - missed).mean() > 1


def test_the_picture_scales_with_its_size():
    (small, small_truth), (large, large_truth) = (
        render_palm(2, 1, "IF", size, seed=0) for size in (192, 384)
    )
    expected = (small_truth.keypoints14 + 0.5) * 2 - 0.5
    assert np.abs(large_truth.keypoints14 - expected).max() < 4
    agree = large_truth.mask[::2, ::2] == small_truth.mask
    assert agree.mean() > 0.96  # they may differ by a pixel along the outline
    lines = [
        lines_of(cv2.cvtColor(extract_roi(i, xjtu_roi_quad(t.keypoints14), 64), cv2.COLOR_RGB2GRAY))
        for i, t in ((small, small_truth), (large, large_truth))
    ]
    assert similarity(*lines) > 0.8


def test_two_hands_of_a_person_share_the_build_but_not_the_lines():
    left, right, stranger = (paint_skin(identity, 0, 100) for identity in (6, 7, 9))
    np.testing.assert_array_equal(left.palm, right.palm)
    assert not np.array_equal(left.palm, stranger.palm)
    own = np.abs(left.hand.lengths - right.hand.lengths).max()
    assert own < np.abs(left.hand.lengths - stranger.hand.lengths).max()
    assert similarity(lines_of(roi_grey(6, 1, "IF")), lines_of(roi_grey(7, 1, "IF"))) < 0.6


def test_palms_are_recognised_by_their_lines():
    identities = range(8)
    gallery = [lines_of(roi_grey(i, 1, "IF")) for i in identities]
    probes = [lines_of(roi_grey(i, 2, "IN")) for i in identities]
    scores = np.array([[similarity(a, b) for b in gallery] for a in probes])
    genuine, impostor = np.diag(scores), scores[~np.eye(len(scores), dtype=bool)]
    assert genuine.mean() > impostor.mean() + 0.3
    assert (scores.argmax(1) == np.arange(len(scores))).mean() >= 0.8


def test_an_unknown_preset_is_refused_with_the_names_of_the_known_ones():
    with pytest.raises(ValueError, match=r"'XF'.*IF, IN, HF, HN, LF, LN, SF, SN, MF, MN, wild"):
        render_palm(0, 0, "XF", SIZE, 0)


@pytest.mark.parametrize("bad", [{"identity": -1}, {"capture": -1}, {"seed": -1}, {"size": 32}])
def test_numbers_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="must be >= "):
        render_palm(**{"identity": 0, "capture": 0, "preset": "IF", "size": 128, "seed": 0, **bad})


def test_the_presets_write_jpeg_files_of_their_own_kind():
    image, _ = render_palm(0, 0, "IF", SIZE, 0)
    files = {code: encode_jpeg(image, PRESETS[code]) for code in ("IF", "LF", "MF")}
    assert all(data[:2] == b"\xff\xd8" for data in files.values())
    assert len(set(files.values())) == 3
    decoded = cv2.imdecode(np.frombuffer(files["IF"], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decoded.astype(int) - image).mean() < 6
