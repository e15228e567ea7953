"""The plan of what `predict` generates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from palmforge.data.generation.plan import GenerationPlan, image_seed
from palmforge.errors import ConfigError


def _all(plan: GenerationPlan) -> dict[int, tuple[str, int]]:
    return {
        index: (prompt, seed)
        for batch in DataLoader(plan, batch_size=None)
        for index, prompt, seed in zip(
            batch["index"].tolist(), batch["prompt"], batch["seed"].tolist(), strict=True
        )
    }


def test_an_image_has_its_prompt_and_seed_whatever_the_batch():
    images = _all(GenerationPlan(["a", "b", "c"], 8, 4, seed=7))
    assert sorted(images) == list(range(8))
    assert [images[i][0] for i in range(8)] == list("abcabcab")
    for batch_size in (1, 3, 8):
        other = _all(GenerationPlan(["a", "b", "c"], 8, batch_size, seed=7))
        assert {i: other[i] for i in range(8)} == images


def test_seeds_are_63_bits_all_different_and_of_seed_and_index_alone():
    seeds = [image_seed(seed, index) for seed in range(4) for index in range(500)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 0 and 2**62 < max(seeds) < 2**63
    word = np.random.SeedSequence((3, 9)).generate_state(1, np.uint64)[0]
    assert image_seed(3, 9) == int(word) // 2


def test_batches_are_whole_so_that_a_larger_set_has_the_pictures_of_a_smaller():
    small, large = GenerationPlan(["a"], 5, 4), GenerationPlan(["a"], 9, 4)
    assert (len(small), len(large)) == (2, 3)
    for place in range(2):
        torch.testing.assert_close(small[place]["index"], large[place]["index"])
        torch.testing.assert_close(small[place]["seed"], large[place]["seed"])
    assert small.settings() == large.settings()
    assert small.indices(1) == range(4, 5)


def test_only_batches_that_are_wholly_done_are_left_out():
    plan = GenerationPlan(["a"], 10, 4)
    plan.leave_out({0, 1, 2, 3, 5, 8, 9})
    assert plan.batches == [1]
    assert plan[0]["index"].tolist() == [4, 5, 6, 7]
    plan.leave_out(set(range(10)))
    assert len(plan) == 0
    plan.leave_out(set())
    assert plan.batches == [0, 1, 2]


def test_each_process_gets_a_batch_or_none_does():
    plan = GenerationPlan(["a"], 10, 4)
    plan.leave_out({0, 1, 2, 3}, at_least=5)
    assert plan.batches == [1, 2, 1, 2, 1]
    plan.leave_out(set(range(10)), at_least=5)
    assert plan.batches == []


@pytest.mark.parametrize(
    "other",
    [GenerationPlan(["a", "c"], 8, 4), GenerationPlan(["a", "b"], 8, 2),
     GenerationPlan(["a", "b"], 8, 4, seed=1)],
)  # fmt: skip
def test_settings_tell_what_decides_the_pictures(other):
    assert other.settings() != GenerationPlan(["a", "b"], 8, 4).settings()


@pytest.mark.parametrize("arguments", [([], 8, 4), (["a"], 0, 4), (["a"], 8, 0), (["a"], 8, 4, -1)])
def test_plans_of_nothing_are_refused(arguments):
    with pytest.raises(ConfigError, match="data"):
        GenerationPlan(*arguments)
