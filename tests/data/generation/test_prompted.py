"""Pictures with prompts, of which some go without."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from generators import palms

from palmforge.data.generation.prompted import NO_WORDS


@pytest.fixture(scope="module")
def module(palms_root):
    data = palms(palms_root, caption_dropout=0.25, augmentation="mild", augmented_views=2)
    data.prepare_data()
    data.setup("fit")
    return data


def test_a_sample_is_a_function_of_its_item(module):
    one, again = module.train[3, 12345], module.train[3, 12345]
    assert torch.equal(one["image"], again["image"])
    assert {k: one[k] for k in ("prompt", "index", "seed")} == {
        k: again[k] for k in ("prompt", "index", "seed")
    }
    assert one["index"] == 3 and one["seed"] == 12345
    assert one["image"].dtype == torch.uint8 and one["image"].shape == (3, 32, 32)


def test_the_share_without_words_is_as_asked_and_decided_by_the_seed(module):
    words = module.train.prompts[0]
    seeds = np.random.default_rng(0).integers(2**31, size=4000).tolist()
    dropped = [module.train.prompt((0, seed)) == NO_WORDS for seed in seeds]
    assert np.mean(dropped) == pytest.approx(0.25, abs=0.025)
    assert dropped == [module.train.prompt((1, seed)) == NO_WORDS for seed in seeds]
    assert words != NO_WORDS


@pytest.mark.parametrize(("share", "expected"), [(0.0, False), (1.0, True)])
def test_none_or_all_can_go_without_words(module, share, expected):
    train = module._prompted(module.palms.train, share)
    assert {train.prompt((0, seed)) == NO_WORDS for seed in range(200)} == {expected}


def test_validation_keeps_its_words_and_its_seeds(module):
    for row in range(len(module.val)):
        sample = module.val[row]
        assert sample["prompt"] == module.val.prompts[row] != NO_WORDS
        assert sample["seed"] == module.val[row]["seed"]
    assert len({module.val[row]["seed"] for row in range(len(module.val))}) == len(module.val)


def test_every_sample_is_among_the_views_and_prompts_that_are_kept(module):
    train = module.train
    views = {train.palms.key(item) for item in train.all_views()}
    assert len(views) == 2 * len(train)
    prompts = set(train.all_prompts())
    for row in range(len(train)):
        for seed in (0, 1, 7, 2**31 - 1):
            assert train.palms.key((row, seed)) in views
            assert train.prompt((row, seed)) in prompts
    assert {module.val.palms.key(row) for row in range(len(module.val))} == {
        module.val.palms.key(item) for item in module.val.all_views()
    }


def test_views_without_end_cannot_be_listed(palms_root):
    data = palms(palms_root, augmentation="mild", augmented_views=None)
    data.setup("fit")
    with pytest.raises(ValueError, match="new view"):
        data.train.all_views()
