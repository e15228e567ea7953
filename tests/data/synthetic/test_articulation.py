import dataclasses

import numpy as np
import pytest

from palmforge.data.synthetic.anatomy import build_hand
from palmforge.data.synthetic.articulation import Pose, rotation, sample_pose


def still(**changes) -> Pose:
    rest = Pose(
        spread=np.zeros(5),
        flexion=np.zeros((5, 3)),
        opposition=0.0,
        wrist=np.zeros(2),
        cupping=0.0,
        ripples=np.zeros((2, 3, 4)),
    )
    return dataclasses.replace(rest, **changes)


@pytest.fixture(scope="module")
def hand():
    return build_hand(0, 1, seed=0)


def test_a_hand_at_rest_stays_where_it_is(hand):
    points = hand.keypoints21
    np.testing.assert_allclose(still().place_skin(hand, points)[:, :2], points, atol=1e-9)


def test_bending_a_finger_lifts_its_tip_and_keeps_its_bones_long(hand):
    flexion = np.zeros((5, 3))
    flexion[1] = 20, 40, 25
    posed = still(flexion=flexion).place_skin(hand, hand.joints[1])
    assert np.all(np.diff(posed[:, 2]) > 0)  # towards the camera, ever more
    length = np.linalg.norm(np.diff(hand.joints[1], axis=0), axis=1)
    np.testing.assert_allclose(np.linalg.norm(np.diff(posed, axis=0), axis=1), length, rtol=0.1)
    others = still(flexion=flexion).place_skin(hand, hand.joints[3])
    np.testing.assert_allclose(others[:, :2], hand.joints[3], atol=1e-3)


def test_a_right_angle_at_the_root_points_the_finger_at_the_camera(hand):
    flexion = np.zeros((5, 3))
    flexion[2, 0] = 90
    root, *_, tip = still(flexion=flexion).place_skin(hand, hand.joints[2])
    reach = np.linalg.norm(hand.joints[2, 3] - hand.joints[2, 0])
    assert tip[2] - root[2] == pytest.approx(reach, rel=0.05)
    np.testing.assert_allclose(tip[:2], root[:2], atol=0.06)


def test_closing_brings_the_fingertips_together(hand):
    spread = np.array([0.0, -8.0, -1.0, 5.0, 11.0])
    tips = still(spread=spread).place_skin(hand, hand.joints[1:, 3])[:, 0]
    assert np.ptp(tips) < np.ptp(hand.joints[1:, 3, 0]) - 0.2
    assert (np.diff(tips) < 0).all()  # and does not cross them


def test_rotation_is_rodrigues():
    turn = rotation(np.array([0.0, 0.0, 1.0]), 90)
    np.testing.assert_allclose(turn @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)


def test_a_closed_palm_folds_more_than_a_flat_one():
    assert still().folding == 0
    assert still(flexion=np.full((5, 3), 40.0), cupping=0.2).folding > 0.5


@pytest.mark.parametrize("wild", [False, True])
def test_sampled_poses_are_within_a_hands_reach(wild):
    for n in range(200):
        pose = sample_pose(np.random.default_rng(n), wild)
        assert pose.flexion.min() >= -45 and pose.flexion.max() <= 130
        assert np.abs(pose.spread).max() < 40 and abs(pose.cupping) < 1
        assert 0 <= pose.folding <= 1
