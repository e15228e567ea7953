"""What a frozen network made of a picture comes back bit by bit."""

from __future__ import annotations

import pytest
import torch

from palmforge.data.feature_cache import FeatureCache, state_digest
from palmforge.errors import DataError

KEYS = ["a", "b/../c", "d" * 300]


class _Network:
    """Counts how often it is asked."""

    def __init__(self, dtype=torch.float32) -> None:
        generator = torch.Generator().manual_seed(0)
        self.features = torch.randn(3, 4, 2, 2, generator=generator).to(dtype)
        self.codes = torch.randn(3, 8, generator=generator)
        self.calls = 0

    def all(self):
        return {"features": self.features, "codes": self.codes}

    def __call__(self, row: int):
        self.calls += 1
        return {name: values[row : row + 1] for name, values in self.all().items()}


def _same(a, b) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_hit_has_the_stored_bits_and_kind(tmp_path, dtype) -> None:
    network, cache = _Network(dtype), FeatureCache(str(tmp_path), "abc")
    first = cache.get(KEYS, network)
    again = FeatureCache(str(tmp_path), "abc").get(KEYS, network)
    assert network.calls == 3
    assert _same(first, network.all()) and _same(again, first)


def test_rows_come_in_the_order_asked_for(tmp_path) -> None:
    network, cache = _Network(), FeatureCache(str(tmp_path), "abc")
    cache.get(KEYS, network)
    back = cache.get([KEYS[2], KEYS[0], KEYS[2]], lambda row: pytest.fail("computed"))
    assert torch.equal(back["features"], network.features[[2, 0, 2]])


def test_only_missing_rows_are_computed(tmp_path) -> None:
    network, cache = _Network(), FeatureCache(str(tmp_path), "abc")
    cache.get(KEYS[:2], network)
    assert _same(cache.get(KEYS, network), network.all())
    assert network.calls == 3


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}", b"x" * 64])
def test_a_broken_file_is_made_again(tmp_path, content) -> None:
    network, cache = _Network(), FeatureCache(str(tmp_path), "abc")
    cache.get(KEYS, network)
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert len(files) == 3
    for broken in (content, files[0].read_bytes()[:-5]):
        files[0].write_bytes(broken)
        assert _same(cache.get(KEYS, network), network.all())
        assert _same(cache.get(KEYS, lambda row: pytest.fail("computed")), network.all())


def test_another_network_has_a_folder_of_its_own(tmp_path) -> None:
    one, two = _Network(), _Network()
    FeatureCache(str(tmp_path), "one").get(KEYS, one)
    FeatureCache(str(tmp_path), "two").get(KEYS, two)
    assert (one.calls, two.calls) == (3, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "two"]


def test_hits_and_misses_have_one_memory_format(tmp_path) -> None:
    """The next layer's kernel, and so its bits, may depend on it."""
    network, cache = _Network(), FeatureCache(str(tmp_path), "abc")
    network.features = network.features.to(memory_format=torch.channels_last)
    miss, hit = cache.get(KEYS, network), cache.get(KEYS, network)
    assert miss["features"].stride() == hit["features"].stride()
    assert _same(miss, hit)


def test_a_directory_that_cannot_be_written_is_found_at_start(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"model\.feature_cache_dir: cannot write to"):
        FeatureCache(str(tmp_path / "file" / "cache"), "abc")


def test_digest_names_weights_and_settings() -> None:
    state = {"a": torch.arange(4.0), "n": torch.tensor(3), "h": torch.ones(2, dtype=torch.bfloat16)}
    digests = [
        state_digest(state),
        state_digest(state, "bf16-mixed"),
        state_digest({**state, "a": torch.arange(4.0) + 1e-6}),
        state_digest({**state, "n": torch.tensor(4)}),
        state_digest({("b" if k == "a" else k): v for k, v in state.items()}),
    ]
    assert len(set(digests)) == len(digests)
    assert state_digest(dict(reversed(state.items()))) == digests[0]
    assert state_digest({**state, "a": torch.arange(8.0)[::2] / 2}) == digests[0]  # not contiguous
