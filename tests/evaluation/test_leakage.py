"""Linear probes: planted identities are read out, noise is not."""

from __future__ import annotations

import exemplars
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from palmforge.data.synthetic import render_roi
from palmforge.errors import DataError
from palmforge.evaluation.leakage import linear_probe
from palmforge.modules.exemplar_inpainting import fuse_exemplars
from palmforge.recognition import load

CLASSES, SAMPLES = 20, 6


def planted(strength: float, dim: int = 40, seed: int = 0) -> tuple[np.ndarray, ...]:
    """(train, its labels, test, its labels): noise of deviation 1 about a place an identity."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES) * 7, SAMPLES)
    places = strength * rng.normal(size=(CLASSES, dim))
    scale = np.exp(rng.normal(size=dim) * 3)  # what is standardised does not care
    train, test = (
        (places[labels // 7] + rng.normal(size=(labels.size, dim))) * scale for _ in range(2)
    )
    return train, labels, test, labels


@pytest.mark.parametrize("dim", [40, 500])  # fewer and more numbers than samples
def test_planted_identities_are_read_and_noise_is_not(dim):
    found = linear_probe(*planted(1.5, dim))
    assert found.accuracy > 0.95
    assert found.above_chance
    noise = linear_probe(*planted(0, dim))
    assert noise.chance == 1 / CLASSES
    assert noise.interval[0] <= noise.chance <= noise.interval[1]
    assert not noise.above_chance
    assert (noise.num_classes, noise.num_test, noise.left_out) == (CLASSES, CLASSES * SAMPLES, 0)


def test_more_noise_asks_for_a_stronger_penalty():
    assert linear_probe(*planted(0)).l2 > linear_probe(*planted(3)).l2


def test_a_given_penalty_and_tensors_are_taken():
    train, labels, test, test_labels = map(torch.from_numpy, planted(3))
    found = linear_probe(train.float(), labels, test.float(), test_labels, l2=10.0)
    assert found.l2 == 10.0
    assert found.accuracy > 0.95


def test_identities_that_were_never_shown_are_left_out_and_counted():
    train, labels, test, test_labels = planted(3)
    shown = labels >= 14  # two are missing
    found = linear_probe(train[shown], labels[shown], test, test_labels)
    assert (found.num_classes, found.left_out) == (CLASSES - 2, 2 * SAMPLES)
    assert found.accuracy > 0.95


def test_chance_is_the_most_frequent_identity():
    train, labels, test, test_labels = planted(0)
    many = np.concatenate([np.arange(SAMPLES)] * 9 + [np.arange(SAMPLES, labels.size)])
    found = linear_probe(train, labels, test[many], test_labels[many])
    assert found.chance == 9 * SAMPLES / many.size


def test_a_number_that_never_changes_does_no_harm():
    train, labels, test, test_labels = planted(3)
    train[:, 0] = test[:, 0] = 5.0
    assert linear_probe(train, labels, test, test_labels).accuracy > 0.95


def test_bad_input_is_refused():
    train, labels, test, test_labels = planted(1)
    with pytest.raises(DataError, match="1 identities; a probe needs two"):
        linear_probe(train, labels * 0, test, test_labels)
    with pytest.raises(DataError, match="none of 120 samples"):
        linear_probe(train, labels, test, test_labels + 1)
    with pytest.raises(ValueError, match="features of 40 and 39 numbers"):
        linear_probe(train, labels, test[:, 1:], test_labels)
    with pytest.raises(ValueError, match="test: features"):
        linear_probe(train, labels, test[1:], test_labels)
    with pytest.raises(ValueError, match="l2 must be above 0, got 0"):
        linear_probe(train, labels, test, test_labels, l2=0)
    train[3, 3] = np.nan
    with pytest.raises(DataError, match="train: features of 1 of 120"):
        linear_probe(train, labels, test, test_labels)


def test_the_fused_exemplars_say_less_of_a_palm_than_a_recogniser(record_property):
    """Random weights of an encoder: what its shape alone lets through."""
    palms, captures = range(8), range(3)
    rois = np.stack([render_roi(palm, c, "IF", 128, 77)[0] for palm in palms for c in captures])
    pictures = torch.from_numpy(rois).permute(0, 3, 1, 2)
    labels, capture = np.repeat(palms, len(captures)), np.tile(captures, len(palms))
    crops = [pictures[..., 64 - half : 64 + half, 64 - half : 64 + half] for half in (6, 32)]
    s_and_m = [interpolate(crop, (128, 128), mode="bilinear") for crop in crops]
    with torch.no_grad():
        fused = fuse_exemplars(exemplars.model().embed(torch.stack(s_and_m, 1)))[:, 0]
        embedded = load("synthetic-only").embed(pictures)
    train = capture < 2

    def probe(features: torch.Tensor):
        return linear_probe(features[train], labels[train], features[~train], labels[~train])

    leak, known = probe(fused), probe(embedded)
    for name, found in (("fused_exemplars", leak), ("recogniser", known)):
        record_property(name, f"{found.accuracy:.3f}")
    assert known.accuracy >= 0.8
    assert known.above_chance
    assert leak.accuracy < known.accuracy
