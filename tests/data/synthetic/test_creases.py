import numpy as np

from palmforge.data.synthetic.anatomy import build_hand
from palmforge.data.synthetic.creases import palm_creases
from palmforge.data.synthetic.principal_creases import (
    HEAD,
    HEART,
    LIFE,
    extend,
    joined_or_apart,
    principal_crease,
    single_crease,
)
from palmforge.data.synthetic.principal_lines import line_model
from palmforge.data.synthetic.silhouette import Raster, keypoints14, signed_distance
from palmforge.data.synthetic.strokes import Stroke
from palmforge.data.synthetic.wrinkles import crease_field, fine_creases


def typical_lines() -> np.ndarray:
    return line_model().sample(np.random.default_rng(3))


def total_length(strokes: list[Stroke]) -> int:
    return sum(len(s.points) for s in strokes)


def test_extended_lines_leave_the_roi_on_the_sides_where_palms_end():
    ends = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        lines = line_model().sample(rng)
        ends.append([extend(line, k, rng) for k, line in enumerate(lines)])
    assert np.median([palm[LIFE][0, 0] for palm in ends]) > 1.1  # radial edge
    assert np.median([palm[LIFE][-1, 1] for palm in ends]) > 1.2  # towards the wrist
    assert np.median([palm[HEART][-1, 0] for palm in ends]) < -0.1  # ulnar edge


def test_a_sydney_line_crosses_the_whole_palm():
    line, rng = typical_lines()[HEAD], np.random.default_rng(0)
    assert extend(line, HEAD, rng, sydney=True)[-1, 0] < line[-1, 0] - 0.2


def test_many_head_lines_begin_on_the_life_line_and_some_do_not():
    touching = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        life, head, _ = joined_or_apart(list(0.58 * line_model().sample(rng)), rng)
        touching.append(np.linalg.norm(life - head[0], axis=1).min() < 0.004)
    assert 0.25 < np.mean(touching) < 0.85


def test_a_single_crease_runs_from_the_heads_start_to_the_hearts_end():
    life, head, heart = typical_lines()
    lines = single_crease([life, head, heart], np.random.default_rng(0))
    assert len(lines) == 2
    np.testing.assert_allclose(lines[1][[0, -1]], [head[0], heart[-1]], atol=0.02)


def test_all_strokes_of_a_principal_line_stay_near_it():
    line = 0.58 * typical_lines()[HEART]
    for seed in range(30):
        for stroke in principal_crease(line, 0.9, np.random.default_rng(seed)):
            assert np.isfinite(stroke.points).all() and (stroke.depth >= 0).all()
            away = np.linalg.norm(stroke.points[:, None] - line[None], axis=2).min(1)
            assert away.max() < 0.25


def test_fine_creases_are_many_and_short_with_a_few_long_ones():
    field = crease_field(list(0.58 * typical_lines()), np.random.default_rng(0))
    fine = fine_creases(field, 0.0, np.random.default_rng(1))
    jumps = np.linalg.norm(np.diff(fine.points, axis=0), axis=1) > 0.02
    lengths = 0.003 * np.diff(np.flatnonzero(np.concatenate([[True], jumps, [True]])))
    assert 250 < len(lengths) < 2000
    assert np.median(lengths) < 0.09 < 0.2 < lengths.max()


def test_wrinkled_hands_have_more_creases_than_smooth_ones():
    hand, raster = build_hand(0, 0, 0), Raster(100.0)
    points = keypoints14(hand, signed_distance(hand, raster), raster)
    smooth, wrinkled = (
        [palm_creases(hand, points, np.random.default_rng(seed), way) for seed in range(8)]
        for way in (-1.8, 1.8)
    )
    for kind, more in ((0, 1.03), (1, 1.8)):  # the principal lines are among the strong ones
        few, many = (sum(total_length(palm[kind]) for palm in p) for p in (smooth, wrinkled))
        assert many > more * few
