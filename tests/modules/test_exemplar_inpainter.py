"""Training of exemplar inpainting: what it learns on, what it trains, and what comes of it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from exemplars import SIZE, SIZES, masks, pictures, saved
from generators import TWO, Losses, trained, trainer
from inpainters import batch, hands, inpainter
from runs import assert_same_bits, load

from palmforge.callbacks import LastCheckpoint, WeightEMA
from palmforge.commands.generator_export import export
from palmforge.errors import CheckpointError, ConfigError
from palmforge.losses.diffusion import add_noise
from palmforge.modules.draws import normal_like
from palmforge.modules.exemplar_inpainter import load_inpainter
from palmforge.modules.exemplar_inpainting import InpaintingSettings, inpaint_with_exemplar
from palmforge.modules.objective import NOISE
from palmforge.modules.paint_by_example import PaintByExample, load_paint_by_example

SGD = partial(torch.optim.SGD, lr=0.1)  # no AdamW: it makes a whole step of a rounding error
LORA = {"pretrained_model_name_or_path": saved(), "lora_rank": 2}


@pytest.fixture(scope="module")
def samples(palms_root):
    return batch(palms_root)


def configured(**settings):
    module = inpainter(**settings)
    module.configure_model()
    return module


def fit(root, module=None, *callbacks, data=None, **settings):
    """The module and the losses of its steps."""
    module, losses = module or inpainter(), Losses()
    trainer(None, losses, *callbacks, **settings).fit(module, hands(root, **(data or {})))
    return module, losses.values


# --- what it learns on ---


def test_the_unet_reads_in_training_what_it_reads_in_sampling(monkeypatch):
    """Channel by channel, and the same vector for the same exemplar."""
    encode = PaintByExample.encode
    monkeypatch.setattr(
        PaintByExample, "encode", lambda self, images, noise: encode(self, images, 0 * noise)
    )
    module, seen = configured(pretrained_model_name_or_path=saved(), exemplar_dropout=0.0), []
    forward = module.unet.forward
    monkeypatch.setattr(
        module.unet, "forward", lambda x, t, **more: seen.append((x, more)) or forward(x, t, **more)
    )
    monkeypatch.setattr(module, "log", lambda *a, **k: None)
    images, hidden, exemplars = pictures(2), masks(2), pictures(2, 48, 48, seed=5)
    seeds = torch.tensor([7, 8])
    module.training_step({"image": images, "mask": hidden, "exemplar": exemplars, "seed": seeds}, 0)
    settings = InpaintingSettings(
        alpha=0.0, unmasked="free", guidance_scale=1.0, num_inference_steps=1
    )
    embeddings = module.parts.embed(exemplars[:, None])
    inpaint_with_exemplar(module.parts, images, hidden, embeddings, [7, 8], settings)
    (training, words), (sampling, told) = seen[0], seen[-1]
    assert training.shape == (2, 9, SIZE // 4, SIZE // 4)
    assert torch.equal(training[:, 4:], sampling[:, 4:])
    assert torch.allclose(words["encoder_hidden_states"], told["encoder_hidden_states"], atol=1e-6)
    clean = encode(module.parts, images, torch.zeros(1))
    steps = module.objective.timesteps(seeds)
    noise = normal_like(clean, seeds, NOISE)
    assert torch.allclose(
        training[:, :4], add_noise(clean, noise, module.objective.alphas_cumprod, steps), atol=1e-5
    )


def test_no_pixel_behind_the_mask_reaches_what_the_unet_sees(samples):
    module = configured()
    one = module.prepared(samples)
    changed = torch.where(samples["mask"], 255 - samples["image"], samples["image"])
    other = module.prepared({**samples, "image": changed})
    assert torch.equal(one[1], other[1]) and not torch.equal(one[0], other[0])


def test_a_share_of_exemplars_is_dropped_by_seed(samples):
    module = configured(exemplar_dropout=0.3)
    torch.nn.init.normal_(module.image_encoder.uncond_vector)
    seeds, words = torch.arange(400), torch.zeros(400, 1, SIZES.embedding_dim)
    told = module.dropped(words, seeds)
    gone = (told != 0).any(2).flatten()
    assert 80 < gone.sum() < 160
    assert torch.equal(told[gone], module.image_encoder.uncond_vector.expand_as(told[gone]))
    assert torch.equal(module.dropped(words[:7], seeds[:7]), told[:7])
    none = configured(exemplar_dropout=0.0)
    torch.nn.init.normal_(none.image_encoder.uncond_vector)
    assert (none.dropped(words, seeds) == 0).all()


def test_masked_latents_count_more_and_each_picture_as_much(samples):
    module = configured(mask_weight=4.0)
    weights = module.places(samples)
    assert torch.allclose(weights.mean((1, 2, 3)), torch.ones(2))
    for row, hidden in zip(weights, samples["mask"], strict=True):
        inside = torch.nn.functional.max_pool2d(hidden.float(), 4).bool()
        assert row[inside].unique().item() / row[~inside].unique().item() == pytest.approx(4)
    assert configured(mask_weight=1.0).places(samples) is None
    latents, context, words = module.prepared(samples)
    predict, seeds = module.predictor(context, words), samples["seed"]
    steps = torch.tensor([300, 600])
    plain = module.objective.losses(predict, latents, seeds, steps)
    even = module.objective.losses(predict, latents, seeds, steps, torch.ones(1, 1, 1, 1))
    assert torch.allclose(plain, even)
    assert not torch.allclose(
        plain, module.objective.losses(predict, latents, seeds, steps, weights), rtol=1e-3
    )


# --- training ---


@pytest.mark.parametrize("settings", [
    {"prediction_type": "v_prediction", "min_snr_gamma": 5.0, "mask_weight": 4.0},
    {"gradient_checkpointing": True},
])  # fmt: skip
def test_the_loss_falls_on_one_batch(samples, monkeypatch, settings):
    module = configured(exemplar_dropout=0.0, **settings)
    monkeypatch.setattr(module, "log", lambda *a, **k: None)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(25):
        loss = module.training_step(samples, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])


def test_from_nothing_all_but_the_autoencoder_is_trained(palms_root):
    module = configured(exemplar_dropout=0.5)
    before = trained(module)
    vae = {n: p.clone() for n, p in module.parts.vae.named_parameters()}
    module, losses = fit(palms_root, module)
    assert len(losses) == 4 and torch.tensor(losses).isfinite().all()
    still = {n for n, p in module.named_parameters() if torch.equal(p, before[n])}
    # One token leaves nothing to choose: what asks and what is asked for it has no gradient.
    assert all("to_q" in n or "to_k" in n or "q_proj" in n for n in still), still
    assert all(torch.equal(p, vae[n]) for n, p in module.parts.vae.named_parameters())
    assert not any("vae" in name for name in before)


def test_of_a_pretrained_one_clip_stays_as_it_is(palms_root):
    module = configured(pretrained_model_name_or_path=saved())
    names = {n.removeprefix("image_encoder.") for n in trained(module) if "image_encoder" in n}
    assert {n.split(".")[0] for n in names} == {
        "mapper", "final_layer_norm", "proj_out", "uncond_vector"
    }  # fmt: skip


def test_a_lora_trains_itself_and_nothing_else(palms_root):
    module = configured(**LORA, optimizer=SGD)
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    module, _ = fit(palms_root, module)
    moved = {n for n, p in module.named_parameters() if not torch.equal(p, before[n])}
    assert moved and all("lora_" in name for name in moved)
    assert set(trained(module)) == {n for n in before if "lora_" in n}


def test_validation_is_the_same_at_any_time_and_for_any_batch_size(palms_root):
    found = []
    for size in (2, 3):
        module = inpainter(optimizer=partial(torch.optim.SGD, lr=0.0))
        one = trainer(None, limit_val_batches=1.0, max_steps=1)
        one.validate(module, hands(palms_root, eval_batch_size=size), verbose=False)
        found.append(one.callback_metrics["val/loss"].item())
    assert found[0] == pytest.approx(found[1], rel=1e-4)


def test_two_processes_give_the_weights_of_one(palms_root, tmp_path):
    def run(name, **settings):
        folder = tmp_path / name
        module = inpainter(optimizer=SGD)
        keep = LastCheckpoint()
        one = trainer(folder, keep, max_steps=2, **settings)
        one.fit(module, hands(palms_root))
        return load(folder / "checkpoints" / "last.ckpt")["state_dict"]

    one, two = run("one"), run("two", **TWO)
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[name], two[name], atol=2e-5) for name in one)


# --- files ---


@pytest.mark.parametrize("settings", [{}, LORA], ids=["full", "lora"])
def test_a_resumed_run_ends_with_the_same_bits(palms_root, tmp_path, settings):
    def run(name, steps, resume=None, **more):
        one = trainer(tmp_path / name, LastCheckpoint(), WeightEMA(), max_steps=steps, **more)
        one.fit(inpainter(**settings), hands(palms_root), ckpt_path=resume)
        return tmp_path / name / "checkpoints" / "last.ckpt"

    whole = run("whole", 5)
    short = run("short", 3)
    resumed = run("more", 5, str(short))
    for part in ("state_dict", "optimizer_states", "callbacks"):
        one, other = load(whole)[part], load(resumed)[part]
        if part == "callbacks":
            one, other = one["WeightEMA"], other["WeightEMA"]
        assert_same_bits(one, other, part)
    assert all(("lora_" in name) == bool(settings) for name in load(whole)["state_dict"])


@pytest.mark.parametrize("settings", [{}, LORA], ids=["full", "lora"])
def test_an_exported_one_predicts_what_the_trained_one_did(palms_root, samples, tmp_path, settings):
    keep = LastCheckpoint()
    optimizer = partial(torch.optim.SGD, lr=0.5)
    one = trainer(tmp_path, keep, WeightEMA(decay=0.5, warmup=False), max_steps=3)
    module = inpainter(optimizer=optimizer, **settings)
    one.fit(module, hands(palms_root))
    path = str(tmp_path / "checkpoints" / "last.ckpt")
    made = {}
    for averaged in (True, False):
        folder = tmp_path / f"exported-{averaged}"
        export(path, str(folder), half=False, averaged=averaged)
        parts = load_paint_by_example(str(folder))
        made[averaged] = _prediction(parts, samples)
        assert torch.allclose(
            made[averaged], _prediction(load_inpainter(path, averaged).parts, samples), atol=1e-5
        )
    assert torch.allclose(made[False], _prediction(module.parts, samples), atol=1e-5)
    assert not torch.allclose(made[True], made[False], atol=1e-4)
    export(path, str(tmp_path / "half"))
    half = load_paint_by_example(str(tmp_path / "half"))
    assert torch.allclose(_prediction(half, samples), made[True], atol=2e-2)
    sizes = [
        sum(f.stat().st_size for f in (tmp_path / n).rglob("*.safetensors"))
        for n in ("half", "exported-True")
    ]
    assert sizes[0] < 0.6 * sizes[1]


@torch.no_grad()
def _prediction(parts, samples):
    parts.unet.eval()
    embeddings = parts.embed(samples["exemplar"][:, None])
    context = torch.linspace(-1, 1, 2 * 9 * 64).view(2, 9, 8, 8)
    return parts.unet(context, torch.tensor([100, 500]), encoder_hidden_states=embeddings).sample


def test_another_autoencoder_takes_the_place_of_its_own(tmp_path):
    module = configured(pretrained_vae_model_name_or_path=f"{saved()}/vae")
    assert module.parts.vae.config.scaling_factor == 0.18215
    with pytest.raises(CheckpointError, match=r"pretrained_vae.*paint_by_example_vae_tiny\.yaml"):
        configured(pretrained_vae_model_name_or_path=str(tmp_path))


# --- what is wrong ---


@pytest.mark.parametrize(("settings", "error", "message"), [
    ({"exemplar_dropout": 1.0}, ConfigError, "exemplar_dropout"),
    ({"mask_weight": 0.0}, ConfigError, "mask_weight"),
    ({"lora_rank": 4}, ConfigError, "give model.pretrained_model_name_or_path"),
    ({**LORA, "lora_rank": 0}, ConfigError, "rank >= 1"),
    ({"image_size": 36}, ConfigError, r"data\.image_size: 36 is no multiple of 8"),
    ({"prediction_type": "noise"}, ConfigError, "prediction_type"),
    ({"pretrained_model_name_or_path": "/nowhere/at/all"}, CheckpointError, "not a folder here"),
    ({"sizes": SIZES.__class__(latent_channels=3), "pretrained_vae_model_name_or_path":
      f"{saved()}/vae"}, CheckpointError, "must take 9, and takes 7"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused_by_name(settings, error, message):
    with pytest.raises(error, match=message):
        configured(**settings)


def test_a_precision_that_would_lose_updates_is_refused(palms_root):
    with pytest.raises(ConfigError, match="Take bf16-mixed"):
        fit(palms_root, precision="bf16-true")


def test_a_checkpoint_of_another_rank_is_refused(palms_root, tmp_path):
    one = trainer(tmp_path, LastCheckpoint(), max_steps=1)
    one.fit(inpainter(**LORA), hands(palms_root))
    path = str(tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"another model\.lora_rank"):
        trainer(None).fit(inpainter(**{**LORA, "lora_rank": 4}), hands(palms_root), ckpt_path=path)
