"""Inpainting by exemplars: as diffusers does it, and where the paper departs from that."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import pytest
import torch
from exemplars import SIZE, WIDTH, fresh, masks, model, pictures, pipeline
from torch.nn.functional import max_pool2d

from palmforge.errors import ConfigError
from palmforge.modules.exemplar_inpainting import (
    AUTHORS,
    PAPER,
    InpaintingSettings,
    fuse_exemplars,
    inpaint_with_exemplar,
    interpolate_prior,
)

PLAIN = InpaintingSettings(
    alpha=0.0, unmasked="free", num_inference_steps=3, guidance_scale=3.0
)  # what diffusers does
QUICK = replace(PAPER, num_inference_steps=3)
SCHEDULERS = [
    ("PNDMScheduler", 0.0), ("DDIMScheduler", 0.0), ("DDIMScheduler", 1.0),
    ("DPMSolverMultistepScheduler", 0.0), ("EulerAncestralDiscreteScheduler", 0.0),
    ("HeunDiscreteScheduler", 0.0), ("DDPMScheduler", 0.0),
]  # fmt: skip


def sampler(name: str):
    return getattr(diffusers, name).from_config(model().scheduler.config)


def exemplars(count: int = 1, each: int = 1, seed: int = 5) -> torch.Tensor:
    return torch.randn(count, each, WIDTH, generator=torch.Generator().manual_seed(seed))


def inpainted(settings=QUICK, count=2, scheduler=None, seeds=None, **given):
    parts = model() if scheduler is None else replace(model(), scheduler=scheduler)
    own = {
        "images": pictures(count), "masks": masks(count), "exemplars": exemplars(count, 2),
        "seeds": seeds or list(range(1, count + 1)), "settings": settings,
    }  # fmt: skip
    return inpaint_with_exemplar(parts, **{**own, **given})


def drawn_by(plain, images, covered, example, seeds, **settings) -> torch.Tensor:
    """The pipeline's pictures `[N, 3, H, W]` in [0, 1]; `seeds` give one generator a picture."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    own = {"num_inference_steps": 3, "guidance_scale": 3.0, **settings}
    found = plain(
        example_image=example, image=images.float() / 127.5 - 1, mask_image=covered.float(),
        generator=generators, output_type="pt", **own,
    )  # fmt: skip
    return found.images


# --- as diffusers does it ---


@pytest.mark.parametrize(("name", "eta"), SCHEDULERS)
def test_it_is_the_plain_pipeline_for_the_same_seed(monkeypatch, name, eta):
    plain = pipeline()
    monkeypatch.setattr(plain, "scheduler", sampler(name))
    crop = pictures(1, 128, 128, seed=9)
    example = plain.feature_extractor(list(crop), return_tensors="pt").pixel_values
    expected = drawn_by(plain, pictures(), masks(), example, [7], eta=eta)
    embedding = model().embed(crop[:, None])
    found = inpainted(replace(PLAIN, eta=eta), 1, sampler(name), seeds=[7], exemplars=embedding)
    assert torch.equal(found, expected)
    inside = (expected > 0.01) & (expected < 0.99)
    assert inside.float().mean() > 0.5 and expected.std() > 0.05  # there is something to compare


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_batches_that_are_not_square_are_the_pipelines_too(guidance):
    plain = pipeline()
    images, covered = pictures(3, 32, 48), masks(3, 32, 48)
    crops = pictures(3, 40, 40, seed=9)
    example = plain.feature_extractor(list(crops), return_tensors="pt").pixel_values
    expected = drawn_by(plain, images, covered, example, [4, 5, 6], guidance_scale=guidance)
    found = inpainted(
        replace(PLAIN, guidance_scale=guidance), 3, images=images, masks=covered,
        exemplars=model().embed(crops[:, None]), seeds=[4, 5, 6],
    )  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_fusion_and_prior_are_the_pipelines_with_its_two_hooks_filled(monkeypatch):
    """`_encode_image` gives the mean of two embeddings, `prepare_mask_latents` Eq. 2."""
    plain, images = pipeline(), pictures()
    embeddings, noise = exemplars(1, 2), torch.Generator().manual_seed(7)
    torch.randn(1, 4, 8, 8, generator=noise)  # of the start
    noise = torch.randn(1, 4, 8, 8, generator=noise)
    with torch.no_grad():
        posterior = plain.vae.encode(images.float() / 127.5 - 1).latent_dist
    original = 0.18215 * (posterior.mean + posterior.std * noise)
    nothing = plain.image_encoder.uncond_vector.detach()
    shown = torch.cat([nothing, embeddings.mean(1, keepdim=True)])
    prepare = plain.prepare_mask_latents

    def interpolated(*given):
        mask, background = prepare(*given)
        return mask, 0.3 * original + 0.7 * background

    monkeypatch.setattr(plain, "_encode_image", lambda *given: shown)
    monkeypatch.setattr(plain, "prepare_mask_latents", interpolated)
    expected = drawn_by(plain, images, masks(), torch.zeros(1, 3, 32, 32), [7])
    settings = replace(PLAIN, alpha=0.3)
    assert torch.equal(inpainted(settings, 1, exemplars=embeddings, seeds=[7]), expected)


# --- Eq. 1 and Eq. 2 ---


def test_fusion_by_hand():
    two = torch.tensor([[[1.0, 2.0], [3.0, 6.0]]])
    assert fuse_exemplars(two, "mean").tolist() == [[[2.0, 4.0]]]
    assert torch.equal(fuse_exemplars(two, "tokens"), two)
    assert torch.equal(fuse_exemplars(two[:, :1]), two[:, :1])


def test_one_exemplar_said_twice_is_one_exemplar_by_either_rule():
    once = exemplars(2)
    alone = inpainted(exemplars=once)
    for rule in ("mean", "tokens"):
        twice = inpainted(replace(QUICK, fusion=rule), exemplars=once.expand(2, 2, WIDTH))
        torch.testing.assert_close(twice, alone, rtol=0, atol=2e-6)
    mean, tokens = (inpainted(replace(QUICK, fusion=rule)) for rule in ("mean", "tokens"))
    assert (mean - tokens).abs().max() > 1e-4


def test_prior_interpolation_by_hand():
    original, background = torch.tensor([8.0]), torch.tensor([2.0])
    values = [float(interpolate_prior(original, background, a)) for a in (0.0, 0.25, 1.0)]
    assert values == [2.0, 3.5, 8.0]


def test_the_unet_is_shown_the_interpolated_latents_and_where_to_look(monkeypatch):
    """Channels 4 … 7 go in a straight line from z_bg to z_o; the ninth is 1 where all is seen."""
    read = {}
    for alpha in (0.0, 0.25, 1.0):
        settings = replace(QUICK, alpha=alpha, guidance_scale=1.0)
        read[alpha] = spied(monkeypatch, settings).reads[0]
    between = 0.25 * read[1.0] + 0.75 * read[0.0]
    torch.testing.assert_close(read[0.25][:, 4:8], between[:, 4:8], rtol=0, atol=1e-6)
    assert (read[1.0] - read[0.0])[:, 4:8].abs().max() > 0.01
    assert torch.equal(read[0.0][:, :4], read[1.0][:, :4])  # the same start noise
    assert torch.equal(read[0.0][:, 8:], (~masks(2))[:, :, ::4, ::4].float())


# --- what is not masked ---


class spied:
    """What the UNet read and what the autoencoder was given to decode."""

    def __init__(self, monkeypatch, settings, scheduler=None, **given) -> None:
        self.reads: list[torch.Tensor] = []
        parts = model()
        forward, decode = parts.unet.forward, parts.vae.decode

        def reading(sample, *others, **options):
            self.reads.append(sample.clone())
            return forward(sample, *others, **options)

        def decoding(latents):
            self.decoded = latents * parts.vae.config.scaling_factor
            return decode(latents)

        with monkeypatch.context() as patch:
            patch.setattr(parts.unet, "forward", reading)
            patch.setattr(parts.vae, "decode", decoding)
            self.pictures = inpainted(settings, scheduler=scheduler, **given)


def latents_of(images: torch.Tensor, seeds=(1, 2)) -> tuple[torch.Tensor, torch.Tensor]:
    """(start noise, z) as the sampler draws them."""
    rows = []
    for seed in seeds:
        draw = torch.Generator().manual_seed(seed)
        rows.append([torch.randn(4, 8, 8, generator=draw) for _ in range(2)])
    start, noise = (torch.stack(drawn) for drawn in zip(*rows, strict=True))
    with torch.no_grad():
        posterior = model().vae.encode(images / 127.5 - 1).latent_dist
    return start, 0.18215 * (posterior.mean + posterior.std * noise)


REPAINTED = max_pool2d(masks(2).float(), 4).bool().expand(2, 4, 8, 8)


@pytest.mark.parametrize(
    ("name", "eta", "unmasked"),
    [(*s, "original") for s in SCHEDULERS] + [(*SCHEDULERS[0], "background")],
)
def test_unmasked_latents_end_as_they_were(monkeypatch, name, eta, unmasked):
    settings = replace(QUICK, unmasked=unmasked, eta=eta)
    found = spied(monkeypatch, settings, sampler(name)).decoded
    images = pictures(2).float()
    shown = images if unmasked == "original" else torch.where(masks(2), 127.5, images)
    _, expected = latents_of(shown)
    torch.testing.assert_close(found[~REPAINTED], expected[~REPAINTED], rtol=0, atol=1e-5)
    assert (found - expected)[REPAINTED].abs().mean() > 0.05
    assert found.isfinite().all()


def test_on_the_way_they_are_at_the_noise_level_of_the_step(monkeypatch):
    scheduler = sampler("DDIMScheduler")
    settings = replace(QUICK, guidance_scale=1.0)
    reads = spied(monkeypatch, settings, scheduler).reads
    start, original = latents_of(pictures(2).float())
    for read, t in list(zip(reads, scheduler.timesteps, strict=True))[1:]:
        expected = scheduler.add_noise(original, start, t[None])
        torch.testing.assert_close(read[:, :4][~REPAINTED], expected[~REPAINTED], rtol=0, atol=1e-5)


def test_a_latent_of_which_one_pixel_is_masked_is_repainted(monkeypatch):
    """Though the UNet's mask, every fourth pixel, does not show it."""
    covered = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.bool)
    covered[:, :, 13, 18] = True  # in the latent (3, 4), not at its corner
    found = spied(monkeypatch, QUICK, masks=covered)
    _, original = latents_of(pictures(2).float())
    changed = (found.decoded - original).abs().amax((0, 1)) > 1e-4
    assert changed.nonzero().tolist() == [[3, 4]]
    assert (found.reads[0][:, 8] == 1).all()


def test_the_authors_leave_them_free(monkeypatch):
    assert replace(AUTHORS, unmasked=PAPER.unmasked) == PAPER  # and differ in nothing else
    free = spied(monkeypatch, replace(QUICK, unmasked="free"))
    _, original = latents_of(pictures(2).float())
    assert (free.decoded - original)[~REPAINTED].abs().mean() > 0.05


@pytest.mark.parametrize(
    ("unmasked", "alpha", "hidden"),
    [
        ("background", 0.0, True), ("free", 0.0, True),
        ("background", 0.1, False), ("free", 0.1, False), ("original", 0.0, False),
    ],
)  # fmt: skip
def test_without_a_prior_no_pixel_of_the_palm_reaches_the_output(unmasked, alpha, hidden):
    """But by the exemplars. `original` keeps latents whose field of view crosses the mask."""
    settings = replace(QUICK, unmasked=unmasked, alpha=alpha)
    images = pictures(2)
    other = torch.where(masks(2), 255 - images, images)
    same = torch.equal(inpainted(settings, images=images), inpainted(settings, images=other))
    assert same == hidden


# --- seeds and batches ---


@pytest.mark.parametrize(
    ("name", "eta"), [("PNDMScheduler", 0.0), ("DDIMScheduler", 1.0), ("DDPMScheduler", 0.0)]
)
def test_eight_at_once_are_each_as_alone(name, eta):
    settings = replace(QUICK, eta=eta, num_inference_steps=2)
    seeds = [11, 5, 0, 2**40, 3, 3, 8, 1]
    given = {"images": pictures(8), "masks": masks(8), "exemplars": exemplars(8, 2)}
    given["masks"][2, :, 20:] = False
    together = inpainted(settings, 8, sampler(name), seeds, **given)
    for row in (2, 5):
        alone = {key: value[row : row + 1] for key, value in given.items()}
        found = inpainted(settings, 1, sampler(name), seeds[row : row + 1], **alone)
        torch.testing.assert_close(found[0], together[row], rtol=0, atol=2e-5)


def test_another_seed_is_another_palm_and_the_same_seed_the_same():
    images = pictures(1).expand(3, -1, -1, -1)
    shown = exemplars(1, 2).expand(3, -1, -1)
    found = inpainted(QUICK, 3, seeds=[1, 1, 2], images=images, exemplars=shown)
    assert torch.equal(found[0], found[1])
    assert (found[0] - found[2]).abs().mean() > 0.01


def test_nothing_that_is_given_is_changed_and_no_global_seed_is_used():
    images, covered, shown = pictures(2), masks(2), exemplars(2, 2)
    before, state = [t.clone() for t in (images, covered, shown)], torch.get_rng_state()
    one = inpainted(images=images, masks=covered, exemplars=shown)
    torch.randn(3)
    two = inpainted(images=images, masks=covered, exemplars=shown)
    assert torch.equal(one, two)
    torch.set_rng_state(state)
    for old, new in zip(before, (images, covered, shown), strict=True):
        assert torch.equal(old, new)
    assert one.dtype == torch.float32 and one.shape == (2, 3, SIZE, SIZE)
    assert one.min() >= 0 and one.max() <= 1 and not one.requires_grad


def test_a_unet_of_fewer_digits_gives_nearly_the_same():
    half = fresh().to("cpu", torch.bfloat16)
    given = (pictures(2), masks(2), exemplars(2, 2), [1, 2], QUICK)
    found = inpaint_with_exemplar(half, *given)
    assert found.dtype == torch.float32 and half.vae.dtype == torch.float32
    assert (found - inpaint_with_exemplar(fresh(), *given)).abs().mean() < 0.02


# --- what is refused ---


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"images": pictures(1)}, r"images: uint8 \[2, 3, H, W\] expected, got torch.uint8 \[1, 3"),
        ({"images": pictures(2).float()}, r"got torch.float32"),
        ({"images": pictures(2, 32, 30), "masks": masks(2, 32, 30)}, "32 × 30 pixels are no mult"),
        ({"masks": masks(2, 32, 36)}, r"masks: bool \[2, 1, 32, 32\] expected, got torch.bool \["),
        ({"masks": masks(2).float()}, r"masks: bool .* got torch.float32"),
        ({"masks": torch.stack([masks()[0], ~masks()[0] & masks()[0]])}, r"in pictures \[1\]"),
        ({"exemplars": exemplars(2)[:, 0]}, rf"exemplars: \[2, E, {WIDTH}\] expected"),
        ({"exemplars": exemplars(2)[:, :0]}, r"exemplars: .* got torch.float32 \[2, 0"),
        ({"exemplars": exemplars(2)[:, :, 1:]}, f"31 numbers each, the UNet takes {WIDTH}"),
        ({"exemplars": exemplars(3)}, r"got torch.float32 \[3, 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        inpainted(**changes)


def test_a_batch_of_none_is_refused():
    with pytest.raises(ValueError, match="one for each picture, got none"):
        inpaint_with_exemplar(model(), pictures(2), masks(2), exemplars(2), [])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"fusion": "sum"}, "fusion: 'sum' is neither mean nor tokens"),
        ({"unmasked": "keep"}, "unmasked: 'keep' is not original, background or free"),
        ({"alpha": 1.1}, r"alpha: 1.1 does not lie in \[0, 1\]"),
        ({"alpha": float("nan")}, "alpha: nan"),
        ({"guidance_scale": 0.5}, "guidance_scale: 0.5 is below 1"),
        ({"num_inference_steps": 0}, "num_inference_steps: 0 is below 1"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        InpaintingSettings(**settings)


def test_the_defaults_are_the_papers():
    assert (PAPER.fusion, PAPER.alpha, PAPER.unmasked) == ("mean", 0.1, "original")
    assert (PAPER.num_inference_steps, PAPER.guidance_scale) == (50, 3.0)
