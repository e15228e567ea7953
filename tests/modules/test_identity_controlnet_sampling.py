"""Captures of palms: functions of their seeds, led by words and palm, as near as the dial says."""

from __future__ import annotations

import pytest
import torch
from controlnets import ready, references
from generators import SIZE

from palmforge.errors import ConfigError

PROMPTS, SEEDS = ["a left palm", "a right palm, flash", "a left palm"], [3, 4, 5]
PALMS = references(3)


def nearly(one: torch.Tensor, other: torch.Tensor) -> bool:
    return int((one.int() - other.int()).abs().max()) <= 1


@pytest.mark.parametrize("settings", [
    {}, {"scheduler": "DDIMScheduler", "eta": 1.0}, {"scheduler": "DDPMScheduler"},
    {"scheduler": "DPMSolverMultistepScheduler"}, {"scheduler": "EulerDiscreteScheduler"},
    {"conditions": ("embedding",), "control_guidance_scale": 1.5},
], ids=["ddim", "ddim-1", "ddpm", "dpm", "euler", "tokens"])  # fmt: skip
def test_a_capture_is_a_function_of_its_seeds_whatever_the_batch(settings):
    module = ready(num_inference_steps=3, **settings)
    together = module.sample(PROMPTS, SEEDS, PALMS)
    assert together.dtype == torch.uint8 and together.shape == (3, 3, SIZE, SIZE)
    alone = [
        module.sample([prompt], [seed], palm[None])
        for prompt, seed, palm in zip(PROMPTS, SEEDS, PALMS, strict=True)
    ]
    assert nearly(torch.cat(alone), together)
    assert not nearly(together, module.sample(PROMPTS, [6, 7, 8], PALMS))
    assert module.unet.training and module.controlnet.training  # as before


def counted(module) -> list[torch.Tensor]:
    """The control of each call of the ControlNet."""
    controls: list[torch.Tensor] = []
    module.controlnet.register_forward_pre_hook(lambda _, args: controls.append(args[3]))
    return controls


@pytest.mark.parametrize(("words", "palm", "calls"), [(1.0, 1.0, 1), (2.0, 1.0, 2), (2.0, 1.5, 3)])
def test_each_condition_is_led_by_its_own_scale_and_costs_a_look(words, palm, calls):
    module = ready(guidance_scale=words, control_guidance_scale=palm)
    controls = counted(module)
    module.sample(PROMPTS, SEEDS, PALMS)
    assert len(controls) == 2 * calls
    assert [bool(control.any()) for control in controls] == ([True] * min(2, calls) + [False])[
        :calls
    ] * 2


def test_the_palm_is_led_by_tokens_too():
    """At a scale of 0 for both, only what is without words and palm is left."""
    module = ready(conditions=("lines", "embedding"), control_guidance_scale=0.0)
    module.guidance_scale = 0.0
    nobody = module.sample(PROMPTS, SEEDS, PALMS)
    assert torch.equal(nobody, module.sample(PROMPTS[::-1], SEEDS, PALMS.flip(0)))
    module.control_guidance_scale = 2.0
    assert not nearly(nobody, module.sample(PROMPTS, SEEDS, PALMS))


@pytest.mark.parametrize("palm", [1.0, 2.0])
def test_one_m_holds_for_all_that_guidance_compares(palm):
    module = ready(
        similarity_weight=0.05, similarity=-0.5, control_guidance_scale=palm, conditions=("lines",)
    )
    asked: list[float] = []
    module.conditions.similarity.register_forward_pre_hook(
        lambda _, args: asked.extend(args[0].flatten().tolist())
    )
    low = module.sample(PROMPTS, SEEDS, PALMS)
    assert set(asked) == {-0.5}
    asked.clear()
    high = module.sample(PROMPTS, SEEDS, PALMS, similarity=0.75)
    assert set(asked) == {0.75}
    assert not nearly(low, high)


@pytest.mark.parametrize("m", [1.04, -2.0, float("nan")])
def test_an_m_out_of_range_is_refused(m):
    module = ready(similarity_weight=0.05)
    with pytest.raises(ConfigError, match=r"similarity: .* is not in \[-1, 1\]"):
        module.sample(PROMPTS, SEEDS, PALMS, similarity=m)
    with pytest.raises(ConfigError, match=r"model\.similarity: .* is not in \[-1, 1\]"):
        ready(similarity=m)


def test_an_m_without_a_dial_is_refused():
    with pytest.raises(ConfigError, match=r"no dial \(model\.similarity_weight\)"):
        ready().sample(PROMPTS, SEEDS, PALMS, similarity=0.5)


def spread(module, shared: int) -> float:
    """How far captures of one palm, with the same words, are from each other in grey levels."""
    seeds = [11, 12, 13, 14]
    made = module.sample(
        ["a left palm"] * 4, seeds, PALMS[:1].expand(4, -1, -1, -1), [9] * 4, shared_steps=shared
    )
    return float((made[:, None].float() - made[None].float()).abs().mean())


@pytest.mark.parametrize("settings", [{"scheduler": "DDPMScheduler"}, {"eta": 1.0}])
def test_captures_of_a_palm_that_share_their_noise_are_nearer(settings):
    """`test_sampling` has the steps between: with random weights more is not always nearer."""
    module = ready(
        num_inference_steps=8, guidance_scale=1.0, prediction_type="v_prediction", **settings
    )
    none, every = (spread(module, shared) for shared in (0, 8))
    assert none > 1.1 * every > 0
    module.shared_steps = 8  # the module's, where none is asked for
    made = module.sample(PROMPTS, SEEDS, PALMS, [1, 2, 3])
    assert torch.equal(made, module.sample(PROMPTS, SEEDS, PALMS, [1, 2, 3], shared_steps=8))


def test_sharing_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="DDIMScheduler with eta=0 adds no noise"):
        ready().sample(PROMPTS, SEEDS, PALMS, shared_steps=1)
    with pytest.raises(ConfigError, match=r"shared_steps: 3 is not in 0 … 2"):
        ready(eta=1.0).sample(PROMPTS, SEEDS, PALMS, shared_steps=3)


@pytest.mark.parametrize("shape", [(2, 3, SIZE, SIZE), (3, 3, SIZE, 2 * SIZE), (3, 1, SIZE, SIZE)])
def test_references_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"reference: .* is not \[3, 3, 32, 32\]"):
        ready().sample(PROMPTS, SEEDS, torch.zeros(shape, dtype=torch.uint8))
