"""The loop of sampling: whose noise a step adds, and how words and control lead."""

from __future__ import annotations

import diffusers
import pytest
import torch

from palmforge.errors import ConfigError
from palmforge.modules.sampling import NoiseSeeds, guided, sample_latents

CPU = torch.device("cpu")
CAPTURES, PALMS = (1, 2, 3), (7, 7, 8)


def numbers(generators: list[torch.Generator]) -> list[float]:
    return [float(torch.rand((), generator=g)) for g in generators]


@pytest.mark.parametrize("shared", [0, 2, 5])
def test_the_noise_of_the_last_steps_is_the_palms(shared):
    seeds = NoiseSeeds(CAPTURES, PALMS, shared)
    for step in range(5):
        one, two, other = numbers(seeds.of_step(step, 5))
        assert (one == two) == (step >= 5 - shared)
        assert other not in (one, two)
    assert len(set(numbers(seeds.start()))) == 3


def test_each_step_has_noise_of_its_own_that_is_a_function_of_seed_and_step():
    steps = [numbers(NoiseSeeds((1,), (7,)).of_step(step, 5))[0] for step in range(5)]
    assert len({*steps, numbers(NoiseSeeds((1,), (7,)).start())[0]}) == 6
    assert steps == [numbers(NoiseSeeds((9, 1), (9, 9)).of_step(s, 5))[1] for s in range(5)]


def scheduler(name: str, **settings):
    own = {"prediction_type": "v_prediction", "clip_sample": False, **settings}
    return getattr(diffusers, name).from_config(own)  # takes what it knows


def shrink(noisy, t):
    return 0.5 * noisy


def drawn(kind, shared=0, eta=0.0, steps=6, captures=CAPTURES, palms=PALMS):
    seeds = NoiseSeeds(captures, palms, shared)
    return sample_latents(kind, shrink, (len(captures), 4, 8, 8), CPU, steps, seeds, eta)


NOISY = [
    ("DDIMScheduler", 1.0, {}), ("DDPMScheduler", 0.0, {}),
    ("EulerAncestralDiscreteScheduler", 0.0, {}), ("KDPM2AncestralDiscreteScheduler", 0.0, {}),
    ("DPMSolverMultistepScheduler", 0.0, {"algorithm_type": "sde-dpmsolver++"}),
]  # fmt: skip
STILL = [
    ("DDIMScheduler", 0.0), ("DPMSolverMultistepScheduler", 0.0), ("EulerDiscreteScheduler", 0.0),
    ("PNDMScheduler", 0.0), ("UniPCMultistepScheduler", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "eta", "settings"), NOISY)
def test_the_more_steps_share_noise_the_nearer_captures_of_a_palm_are(name, eta, settings):
    """And those of two palms are as far as before."""
    kind = scheduler(name, **settings)
    kind.set_timesteps(6)
    steps = len(kind.timesteps)
    found = [drawn(kind, shared, eta) for shared in (0, steps // 2, steps)]
    within = [float((x[0] - x[1]).norm()) for x in found]
    between = [float((x[0] - x[2]).norm()) for x in found]
    assert within[0] > within[1] > within[2] > 0  # the start noise differs
    assert min(between) > 0.7 * max(between) and within[2] < 0.7 * between[2]


@pytest.mark.parametrize(("name", "eta", "settings"), NOISY)
def test_without_sharing_a_palm_changes_nothing(name, eta, settings):
    kind = scheduler(name, **settings)
    assert torch.equal(drawn(kind, 0, eta), drawn(kind, 0, eta, palms=(4, 5, 6)))


@pytest.mark.parametrize(("name", "eta"), STILL)
def test_a_sampler_that_adds_no_noise_cannot_share_it(name, eta):
    kind = scheduler(name)
    assert torch.equal(drawn(kind, 0, eta), drawn(kind, 0, eta))
    with pytest.raises(ConfigError, match=rf"shared_steps: {name} with eta=0 adds no noise.*DDPM"):
        drawn(kind, 1, eta)


@pytest.mark.parametrize("shared", [-1, 7])
def test_steps_out_of_range_are_refused(shared):
    with pytest.raises(ConfigError, match=rf"shared_steps: {shared} is not in 0 … 6"):
        drawn(scheduler("DDPMScheduler"), shared)


@pytest.mark.parametrize(("name", "eta"), [(n, e) for n, e, s in NOISY if not s] + STILL)
def test_a_sample_is_a_function_of_its_seeds_whatever_the_batch(name, eta):
    together = drawn(scheduler(name), 0, eta)
    assert together.dtype == torch.float32 and together.isfinite().all()
    for place, capture in enumerate(CAPTURES):
        alone = drawn(scheduler(name), 0, eta, captures=(capture,), palms=(9,))
        torch.testing.assert_close(alone[0], together[place], rtol=0, atol=1e-6)


def test_a_scheduler_can_be_used_again():
    kind = scheduler("DPMSolverMultistepScheduler")
    assert torch.equal(drawn(kind), drawn(kind))


PARTS = {"both": 3.0, "control": 2.0, "nothing": 0.5}


@pytest.mark.parametrize(("words", "control"), [(2.0, 1.0), (2.0, 1.5), (1.0, 1.5), (0.0, 0.0)])
def test_guidance_follows_its_formula_and_asks_no_more_than_it_needs(words, control):
    asked: list[str] = []

    def predict(noisy, t, which):
        asked.append(which)
        return torch.full_like(noisy, PARTS[which])

    found = guided(predict, words, control)(torch.zeros(2), torch.tensor(3))
    w_c, c, nothing = PARTS["both"], PARTS["control"], PARTS["nothing"]
    expected = nothing + control * (c - nothing) + words * (w_c - c)
    torch.testing.assert_close(found, torch.full((2,), expected))
    assert asked == ["both", "control"] + ["nothing"] * (control != 1)


def test_with_scales_of_one_the_network_is_asked_once():
    asked = []
    denoise = guided(lambda noisy, t, which: asked.append(which) or noisy, 1.0, 1.0)
    assert torch.equal(denoise(torch.ones(2), torch.tensor(3)), torch.ones(2))
    assert asked == ["both"]
