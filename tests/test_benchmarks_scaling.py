"""The computed scaling is the formula of docs/many_gpus.md."""

from __future__ import annotations

import pytest
import torch
from conftest import ROOT


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def machine(**settings):
    from benchmarks.scaling_model import Machine

    own = {"flops": 100.0, "share": 0.5, "inside": 10.0, "between": 2.0, "latency": 0.0}
    return Machine(**{**own, **settings})


def step(**settings):
    from benchmarks.scaling_model import Step

    return Step(**{"name": "m", "batch": 1, "trained": 10, "flops": 200.0, **settings})


def test_a_ring_sends_twice_the_gradients_but_for_ones_own_part():
    from benchmarks.scaling_model import sent

    assert sent(step(), 1) == 0
    assert sent(step(), 2) == 40  # 10 float32
    assert sent(step(), 8) == 70  # 2 · 7/8 · 40
    assert sent(step(gathered=5), 8) == 70 + 35
    assert sent(step(), 10**6) == pytest.approx(80)


def test_the_slowest_link_sets_the_pace_and_every_hop_of_a_tree_waits():
    from benchmarks.scaling_model import BUCKET, seconds_sending

    assert seconds_sending(step(), 8, machine()) == 7.0  # 70 bytes at 10 a second
    assert seconds_sending(step(), 16, machine()) == 37.5  # 75 at 2
    assert seconds_sending(step(), 16, machine(between=1000.0)) == 7.5  # NVLink is then the slowest
    assert seconds_sending(step(), 8, machine(latency=0.5)) == 7.0 + 2 * 3 * 0.5
    with_codes = seconds_sending(step(gathered=5), 8, machine(latency=0.5))
    assert with_codes == 10.5 + (2 * 3 + 3) * 0.5
    two_buckets = step(trained=BUCKET // 4 + 1)
    waited = seconds_sending(two_buckets, 8, machine(inside=float("inf"), latency=1.0))
    assert waited == 2 * 2 * 3
    assert seconds_sending(step(), 1, machine(latency=0.5)) == 0


def test_efficiency_is_the_time_of_one_over_that_of_many():
    from benchmarks.scaling_model import efficiency

    assert efficiency(step(), 1, machine()) == (1.0, 1.0)
    low, high = efficiency(step(), 8, machine())  # 4 s of computing, 7 of sending
    assert low == pytest.approx(4 / 11) and high == pytest.approx(4 / 7)
    low, high = efficiency(step(flops=1000.0), 8, machine())  # 20 s: all is sent meanwhile
    assert low == pytest.approx(20 / 27) and high == 1.0


def test_steps_are_counted_from_the_networks_themselves():
    from benchmarks.scaling_model import hashing_steps

    from palmforge.networks.hashing import TinyHashing, VGG16Hashing

    teacher, student = hashing_steps(batch=2, classes=5)
    with torch.device("meta"):
        small, large = TinyHashing(128, 5), VGG16Hashing(128, 5)
        large.freeze(4)
    assert student.trained == sum(p.numel() for p in small.parameters())
    assert teacher.trained == sum(p.numel() for p in large.parameters() if p.requires_grad)
    assert student.gathered == teacher.gathered == 2 * (128 * 4 + 8)
    # Distilling asks the teacher forward; frozen blocks have no backward pass in either.
    assert 0.5 * teacher.flops < student.flops < teacher.flops
    twice = hashing_steps(batch=4, classes=5)[0]
    assert twice.flops == pytest.approx(2 * teacher.flops)


def test_the_table_names_its_bounds():
    from benchmarks.scaling_model import GPUS, table

    head, rule, line = table([step()], machine()).splitlines()
    assert [f"{n} GPUs" in head for n in GPUS[1:]] == [True] * 4
    assert rule.count("|") == line.count("|") == 11
    assert "36–57" in line  # 8 GPUs, as above
