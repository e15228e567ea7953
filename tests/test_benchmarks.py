"""The benchmarks of the generators measure what they say, on tiny networks."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from generators import SIZE, SIZES, base
from runs import in_a_process

from palmforge.networks.stable_diffusion import tiny_components


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def apart(test: Callable) -> Callable:
    """What counts operations starts threads for good, and tests that fork come after it."""

    @functools.wraps(test)
    def forked(*args, **kwargs):
        assert in_a_process(lambda: test(*args, **kwargs)) == 0

    return forked


def tiny():
    """That predicts noise, as diffusers' scripts want it."""
    sizes = replace(SIZES, max_tokens=77, prediction_type="epsilon", beta_schedule="scaled_linear")
    return tiny_components(sizes, SIZE, ["a left palm"])


def case(**settings):
    from benchmarks.training_ways import Case

    own = {"image_size": SIZE, "batch_size": 2, "rounds": 1, "steps": 1, "num_images": 3}
    return Case(tiny, **{**own, "clip": 1.0, **settings})


@apart
def test_our_controlnet_step_and_that_of_diffusers_have_the_same_losses():
    from benchmarks.controlnet_step import turns
    from benchmarks.training_ways import CHECKED

    ways, losses = turns(case())
    assert losses["ours"] == pytest.approx(losses["diffusers"], rel=1e-4)
    assert len(set(losses["ours"])) == CHECKED
    assert all(len(way.seconds) == 1 and way.median > 0 for way in ways.values())


@apart
def test_another_control_would_be_seen_in_the_losses(monkeypatch):
    """Else equal losses would say nothing about what the ControlNet is shown."""
    from benchmarks import controlnet_step

    class Blank(controlnet_step.ControlFiles):
        def __getitem__(self, item):
            sample = super().__getitem__(item)
            assert sample["conditioning_pixel_values"].max() > 0.5  # there are lines
            return {**sample, "conditioning_pixel_values": torch.zeros(3, SIZE, SIZE)}

    monkeypatch.setattr(controlnet_step, "ControlFiles", Blank)
    with pytest.raises(AssertionError, match="losses differ"):
        controlnet_step.turns(case())


@apart
def test_the_lora_step_is_measured_as_well(monkeypatch):
    from benchmarks import lora_step

    monkeypatch.setattr(lora_step, "stable_diffusion_15", tiny)
    monkeypatch.setattr(lora_step, "checkpoint", lambda *args: "")
    monkeypatch.setattr(lora_step, "CHECKPOINTING", {})
    found = lora_step.measure(case(clip=None))
    assert found["ratio"] > 0 and "by FLOPs" in found["facts"]


@apart
def test_checkpointing_the_frozen_unet_too_keeps_least():
    from benchmarks.controlnet_costs import CHECKPOINTING, saved_bytes, without_weights

    parts = without_weights(tiny)
    found = [
        saved_bytes(parts, SIZE, torch.bfloat16, prepare) for prepare in CHECKPOINTING.values()
    ]
    plain, theirs, ours = (sample for sample, _ in found)
    assert plain > theirs > ours > 0
    # All of the ControlNet's weights that are multiplied with have a copy, and nothing else has.
    weights = sum(p.numel() for p in parts["controlnet"].parameters() if p.ndim > 1)
    assert found[0][1] == pytest.approx(2 * weights, rel=0.05)


@apart
def test_a_controlnet_step_with_caches_can_be_half_as_fast_again():
    from benchmarks.controlnet_costs import flops, without_weights
    from benchmarks.training_ways import small

    found = flops(without_weights(small), 128)
    assert 1.5 < found.ceiling < 1.66
    assert found.ours_alone["line map"] < 0.05 * found.needed


@apart
def test_two_stages_cost_a_controlnet_and_their_share_of_a_palm():
    from benchmarks.generation_cost import APART, FIRST, ONE, SECOND, Case, costs, table

    found = costs(Case(base(), SIZE, 3, batch_size=2, num_classes=5, captures=(2,), rounds=1))
    one, first, second, apart = (found[name] for name in (ONE, FIRST, SECOND, APART))
    both = found["two stages, 2 captures a palm"]
    assert one.flops < second.flops < apart.flops
    assert both.flops == first.flops / 2 + second.flops
    assert both.seconds == first.seconds / 2 + second.seconds
    assert one.num_weights < second.num_weights < both.num_weights
    assert min(c.memory - 4 * c.num_weights for c in (one, first, second, apart)) > 0
    lines = table(found).splitlines()
    assert len(lines) == 2 + 6 and {line.count("|") for line in lines} == {8}


@apart
def test_the_one_stage_is_led_by_its_class():
    from benchmarks.generation_cost import OneStage

    from palmforge.modules.identity_controlnet import IdentityControlNet

    module = IdentityControlNet(base(), image_size=SIZE, num_inference_steps=2, guidance_scale=2.0)
    module.configure_model()
    torch.manual_seed(0)
    one = OneStage(module, 3)
    told = (["a left palm"] * 2, [1, 1])
    same = one.sample(*told, torch.tensor([2, 2]))
    other = one.sample(*told, torch.tensor([2, 0]))
    assert same.shape == (2, 3, SIZE, SIZE) and same.dtype == torch.uint8
    assert torch.equal(same[0], same[1]) and not torch.equal(other[0], other[1])


def test_all_of_them_run():
    """The smoke of CI: tiny sizes."""
    from benchmarks import __main__, results

    kept = results.FILE.read_bytes() if results.FILE.exists() else None
    command = [sys.executable, "-m", "benchmarks", "--smoke"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert all(f"\n{name}: " in done.stdout for name in __main__.NAMES)
    assert (results.FILE.read_bytes() if results.FILE.exists() else None) == kept


@pytest.fixture
def stubs(monkeypatch):
    from benchmarks import __main__

    found = {"claim": "ours vs theirs", "ratio": 3.0, "target": 5.0, "seconds": {"ours": 1.0}}
    modules = {"good": SimpleNamespace(run=lambda: found, SMOKE={})}
    modules["other"] = SimpleNamespace(run=lambda: {**found, "ratio": float("inf")}, SMOKE={})
    modules["bad"] = SimpleNamespace(run=lambda: 1 / 0, SMOKE={})
    monkeypatch.setattr(__main__, "NAMES", tuple(modules))
    monkeypatch.setattr(
        __main__.importlib, "import_module", lambda name: modules[name.removeprefix("benchmarks.")]
    )
    return __main__


def test_what_was_measured_earlier_stays_in_the_file(stubs, tmp_path, capsys):
    out = tmp_path / "results.json"
    stubs.main(["good", f"--out={out}"])
    assert "| `good` | ours vs theirs | 3.0 | 5.0 | below |" in capsys.readouterr().out
    stubs.main(["other", f"--out={out}"])
    kept = json.loads(out.read_text())
    assert kept["good"]["ratio"] == 3.0 and kept["other"]["ratio"] is None
    assert kept["good"]["torch"] == torch.__version__ and "machine" in kept["good"]


def test_one_that_fails_is_told_after_the_others(stubs, tmp_path, capsys):
    with pytest.raises(SystemExit, match="failed: bad"):
        stubs.main(["bad", "good", f"--out={tmp_path / 'results.json'}"])
    assert list(json.loads((tmp_path / "results.json").read_text())) == ["good"]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_file_that_is_none_of_ours_is_left_alone(stubs, tmp_path):
    out = tmp_path / "results.json"
    out.write_text('{"good": 1}')
    with pytest.raises(SystemExit, match="holds no results of benchmarks"):
        stubs.main(["good", f"--out={out}"])
    assert out.read_text() == '{"good": 1}'


def test_an_unknown_name_lists_the_known(stubs, capsys):
    with pytest.raises(SystemExit):
        stubs.main(["nothing"])
    assert "no benchmark nothing; there are good, other, bad" in capsys.readouterr().err
