"""Every preset of `configs/trainer` builds its Trainer: on the CPU, where it has no GPUs."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import yaml
from conftest import ROOT
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

from palmforge.callbacks import StopOnSignal
from palmforge.cli import PalmCLI
from palmforge.modules.sharded import ShardedStrategy

EXPERIMENT = "--config=configs/experiment/dhn_student.yaml"
ON_CPU = ["--trainer.accelerator=cpu", "--trainer.precision=32-true"]
TWO = [*ON_CPU, "--trainer.devices=2"]


@pytest.fixture
def trainer(monkeypatch, cli, tiny_data):
    """Of a fit that does not begin."""
    seen = []
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # a Trainer of another rank sets it for good
    monkeypatch.setattr(PalmCLI, "_run_subcommand", lambda self, name: seen.append(self.trainer))

    def build(name: str, *settings: str):
        cli("fit", EXPERIMENT, f"--trainer=configs/trainer/{name}.yaml", *tiny_data, *settings)
        return seen[-1]

    return build


def preset(name: str) -> dict:
    return yaml.safe_load((ROOT / f"configs/trainer/{name}.yaml").read_text())


def test_one_device(trainer):
    assert trainer("cpu").world_size == 1
    assert trainer("gpu", *ON_CPU).world_size == 1


def test_ddp_on_one_machine_and_on_more(trainer):
    one, more = trainer("ddp", *TWO), trainer("ddp_multinode", *TWO, "--trainer.num_nodes=4")
    assert (one.world_size, more.world_size) == (2, 8)
    assert isinstance(more.strategy, DDPStrategy)
    assert more.strategy._ddp_kwargs["gradient_as_bucket_view"]
    hook = "torch.distributed.algorithms.ddp_comm_hooks.default_hooks.bf16_compress_hook"
    halved = trainer("ddp_multinode", *TWO, f"--trainer.strategy.ddp_comm_hook={hook}")
    assert halved.strategy._ddp_comm_hook is bf16_compress_hook


def test_fsdp_shards_over_all_processes(trainer):
    built = trainer("fsdp", *TWO)
    assert isinstance(built.strategy, ShardedStrategy)
    assert built.world_size == 2


def test_slurm_starts_nothing_and_requeues_by_the_script(trainer, monkeypatch):
    job = {"NTASKS": 2, "NTASKS_PER_NODE": 2, "PROCID": 1, "LOCALID": 1, "NODEID": 0}
    for name, value in {**job, "JOB_ID": 4242, "JOB_NAME": "palms", "NNODES": 1}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    built = trainer("slurm", *TWO)
    environment = built.strategy.cluster_environment
    assert isinstance(environment, SLURMEnvironment)
    assert environment.creates_processes_externally and not environment.auto_requeue
    assert (built.world_size, built.global_rank) == (2, 1)


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="it is installed")
def test_deepspeed_says_what_is_missing(trainer):
    with pytest.raises((MisconfigurationException, ValueError), match="must have DeepSpeed"):
        trainer("deepspeed_zero2", *ON_CPU)


def test_many_gpus_are_fed_with_bf16():
    for name in ("ddp", "ddp_multinode", "fsdp", "deepspeed_zero2", "slurm"):
        told = preset(name)
        assert told["accelerator"] == "gpu" and told["precision"] == "bf16-mixed", name


def test_a_fit_always_listens_for_signals(trainer):
    """Also where a file lists callbacks of its own."""
    (heard,) = (c for c in trainer("cpu").callbacks if isinstance(c, StopOnSignal))
    assert heard not in trainer("cpu").checkpoint_callbacks
