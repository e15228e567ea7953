"""Batches are a pure function of (seed, epoch): over processes, workers and interruptions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from palmforge.data.sampler import IdentityBatchSampler, ResumableLoader
from palmforge.errors import ConfigError

P, K = 4, 3
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(11) * 7, 5)).tolist()
STEPS = 11 // P


def _sampler(**arguments) -> IdentityBatchSampler:
    return IdentityBatchSampler(
        LABELS, **{"identities_per_batch": P, "images_per_identity": K, **arguments}
    )


def _steps(sampler) -> list[list[tuple[int, int]]]:
    return _chunks(list(sampler), P * K // sampler.num_replicas)


def _chunks(items: list, size: int) -> list[list]:
    return [items[i : i + size] for i in range(0, len(items), size)]


class _Echo(Dataset):
    """Gives back what it was asked for."""

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, int]:
        return {"row": item[0], "seed": item[1]}


def test_a_step_holds_p_identities_of_k_different_images() -> None:
    sampler = _sampler()
    steps = _steps(sampler)
    assert len(steps) == STEPS and len(sampler) == STEPS * P * K
    for step in steps:
        labels = [LABELS[row] for row, _ in step]
        assert [len(set(group)) for group in _chunks(labels, K)] == [1] * P
        assert len(set(labels)) == P
        assert len({row for row, _ in step}) == P * K
    shown = [LABELS[row] for step in steps for row, _ in step]
    assert len(set(shown)) == STEPS * P  # no identity twice in an epoch


def test_few_images_are_repeated_with_other_seeds() -> None:
    (step,) = _steps(IdentityBatchSampler([0, 1, 1, 1], 2, 3))
    rows = [row for row, _ in step]
    assert rows.count(0) == 3
    assert sorted(rows)[3:] == [1, 2, 3]
    assert len({seed for _, seed in step}) == 6


def test_every_epoch_and_seed_is_another_one_and_all_rows_come_up() -> None:
    seen, epochs = set(), set()
    for seed, epoch in itertools.product((0, 1), range(20)):
        sampler = _sampler(seed=seed)
        sampler.set_epoch(epoch)
        items = tuple(sampler)
        assert items == tuple(sampler)
        epochs.add(items)
        seen |= {row for row, _ in items}
    assert len(epochs) == 40
    assert seen == set(range(len(LABELS)))


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batch_of_one(world_size) -> None:
    whole = _sampler()
    parts = [_sampler(rank=rank, world_size=world_size) for rank in range(world_size)]
    for sampler in (whole, *parts):
        sampler.set_epoch(5)
    for step, *shares in zip(_steps(whole), *map(_steps, parts), strict=True):
        assert sorted(itertools.chain(*shares)) == sorted(step)
        for share in shares:
            assert len({LABELS[row] for row, _ in share}) == P // world_size
    assert {len(part) for part in parts} == {len(whole) // world_size}


@pytest.mark.parametrize("start", range(STEPS + 1))
def test_resume_from_any_step_goes_on_with_the_rest(start) -> None:
    sampler, whole = _sampler(), _sampler()
    whole.set_epoch(3)
    sampler.set_epoch(3)
    sampler.start = start
    assert _steps(sampler) == _steps(whole)[start:]
    sampler.set_epoch(3)  # Lightning says it again after a resume
    assert sampler.start == start
    sampler.set_epoch(4)
    whole.set_epoch(4)
    assert _steps(sampler) == _steps(whole)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"identities_per_batch": 1}, "identities_per_batch must be 2 or more"),
        ({"images_per_identity": 0}, "images_per_identity 1 or more"),
        ({"identities_per_batch": 12}, "12 are asked for, the training set has 11 identities"),
        ({"world_size": 3}, "cannot be dealt out to 3 processes"),
    ],
)
def test_settings_that_do_not_fit_are_named(arguments, message) -> None:
    with pytest.raises(ConfigError, match=message):
        _sampler(**arguments)


def _loader(workers: int, **arguments) -> ResumableLoader:
    return ResumableLoader(
        _Echo(),
        batch_size=P * K,
        sampler=_sampler(identities_per_batch=2, images_per_identity=P * K // 2),
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        **arguments,
    )


def _epoch(loader, epoch) -> list[list[int]]:
    loader.sampler.set_epoch(epoch)
    return [torch.stack([b["row"], b["seed"]]).tolist() for b in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_in_mid_epoch_with_the_same_batches(workers) -> None:
    first = _loader(workers)
    expected = [_epoch(first, epoch) for epoch in range(3)]
    assert len(expected[0]) == 5
    first.sampler.set_epoch(1)
    for number, _ in enumerate(first, start=1):
        if number == 2:
            break
    state = first.state_dict()
    assert state == {"epoch": 1, "done": 2}  # what was prefetched does not count

    second = _loader(workers)
    second.load_state_dict(state)
    assert second.state_dict() == state  # saved again before a batch was taken
    assert _epoch(second, 1) == expected[1][2:]
    assert second.state_dict() == {"epoch": 1, "done": 5}
    assert _epoch(second, 2) == expected[2]
    assert _epoch(first, 2) == expected[2]  # after an epoch that was broken off


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumes_twice(workers) -> None:
    whole = _epoch(_loader(0), 4)
    state, parts = {"epoch": 4, "done": 0}, []
    for count in (1, 2, 2):
        loader = _loader(workers)
        loader.load_state_dict(state)
        loader.sampler.set_epoch(4)
        for batch in itertools.islice(loader, count):
            parts.append(torch.stack([batch["row"], batch["seed"]]).tolist())
            state = loader.state_dict()
    assert parts == whole
    assert state == {"epoch": 4, "done": 5}


def test_an_epoch_chosen_after_iter_and_before_the_first_batch_counts() -> None:
    """Lightning makes the iterator before it calls `set_epoch` (its issue 21938)."""
    loader = _loader(0)
    iterator = iter(loader)
    loader.sampler.set_epoch(2)
    got = [torch.stack([b["row"], b["seed"]]).tolist() for b in iterator]
    assert got == _epoch(_loader(0), 2)


def test_the_ramp_is_a_function_of_the_step_over_epochs_and_changes_no_draw():
    labels = [0, 0, 1, 1, 2, 2, 3, 3]
    plain = IdentityBatchSampler(labels, 2, 2)
    ramp = IdentityBatchSampler(labels, 2, 2, ramp_steps=4)  # two steps an epoch
    strengths = []
    for epoch in range(3):
        for sampler in (plain, ramp):
            sampler.set_epoch(epoch)
        items = list(ramp)
        assert [item[:2] for item in items] == list(plain)
        strengths += [item[2] for item in items[::4]]
    assert strengths == [0, 0.25, 0.5, 0.75, 1, 1]
