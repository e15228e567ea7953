"""The adaptive attacker: what only looks hidden is found, what is gone is not."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from palmforge.errors import CheckpointError, ConfigError, DataError, TrainingError
from palmforge.evaluation.attack_rates import attack_rates
from palmforge.metrics.deidentification import deidentified_accuracy
from palmforge.metrics.verification import equal_error_rate
from palmforge.modules.deidentification_attack import (
    AttackSettings,
    attack,
    split_identities,
    train_attacker,
)
from palmforge.recognition import load

SIZE, PALMS, CAPTURES = 48, 48, 2
LABELS = np.repeat(np.arange(PALMS) + 100, CAPTURES)
SOURCES = np.arange(LABELS.size)
QUICK = AttackSettings(
    steps=50, batch_size=16, lr=3e-3, start=None, image_size=SIZE, augmentation="none"
)


def drawn(palm: int, capture: int) -> np.ndarray:
    """`[SIZE, SIZE, 3]`: dark lines of the palm on skin; light, shift and noise of the capture."""
    of_palm, of_capture = np.random.default_rng(palm), np.random.default_rng([palm, capture])
    lines = np.zeros((2 * SIZE, 2 * SIZE), np.uint8)
    for points in of_palm.integers(0, 2 * SIZE, (7, 2, 2)):
        cv2.line(lines, points[0].tolist(), points[1].tolist(), 255, 3, cv2.LINE_AA)
    move = np.float32([[1, 0, of_capture.uniform(-2, 2)], [0, 1, of_capture.uniform(-2, 2)]])
    dark = cv2.resize(cv2.warpAffine(lines, move, lines.shape), (SIZE, SIZE)) / 255.0
    skin = np.array([200, 160, 130]) * of_capture.uniform(0.8, 1.1)
    found = skin * (1 - 0.5 * dark[..., None]) + of_capture.normal(0, 4, (SIZE, SIZE, 3))
    return found.clip(0, 255).astype(np.uint8)


def palms(start: int = 0, captures: int = CAPTURES) -> Tensor:
    rois = [drawn(start + palm, capture) for palm in range(PALMS) for capture in range(captures)]
    return torch.from_numpy(np.stack(rois)).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def originals() -> Tensor:
    return palms()


def inverted(rois: Tensor) -> Tensor:
    """Grey levels upside down, channels in another order, darker."""
    return ((255 - rois[:, [2, 0, 1]].int()) * 0.7 + 10).to(torch.uint8)


def test_a_recoding_fools_the_black_box_and_not_the_attacker(originals):
    given = originals, LABELS, inverted(originals), SOURCES
    found = attack(*given, QUICK, share=0.7, resamples=100)
    assert (found.attackers, found.victims) == (34, 14)
    assert found.before.originals_eer < 0.02
    assert found.trained_eer < 0.05
    assert "(step 0 of" not in found.attacker.name
    for before, after in (
        (found.before.own_source, found.after.own_source),
        (found.before.other_pictures, found.after.other_pictures),
    ):
        assert before.eer > 0.15
        assert after.eer < before.eer / 2
        assert after.eer_interval[1] < before.eer
        assert after.rank1 > 0.8 > before.rank1
        assert after.tar > before.tar + 0.2
    assert found.after.own_source.genuine == 14 * CAPTURES
    assert found.after.other_pictures.genuine == 14 * CAPTURES * (CAPTURES - 1)


def test_palms_of_nobody_stay_hidden(originals):
    coder = load("competitive-code")
    given = originals, LABELS, palms(5000), SOURCES
    found = attack(*given, QUICK, black_box=coder, resamples=100)
    assert found.trained_eer < 0.2  # learnt by heart, which is of no use to him
    for one in (found.after.own_source, found.after.other_pictures):
        assert 0.35 < one.eer < 0.65
        assert one.eer_interval[0] < 0.5 < one.eer_interval[1]
        assert one.rank1_interval[0] <= one.chance <= one.rank1_interval[1]
        assert one.tar < 0.15
    assert 0.3 < found.before.own_source.eer < 0.7


def test_the_shipped_network_is_fine_tuned_and_the_same_for_the_same_seed(originals):
    few = originals[:12], LABELS[:12], inverted(originals[:12]), SOURCES[:12]
    short = AttackSettings(steps=2, batch_size=4, image_size=32)
    before, state = load("synthetic-only"), torch.random.get_rng_state()
    copies = [rois.clone() for rois in (few[0], few[2])]
    with torch.inference_mode():  # as in a test loop of Lightning
        first, again = train_attacker(*few, short), train_attacker(*few, short)
    other = train_attacker(*few, replace(short, seed=1))
    templates = [one.embed(few[0]) for one in (first, again, other)]
    assert torch.equal(templates[0], templates[1])
    assert not torch.allclose(templates[0], templates[2], atol=1e-4)
    assert first.network.image_size == 32
    assert first.name == "adaptive attacker (step 2 of 2)"  # of 6 people none is kept aside
    assert first.network.config == before.network.config
    moved = first.network.linear.weight - before.network.linear.weight
    assert 0 < moved.abs().max() < 0.01
    assert not any(weights.requires_grad for weights in first.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(copies[0], few[0]) and torch.equal(copies[1], few[2])


def test_several_variants_and_pictures_that_no_one_hid(originals):
    """Variants of one photograph; originals without one are there to be compared with."""
    sources = np.array([0, 0, 2, 4, 4, 6, 8, 10])
    hidden = inverted(originals[sources])
    short = replace(QUICK, steps=2)
    found = attack(originals[:14], LABELS[:14], hidden, sources, short, share=0.4, resamples=20)
    assert (found.attackers, found.victims) == (2, 4)
    assert found.after.own_source.chance == 1 / 4  # palms that no one hid are no victims
    one_each = attack(originals[::2], LABELS[::2], hidden, sources // 2, short, resamples=20)
    assert one_each.after.other_pictures is None
    assert one_each.after.originals_eer is None
    assert one_each.after.own_source.tar is None  # too few impostor pairs for FAR 1 %


# --- who is attacked ---


def test_attackers_and_victims_are_different_people():
    attackers, victims = split_identities(LABELS, 0.3, 0)
    assert attackers.size == round(0.3 * PALMS)
    assert not np.intersect1d(attackers, victims).size
    assert np.array_equal(np.union1d(attackers, victims), np.unique(LABELS))
    again, other = split_identities(LABELS, 0.3, 0), split_identities(LABELS, 0.3, 1)
    assert np.array_equal(again[0], attackers)
    assert not np.array_equal(other[0], attackers)
    assert [len(side) for side in split_identities(np.arange(4), 0.01, 0)] == [2, 2]
    assert [len(side) for side in split_identities(np.arange(9), 0.99, 0)] == [7, 2]


# --- bad input ---


def test_too_few_people_are_refused(originals):
    given = originals[:6], LABELS[:6], originals[:6], SOURCES[:6]
    with pytest.raises(DataError, match="3 identities have de-identified pictures"):
        attack(*given, QUICK)
    with pytest.raises(DataError, match="3 identities have"):  # of many, three are hidden
        attack(originals, LABELS, originals[:6], SOURCES[:6], QUICK)
    with pytest.raises(DataError, match="one identity only"):
        train_attacker(*given[:2], originals[:2], SOURCES[:2], QUICK)
    with pytest.raises(ConfigError, match="share: 1"):
        split_identities(LABELS, 1.0, 0)


def test_what_does_not_fit_is_refused(originals):
    given = originals[:12], LABELS[:12], originals[:12], SOURCES[:12]
    for sources, told in (
        (SOURCES[:12] + 1, "rows of 12 originals, got 1 … 12"),
        (SOURCES[:12] - 1, "got -1 … 10"),
        (SOURCES[:11], "deidentified: 12 ROIs"),
        (np.where(SOURCES[:12] == 3, np.nan, SOURCES[:12]), "one integer a ROI"),
    ):
        with pytest.raises(ValueError, match=told):
            train_attacker(*given[:3], sources, QUICK)
    with pytest.raises(ValueError, match="originals: 12 ROIs"):
        train_attacker(given[0], LABELS[:11], *given[2:], QUICK)
    with pytest.raises(ValueError, match=r"deidentified: .*uint8 expected, got torch.float32"):
        train_attacker(*given[:2], given[2] / float("nan"), given[3], QUICK)
    with pytest.raises(ValueError, match=r"originals: .*got torch.uint8 \[12, 1, 48, 48\]"):
        train_attacker(given[0][:, :1], *given[1:], QUICK)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"steps": 0}, "attack.steps: 0"),
        ({"lr": float("nan")}, "attack.lr: nan"),
        ({"batch_size": 1}, "attack.batch_size"),
        ({"image_size": 16}, "attack.image_size: 16"),
        ({"seed": -1}, "attack.seed: -1"),
        ({"augmentation": "severe"}, "attack.augmentation: 'severe'"),
    ],
)
def test_bad_settings_are_refused(setting, told):
    with pytest.raises(ConfigError, match=told):
        AttackSettings(**setting)


def test_a_start_without_a_network_and_a_loss_that_blows_up_are_told(originals):
    given = originals[:12], LABELS[:12], originals[:12], SOURCES[:12]
    with pytest.raises(CheckpointError, match="mtcc makes no embeddings"):
        train_attacker(*given, replace(QUICK, start="mtcc"))
    with pytest.raises(TrainingError, match="attack: the loss is nan at step"):
        train_attacker(*given, replace(QUICK, lr=1e30))


# --- rates ---


def test_rates_by_hand():
    """Two palms of two pictures; probe 0 is nearest to its source, probe 1 to another palm."""
    distances = np.array([[0.1, 0.6, 0.5, 0.7], [0.2, 0.9, 0.4, 0.8]])
    labels, sources = np.array([0, 0, 1, 1]), np.array([0, 3])
    own = attack_rates(distances, sources, labels, "own_source", 50)
    assert (own.genuine, own.impostor, own.chance) == (2, 4, 0.5)
    assert own.eer == equal_error_rate([0.1, 0.8], [0.5, 0.7, 0.2, 0.9])[0]
    assert own.rank1 == 0.5 == deidentified_accuracy(distances, sources, labels)
    assert own.tar is None
    others = attack_rates(distances, sources, labels, "other_pictures", 50)
    assert others.eer == equal_error_rate([0.6, 0.4], [0.5, 0.7, 0.2, 0.9])[0]
    assert others.rank1 == 0 == deidentified_accuracy(distances, sources, labels, False)
    with pytest.raises(ValueError, match="question must be"):
        attack_rates(distances, sources, labels, "both")
    with pytest.raises(ValueError, match="do not fit"):
        attack_rates(distances, sources[:1], labels, "own_source")
