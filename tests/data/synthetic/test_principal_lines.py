import numpy as np

from palmforge.data.synthetic.principal_lines import evaluate, labelled_lines, line_model


def test_labelled_lines_are_turned_to_have_the_thumb_on_the_right():
    life, head, heart = labelled_lines().mean(0)
    assert life[0, 0] > 0.8 and head[0, 0] > 0.8  # both begin on the thumb's side
    assert heart[-1, 0] < 0.1  # the heart line ends at the little finger's edge


def test_the_mean_of_the_model_is_the_mean_of_the_labels():
    mean = evaluate(line_model().mean, num_points=16)
    assert np.abs(mean - labelled_lines().mean(0)).max() < 0.02


def test_few_palms_are_cut_as_outliers():
    assert 900 <= line_model().num_palms < 1000


def test_sampled_lines_spread_and_vary_together_as_the_labels_do():
    rng, labels = np.random.default_rng(0), labelled_lines()
    lines = np.stack([line_model().sample(rng, num_points=16) for _ in range(800)])
    ratio = lines.std(0) / labels.std(0)
    assert ratio.min() > 0.6 and ratio.max() < 1.3
    starts = np.corrcoef(lines[:, 0, 0, 1], lines[:, 1, 0, 1])[0, 1]
    labelled = np.corrcoef(labels[:, 0, 0, 1], labels[:, 1, 0, 1])[0, 1]
    assert abs(starts - labelled) < 0.15
