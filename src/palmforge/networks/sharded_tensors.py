"""Tensors that are cut over processes (torch's DTensor), and whole ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm


def whole(value: Any) -> Any:
    """All of a sharded tensor on the CPU of rank 0, nothing on others; else the value itself.

    Call it on every process.
    """
    if not is_sharded(value):
        return value
    full = value.detach().full_tensor()
    return full.cpu() if torch.distributed.get_rank() == 0 else torch.empty(0)


def sharded_like(value: Any, like: Any) -> Any:
    """This process' part of a whole tensor, where `like` is sharded; else the value itself."""
    if not is_sharded(like) or is_sharded(value) or getattr(value, "shape", None) != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    on_device = value.to(like.device, like.dtype)
    return distribute_tensor(on_device, like.device_mesh, like.placements, src_data_rank=None)


def own_part(value: Tensor) -> Tensor:
    """What this process holds of a tensor; a view."""
    part: Tensor = value.to_local() if is_sharded(value) else value  # type: ignore[attr-defined]
    return part


def is_sharded(value: Any) -> bool:
    """Whether it is a DTensor, whose class takes a second to import."""
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")


def grad_norm(module: nn.Module) -> Tensor | None:
    """L2 norm of a module's gradients, a scalar; None without any (DeepSpeed keeps them itself).

    Where weights are cut over processes (`fully_shard`) it is that of the whole, and all processes
    must ask at the same step. Of Lightning's older `fsdp` it is that of this process's pieces.
    """
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    norms: list[Any] = []
    for kind in (False, True):  # they cannot be stacked with one another
        if some := [grad for grad in grads if is_sharded(grad) is kind]:
            norms.append(get_total_norm(some))
    told = [norm.full_tensor() if is_sharded(norm) else norm for norm in norms]
    return torch.stack(told).norm() if told else None
