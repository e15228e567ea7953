"""What a generator's palms are worth, as `test` and validation tell it."""

from __future__ import annotations

import pytest
import torch
from generators import TWO, palms, ready, trainer

from palmforge.callbacks import GenerationReport
from palmforge.errors import ConfigError

FIGURES = {"uniqueness", "novelty", "diversity", "vendi", "fid", "kid", "kid_std"}


def report(**settings):
    # Four training palms: six impostor pairs support no smaller FAR.
    return GenerationReport(**{"num_images": 6, "far": 0.5, "batch_size": 2, **settings})


def judged(root, one, **settings):
    run = trainer(None, one, **settings)
    run.test(ready(), palms(root), verbose=False)
    return {name: float(value) for name, value in run.callback_metrics.items()}


@pytest.fixture(scope="module")
def figures(palms_root):
    return judged(palms_root, report())


def test_a_test_tells_uniqueness_novelty_diversity_and_distances(figures):
    assert {f"test/{name}" for name in FIGURES} | {"test/loss"} == set(figures)
    assert all(torch.isfinite(torch.tensor(list(figures.values()))))
    assert 0 <= figures["test/uniqueness"] <= 1 and 1 <= figures["test/vendi"] <= 6


def test_one_palm_again_and_again_is_not_unique(palms_root, monkeypatch):
    module = type(ready())
    one = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    monkeypatch.setattr(module, "sample", lambda self, p, s: one.expand(len(p), -1, -1, -1))
    found = judged(palms_root, report())
    assert found["test/uniqueness"] == 0
    assert found["test/vendi"] == pytest.approx(1, abs=1e-3)
    assert found["test/diversity"] == pytest.approx(0, abs=1e-5)


def test_two_processes_tell_what_one_tells(palms_root, figures):
    two = judged(palms_root, report(), **TWO)
    assert two.keys() == figures.keys()
    for name in ("uniqueness", "novelty", "diversity", "vendi", "fid", "kid"):
        assert two[f"test/{name}"] == pytest.approx(figures[f"test/{name}"], rel=1e-4, abs=1e-6)


def test_validation_tells_them_if_asked(palms_root):
    run = trainer(None, report(at_validation=True), limit_val_batches=1)
    run.validate(ready(), palms(palms_root), verbose=False)
    assert {f"val/{name}" for name in FIGURES} <= run.callback_metrics.keys()
    silent = trainer(None, report(), limit_val_batches=1)
    silent.validate(ready(), palms(palms_root), verbose=False)
    assert not any("kid" in name for name in silent.callback_metrics)


def test_a_far_that_the_training_palms_cannot_support_is_told(palms_root):
    with pytest.warns(UserWarning, match="uniqueness and novelty are not told"):
        found = judged(palms_root, report(far=1e-3))
    assert found["test/uniqueness"] != found["test/uniqueness"]
    assert found["test/diversity"] == found["test/diversity"]


def test_a_recogniser_of_codes_is_refused(palms_root):
    with pytest.raises(ConfigError, match="recogniser"):
        judged(palms_root, report(recogniser="competitive-code"))
