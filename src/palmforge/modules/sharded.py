"""Fully sharded data parallel (FSDP2) whose checkpoints are those of one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.strategies.strategy import Strategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer

from palmforge.errors import ConfigError
from palmforge.networks.sharded_tensors import is_sharded, sharded_like, whole

_UNEVEN = "processes would wait for one another, as they make different numbers of pictures"
_LEAST = 1_000_000  # parameters: what is smaller is gathered with what is around it


class ShardedStrategy(ModelParallelStrategy):
    """Every process keeps its part of weights, gradients and the optimizer's state (ZeRO-3).

    The blocks of each network are gathered as they are computed and freed after. Gradients are
    averaged over processes, as in DDP. Lightning's `fsdp` wraps weights so that gradients cannot be
    clipped by their norm, and its checkpoints hold frozen weights; `ModelParallelStrategy` leaves
    the sharding to the module. Here no module knows of it, and a checkpoint is the one that DDP or
    one process writes, and is read by all of them.

    Args:
        process_group_backend: `nccl` or `gloo`; null: as the device wants it.
        least_parameters: Of a block that is gathered by itself.
    """

    def __init__(
        self, process_group_backend: str | None = None, least_parameters: int = _LEAST
    ) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
        )
        self.least_parameters = least_parameters

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Through `load_optimizer_state_dict`."""
        return True

    def setup_environment(self) -> None:
        """One mesh over all processes."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def setup(self, trainer: L.Trainer) -> None:
        """Shards what the module has built, before there is an optimizer; in a fit alone."""
        assert self.model is not None
        if trainer.state.fn == TrainerFn.FITTING:
            self._check(trainer)
            self._shard(self.model)
        elif any(is_sharded(parameter) for parameter in self.model.parameters()):
            raise ConfigError(f"test_ckpt: after a sharded fit {_UNEVEN}. Run `test` after `fit`")
        super().setup(trainer)

    def _check(self, trainer: L.Trainer) -> None:
        if own := [name for name, _ in trainer.lightning_module.named_parameters(recurse=False)]:
            raise ConfigError(
                f"trainer.strategy: {type(trainer.lightning_module).__name__} has weights of its "
                f"own ({own[0]}), which nothing would gather. Take configs/trainer/ddp.yaml"
            )
        callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
        if any(getattr(callback, "at_validation", False) for callback in callbacks):
            raise ConfigError(f"GenerationReport.at_validation: in a sharded fit {_UNEVEN}")

    def _shard(self, model: nn.Module) -> None:
        mesh = self.device_mesh["data_parallel"]
        for network in _networks(model):
            for block in _networks(network):
                if _num_weights(block) >= self.least_parameters:
                    fully_shard(block, mesh=mesh)
            # Else what is left of it would stay gathered after an evaluation.
            fully_shard(network, mesh=mesh, reshard_after_forward=True)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole tensors on the CPU of rank 0; frozen ones only where checkpoints hold them."""
        assert self.lightning_module is not None and self.model is not None
        frozen = {n for n, p in self.model.named_parameters() if not p.requires_grad}
        left_out = set() if self.lightning_module.strict_loading else frozen
        state = self.model.state_dict()
        return {k: whole(v) for k, v in state.items() if k not in left_out}

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Each process takes its part of whole tensors."""
        assert self.model is not None
        ours = self.model.state_dict()
        parts = {k: sharded_like(v, ours.get(k)) for k, v in checkpoint["state_dict"].items()}
        self.model.load_state_dict(parts, strict=strict)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """That of one process: whole tensors, numbered in the optimizer's order."""
        state = getattr(optimizer, "_optimizer", optimizer).state_dict()  # Lightning's wrapper
        full = {
            number: {name: whole(value) for name, value in values.items()}
            for number, values in state["state"].items()
        }
        return {**state, "state": full}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Each process takes its part."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            parts = {
                number: {k: sharded_like(v, parameters[number]) for k, v in values.items()}
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": parts})

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """One file, by rank 0."""
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """All of the file, on each process."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)


def _networks(module: nn.Module) -> Iterator[nn.Module]:
    """What it calls: its children, and the members of its lists."""
    for child in module.children():
        members = child if isinstance(child, nn.ModuleList) else [child]
        yield from (member for member in members if _num_weights(member))


def _num_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
