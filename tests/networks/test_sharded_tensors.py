from __future__ import annotations

import multiprocessing

import torch

from palmforge.networks.sharded_tensors import grad_norm


def _cut_over_two(rank: int, store: str) -> None:
    """One weight in two pieces, one on both processes."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    module = torch.nn.ParameterDict(
        {
            "cut": torch.nn.Parameter(distribute_tensor(torch.zeros(2), mesh, [Shard(0)])),
            "whole": torch.nn.Parameter(torch.zeros(1)),
        }
    )
    module["cut"].grad = distribute_tensor(torch.tensor([3.0, 4.0]), mesh, [Shard(0)])
    module["whole"].grad = torch.tensor([12.0])
    norm = grad_norm(module)
    assert norm is not None and norm.item() == 13.0
    distributed.destroy_process_group()


def test_where_weights_are_cut_the_norm_is_that_of_the_whole(tmp_path):
    context = multiprocessing.get_context("fork")
    store = str(tmp_path / "store")
    pair = [context.Process(target=_cut_over_two, args=(rank, store)) for rank in (0, 1)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(120)
    assert [process.exitcode for process in pair] == [0, 0]


def test_without_gradients_there_is_no_norm():
    assert grad_norm(torch.nn.Linear(1, 1)) is None
