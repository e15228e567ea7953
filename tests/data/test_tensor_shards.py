"""Tensors by key, written by many and read through memory maps."""

from __future__ import annotations

import multiprocessing
import pickle

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from palmforge.data.tensor_shards import TensorShards, stack
from palmforge.errors import DataError

KEY = "CacheLatents.directory"


def _row(key: str) -> dict[str, torch.Tensor]:
    return {"mean": torch.full((2, 3), float(len(key))), "id": torch.tensor(ord(key[-1]))}


def _write(folder, keys) -> None:
    TensorShards(folder, KEY).add(keys, stack([_row(key) for key in keys]))


def _assert_row(shards, key) -> None:
    assert {n: v.tolist() for n, v in shards[key].items()} == {
        n: v.tolist() for n, v in _row(key).items()
    }


def test_rows_come_back_by_key_in_another_object(tmp_path):
    keys = ["a", "", "ä/b\n c"]
    _write(tmp_path, keys[:1] + keys[2:])
    TensorShards(tmp_path, KEY).add([""], {"mean": torch.zeros(1, 2, 3), "id": torch.zeros(1)})
    shards = TensorShards(tmp_path, KEY)
    assert all(key in shards for key in keys) and "b" not in shards
    _assert_row(shards, "a")
    _assert_row(shards, keys[2])
    assert shards[""]["mean"].shape == (2, 3)


def test_what_is_missing_is_told_once_and_in_order(tmp_path):
    _write(tmp_path, ["b"])
    assert TensorShards(tmp_path, KEY).missing(["c", "b", "a", "c"]) == ["c", "a"]


def test_two_writers_at_the_same_time_lose_nothing(tmp_path):
    context = multiprocessing.get_context("fork")
    shared = [f"key{i}" for i in range(6)]
    writers = [
        context.Process(target=_write, args=(tmp_path, keys))
        for keys in (shared[:4], shared[2:], shared[2:])
    ]
    shards = TensorShards(tmp_path, KEY)
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert shards.missing(shared) == shared  # before it looks again
    shards.refresh()
    assert shards.missing(shared) == []
    for key in shared:
        _assert_row(shards, key)
    assert len(list(tmp_path.iterdir())) == 2  # the same keys, the same file; nothing left over


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_shard_counts_as_missing_and_can_be_written_again(tmp_path, damage):
    _write(tmp_path, ["a", "b"])
    _write(tmp_path, ["c"])
    (path,) = [p for p in tmp_path.iterdir() if "a" in TensorShards(tmp_path, KEY)._place and
               TensorShards(tmp_path, KEY)._place["a"][0] == p]  # fmt: skip
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-5], "empty": b"", "other": b"x" * 99}[damage])
    shards = TensorShards(tmp_path, KEY)
    assert shards.missing(["a", "b", "c"]) == ["a", "b"]
    shards.add(["a", "b"], stack([_row("a"), _row("b")]))
    _assert_row(TensorShards(tmp_path, KEY), "b")


class Rows(Dataset):
    def __init__(self, shards):
        self.shards = shards

    def __len__(self):
        return 4

    def __getitem__(self, place):
        return self.shards[f"key{place}"]


def test_workers_read_what_the_parent_has_open(tmp_path):
    _write(tmp_path, [f"key{i}" for i in range(4)])
    shards = TensorShards(tmp_path, KEY)
    shards["key0"]  # opened here
    loader = DataLoader(Rows(shards), batch_size=2, num_workers=1)
    batches = list(loader)
    assert torch.cat([b["id"] for b in batches]).tolist() == [ord(c) for c in "0123"]
    _assert_row(shards, "key3")


def test_a_pickled_one_opens_its_own_files(tmp_path):
    _write(tmp_path, ["a"])
    shards = TensorShards(tmp_path, KEY)
    shards["a"]
    _assert_row(pickle.loads(pickle.dumps(shards)), "a")


def test_a_row_is_a_tensor_of_its_own(tmp_path):
    _write(tmp_path, ["a"])
    shards = TensorShards(tmp_path, KEY)
    shards["a"]["mean"].zero_()
    _assert_row(shards, "a")


def test_a_directory_that_cannot_be_written_to_is_refused_by_its_setting(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"CacheLatents\.directory: cannot write"):
        TensorShards(tmp_path / "file" / "below", KEY)
