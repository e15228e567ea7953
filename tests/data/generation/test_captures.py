"""Pairs of captures to train on, and the plan of captures to make."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from controlnets import captures
from generators import SIZE

from palmforge.data.generation.captures import CapturePairs, CapturePlan
from palmforge.data.generation.prompted import NO_WORDS
from palmforge.errors import ConfigError

SEEDS = np.random.default_rng(0).integers(2**31, size=3000).tolist()


@pytest.fixture(scope="module")
def data(palms_root):
    module = captures(palms_root, augmentation="strong", augmented_views=2)
    module.prepare_data()
    module.setup("fit")
    return module


def test_the_reference_is_another_capture_of_the_same_palm(data):
    palms = data.train.palms
    pictures = [palms.plain(row) for row in range(len(palms))]
    shown = set()
    for seed in SEEDS[:60]:
        reference = data.train[9, seed]["reference"]
        assert reference.shape == (3, SIZE, SIZE) and reference.dtype == torch.uint8
        (row,) = (r for r, picture in enumerate(pictures) if torch.equal(picture, reference))
        assert row != 9 and palms.labels[row] == palms.labels[9]
        shown.add(row)
    assert len(shown) == 6  # each of the others


def test_a_palm_with_one_picture_is_its_own_reference(data):
    first = np.unique(data.palms.train.labels, return_index=True)[1]
    single = data.palms._dataset([data.palms.train.records[int(row)] for row in first])
    pairs = CapturePairs(single, ["a palm"] * len(single))
    for row in range(len(single)):
        assert torch.equal(pairs[row, 5]["reference"], single.plain(row))


def test_a_sample_is_a_function_of_its_item(data):
    one, again = data.train[3, 12345], data.train[3, 12345]
    assert one.keys() == {"index", "seed", "prompt", "image", "reference", "keep_control"}
    for key, value in one.items():
        assert (
            torch.equal(value, again[key])
            if key in ("image", "reference")
            else (value == again[key])
        )


def kept(pairs: CapturePairs) -> tuple[np.ndarray, np.ndarray]:
    """Whether samples have their words and their palm."""
    words = [pairs.prompt((0, seed)) != NO_WORDS for seed in SEEDS]
    palm = [pairs[0, seed]["keep_control"] for seed in SEEDS]
    return np.array(words, bool), np.array(palm, bool)


@pytest.fixture
def quick(data, monkeypatch):
    """A data set whose pictures cost nothing."""
    nothing = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
    kind = type(data.palms.train)
    monkeypatch.setattr(kind, "plain", lambda self, row: nothing)
    monkeypatch.setattr(kind, "__getitem__", lambda self, item: {"image": nothing})
    return data.palms.train


@pytest.mark.parametrize("shares", [(0.2, 0.0, 0.0), (0.0, 0.2, 0.0), (0.0, 0.0, 0.2)])
def test_words_palm_or_both_are_dropped_as_often_as_asked(quick, shares):
    words, palm = kept(CapturePairs(quick, ["a palm"] * len(quick), *shares))
    caption, control, both = shares
    assert 1 - words.mean() == pytest.approx(caption + both, abs=0.025)
    assert 1 - palm.mean() == pytest.approx(control + both, abs=0.025)
    assert (~words & ~palm).mean() == pytest.approx(both, abs=0.025)


def test_the_three_are_dropped_independently_of_each_other_and_of_the_row(quick):
    pairs = CapturePairs(quick, ["a palm"] * len(quick), 0.3, 0.2, 0.1)
    words, palm = kept(pairs)
    no_words, no_palm = 1 - 0.7 * 0.9, 1 - 0.8 * 0.9
    assert 1 - words.mean() == pytest.approx(no_words, abs=0.025)
    assert 1 - palm.mean() == pytest.approx(no_palm, abs=0.025)
    assert (~words & ~palm).mean() == pytest.approx(0.1 + 0.9 * 0.3 * 0.2, abs=0.02)
    others = [pairs[5, seed]["keep_control"] for seed in SEEDS[:100]]
    assert others == palm[:100].astype(float).tolist()


def plan(num=3, captures=4, batch_size=3, seed=0, **names) -> CapturePlan:
    """Palms of one grey each; some are called otherwise."""

    def picture(value: int):
        return lambda: np.full((8, 8, 3), value, np.uint8)

    palms = [(names.get(f"p{n}", f"palm {n}"), picture(n)) for n in range(num)]
    return CapturePlan(palms, ["a", "b"], captures, batch_size, seed)


def rows(some: CapturePlan) -> dict[int, tuple]:
    return {
        index: (prompt, seed, palm_seed, reference.unique().tolist())
        for place in range(len(some))
        for index, prompt, seed, palm_seed, reference in zip(
            some[place]["index"].tolist(), some[place]["prompt"], some[place]["seed"].tolist(),
            some[place]["identity_seed"].tolist(), some[place]["reference"], strict=True,
        )
    }  # fmt: skip


def test_captures_of_a_palm_lie_in_one_folder_and_share_its_seed():
    some = plan()
    assert [some.file(i) for i in (0, 3, 4, 11)] == [
        "000000/000.png", "000000/003.png", "000001/000.png", "000002/003.png",
    ]  # fmt: skip
    found = rows(some)
    assert sorted(found) == list(range(12)) and len(some) == 4
    assert [found[i][3] for i in range(12)] == [[i // 4] for i in range(12)]
    assert len({seed for _, seed, _, _ in found.values()}) == 12
    seeds = [found[i][2] for i in range(12)]
    assert [seeds.index(s) // 4 for s in seeds] == [i // 4 for i in range(12)]
    assert not set(seeds) & {seed for _, seed, _, _ in found.values()}


def test_batches_are_whole_and_an_image_is_the_same_in_any_of_them():
    expected = rows(plan(batch_size=12))
    for size in (1, 5):
        some = plan(batch_size=size)
        assert {some[place]["reference"].shape for place in range(len(some))} == {(size, 3, 8, 8)}
        found = rows(some)
        assert {i: found[i] for i in range(12)} == expected
    assert rows(plan(seed=1))[0] != rows(plan())[0]


def test_its_settings_tell_whose_palms_they_are():
    same = plan().settings()
    assert plan().settings() == same
    assert plan(captures=5).settings() != same
    assert plan(num=9).settings() == same  # more palms add to a set
    assert plan().columns(4) == {"reference": "palm 1", "capture": 0}
    assert plan(p1="another").columns(4)["reference"] == "another"


def test_no_palm_is_refused():
    with pytest.raises(ConfigError, match="num_identities"):
        plan(num=0)
