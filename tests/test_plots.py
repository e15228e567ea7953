"""Figures show the numbers they were given."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from palmforge.metrics.scores import ScoreCounts
from palmforge.plots import COLOURS, _thinned, det_figure, histogram_figure, montage, roc_figure


def _scores(shift: float = 30, seed: int = 0, whole: bool = True) -> ScoreCounts:
    rng = np.random.default_rng(seed)
    genuine, impostor = rng.normal(64 - shift, 8, 2000), rng.normal(64, 6, 5000)
    if whole:
        genuine, impostor = np.rint(genuine), np.rint(impostor)
    return ScoreCounts.from_scores(genuine, impostor)


def _drawn(figure: Figure) -> Figure:
    """Rendering finds what construction does not: bad limits, bad labels."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    assert file.getvalue().startswith(b"\x89PNG")
    return figure


def test_roc_shows_each_curve_down_to_one_impostor_pair() -> None:
    scores = {"teacher": _scores(35), "student": _scores(25, seed=1)}
    (axes,) = _drawn(roc_figure(scores)).axes
    assert axes.get_xscale() == "log"
    for line, (name, counts) in zip(axes.lines, scores.items(), strict=True):
        far, tar = line.get_data()
        assert 1 / 5000 <= far.min() < 5 / 5000
        assert tar[-1] == 1
        curve = counts.roc_curve()
        np.testing.assert_array_equal(tar, curve.tar[curve.far > 0])
        assert line.get_label() == f"{name} (EER {100 * counts.equal_error_rate()[0]:.2f} %)"
    assert len({line.get_color() for line in axes.lines}) == 2


def test_det_of_gaussian_scores_is_a_straight_line() -> None:
    (axes,) = _drawn(det_figure({"a": _scores(15, whole=False)})).axes
    line, diagonal = axes.lines
    x, y = line.get_data()
    inner = (np.abs(x) < 2) & (np.abs(y) < 2)
    assert np.corrcoef(x[inner], y[inner])[0, 1] < -0.995
    np.testing.assert_array_equal(*diagonal.get_data())
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[0] == "0.001 %" and labels[-1] == "40 %"


@pytest.mark.parametrize("draw", [roc_figure, det_figure])
def test_a_thinned_curve_has_few_of_the_points_and_both_ends(draw) -> None:
    scores = {"a": _scores(20, whole=False)}
    whole, thin = (draw(scores, max_points=points).axes[0].lines[0] for points in (None, 400))
    points, kept = whole.get_xydata(), thin.get_xydata()
    assert len(points) > 5000 and 200 < len(kept) <= 400
    assert {*map(tuple, kept)} <= {*map(tuple, points)}
    np.testing.assert_array_equal(kept[[0, -1]], points[[0, -1]])


def test_thinning_skips_only_what_cannot_be_seen() -> None:
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.pareto(1, 100_000))  # a few steps span much of the axis
    y = np.cumsum(rng.pareto(1, 100_000))
    kept = _thinned(x, y, 400)
    skipped = np.diff(kept) > 1
    lengths = np.diff(x[kept]) / np.ptp(x) + np.diff(y[kept]) / np.ptp(y)
    assert len(kept) <= 400 and skipped.any()
    assert lengths[skipped].max() <= 2 / 200  # both axes together are 2 long, in 200 pieces
    assert lengths[~skipped].max() > 0.05
    flat = _thinned(np.zeros(1000), np.zeros(1000), 10)
    assert list(flat) == [0, 999]


def test_more_curves_than_colours_and_perfect_scores_can_be_drawn() -> None:
    perfect = ScoreCounts.from_scores(np.zeros(5), np.full(7, 64.0))
    scores = {str(i): perfect for i in range(len(COLOURS) + 2)}
    for figure in (roc_figure(scores), det_figure(scores)):
        _drawn(figure)
        assert len(figure.axes[0].lines) >= len(scores)


@pytest.mark.parametrize("shift", [2, 30, 60])
def test_histogram_bars_hold_equal_numbers_of_bits_and_all_pairs(shift) -> None:
    counts = _scores(shift)
    (axes,) = _drawn(histogram_figure(counts)).axes
    (threshold,) = axes.lines
    assert threshold.get_xdata()[0] == counts.equal_error_rate()[1]
    for container in axes.containers:
        widths = {round(bar.get_width(), 9) for bar in container}
        assert len(widths) == 1 and widths.pop() % 1 == 0
        assert container[0].get_x() % 1 == 0.5
        assert sum(bar.get_height() for bar in container) == pytest.approx(1)
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"genuine (2,000 pairs)", "impostor (5,000 pairs)"} < set(shown)


@pytest.mark.parametrize(
    "counts",
    [
        ScoreCounts.from_scores([3, 3], [3]),
        ScoreCounts.from_scores([0.25], [0.25]),
        ScoreCounts.from_scores([0.1, 0.2], [0.15, 0.9]),
    ],
)
def test_histogram_of_one_value_or_of_fractions_holds_all_pairs(counts) -> None:
    (axes,) = _drawn(histogram_figure(counts, "cosine distance")).axes
    assert axes.get_xlabel() == "cosine distance"
    for container in axes.containers:
        assert sum(bar.get_height() for bar in container) == pytest.approx(1)


def test_montage_has_one_titled_picture_each() -> None:
    images = np.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), np.uint8)
    figure = _drawn(montage(images, [f"palm {i}" for i in range(11)], columns=4))
    assert len(figure.axes) == 11
    for index, axes in enumerate(figure.axes):
        np.testing.assert_array_equal(axes.images[0].get_array(), images[index])
        assert axes.get_title() == f"palm {index}"
    with pytest.raises(ValueError):
        montage(images, ["too few"])
