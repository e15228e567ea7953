"""Training of the ControlNet: what learns of what, the same whatever is cached, cut or divided."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from controlnets import batch, captures, controlnet, quiet, ready
from generators import TWO, Losses, trained, trainer
from lightning.pytorch.callbacks import Callback
from runs import assert_same_bits, in_a_process, kill_at_step, load
from torch.autograd.graph import saved_tensors_hooks

from palmforge.callbacks import CacheLatents, LastCheckpoint, WeightEMA
from palmforge.errors import ConfigError

SGD = partial(torch.optim.SGD, lr=0.1)  # no AdamW: it makes a whole step of a rounding error
TOLD = {"conditions": ("lines", "embedding"), "num_tokens": 2}
DIAL = {**TOLD, "similarity_weight": 0.05, "identity_weight": 0.1, "embedding_dropout": 0.2}
DROPS = {"caption_dropout": 0.2, "control_dropout": 0.2, "both_dropout": 0.2}


def gradients(module, parts: dict | None = None) -> dict[str, torch.Tensor]:
    module.training_step(batch(**(parts or {})), 0).backward()
    return {n: p.grad for n, p in module.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("settings", [
    {}, {"conditions": ("reference", "lines"), "line_mode": "binary"}, DIAL,
], ids=["lines", "both", "dial"])  # fmt: skip
def test_every_trained_weight_learns_and_nothing_else(settings):
    module = quiet(ready(**settings))
    found = gradients(module)
    assert all(grad is not None and grad.isfinite().all() for grad in found.values())
    assert {name.split(".")[0] for name in found} == {"controlnet"} | (
        {"conditions"} if "embedding" in module.condition_names else set()
    )
    still = [name for name, grad in found.items() if not grad.abs().max() > 0]
    assert not still
    assert all(p.grad is None for p in module.unet.parameters())
    assert not any("_judge" in name or "vae" in name for name in module.state_dict())


def test_the_similarity_loss_reaches_controlnet_and_tokens_and_not_the_recogniser():
    module = quiet(ready(**TOLD, similarity_weight=1.0))
    judge = module._judge[0]
    before = [p.clone() for p in (*judge.parameters(), *judge.buffers())]
    told = module._told(module.encoded(batch()), training=True)
    samples = module._predictor(told)(told["mean"], torch.tensor([5, 900]))
    terms = module._judged(samples, told, torch.tensor([5, 900]))
    assert terms.keys() == {"similarity_loss"}
    terms["similarity_loss"].backward()
    for part in (module.controlnet, module.conditions.tokens, module.conditions.similarity):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert not judge.training and all(p.grad is None for p in judge.parameters())
    after = (*judge.parameters(), *judge.buffers())
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_what_is_not_shown_need_not_be_kept():
    module = quiet(ready(**TOLD, similarity_weight=1.0, identity_weight=1.0))
    told = module._told(module.encoded(batch(keep_control=torch.zeros(2))), training=True)
    assert not told["control"].any()
    samples = torch.randn(2, 4, 8, 8)
    terms = module._judged(samples, told, torch.tensor([5, 900]))
    assert all(term == 0 for term in terms.values())


def test_m_is_drawn_from_the_grid_by_the_samples_seed():
    module = quiet(ready(**TOLD, similarity_weight=1.0))
    seeds = torch.arange(16)
    parts = batch(16, seed=seeds)
    drawn = module._told(parts, training=True)["similarity"]
    assert len(drawn.unique()) > 8 and drawn.min() < -0.5 and drawn.max() > 0.5
    places = (drawn + 1) / 0.04
    torch.testing.assert_close(places, places.round(), rtol=0, atol=1e-4)
    some = module._told(batch(3, seed=seeds[5:8]), training=True)["similarity"]
    assert torch.equal(some, drawn[5:8])
    assert set(module._told(parts)["similarity"].tolist()) == {1.0}  # validation: the module's


def test_the_identity_loss_brings_a_picture_nearer_to_its_palm():
    """An overfit of two pictures, at low noise."""
    module = quiet(ready(identity_weight=1.0, min_snr_gamma=None))
    parts = module.encoded(batch())
    steps = torch.tensor([50, 50])
    optimizer = torch.optim.Adam(module.controlnet.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        told = module._told(parts, training=True)
        _, samples = module.objective.errors(
            module._predictor(told), parts["mean"], parts["seed"], steps
        )
        loss = module._judged(samples, told, steps)["identity_loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert min(losses[-3:]) < 0.9 * losses[0]


def test_a_recogniser_of_codes_is_refused_and_none_is_loaded_without_need():
    with pytest.raises(ConfigError, match=r"model\.recogniser: .* makes codes, not embeddings"):
        controlnet(recogniser="competitive-code", identity_weight=0.1).configure_model()
    module = controlnet(recogniser="there-is-none")
    module.configure_model()
    assert module._judge == []


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_an_embedding_dropout_out_of_range_is_refused(share):
    with pytest.raises(ConfigError, match=r"model\.embedding_dropout: .* is not in \[0, 1\)"):
        controlnet(embedding_dropout=share)


def test_components_of_the_embedding_are_dropped_while_training_alone():
    module = quiet(ready(**TOLD, embedding_dropout=0.5))
    seeds = torch.arange(30)
    kept = module._kept_components(seeds, torch.zeros(30, 256))
    assert kept.mean() == pytest.approx(0.5, abs=0.02) and set(kept.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(kept[4:6], module._kept_components(seeds[4:6], torch.zeros(2, 256)))
    parts = batch()
    plain, training = (module._told(parts, training=t)["tokens"] for t in (False, True))
    assert not torch.equal(plain, training)
    assert torch.equal(plain, module._told(parts)["tokens"])


class Keep(Callback):
    """What a process of a `ddp_fork` knew, for the test."""

    def __init__(self, folder):
        self.folder = folder

    def on_train_end(self, trainer, pl_module):
        if trainer.global_rank == trainer.world_size - 1:
            losses = next(c.values for c in trainer.callbacks if isinstance(c, Losses))
            kept = {"losses": losses, "weights": trained(pl_module)}
            kept["metrics"] = {k: float(v) for k, v in trainer.callback_metrics.items()}
            torch.save(kept, self.folder / "kept.pt")


# The newer recogniser's gradient at noise moves by 0.5 % with the last bits of a picture.
SMOOTH = {**DIAL, "recogniser": "synthetic-only-v1"}


@pytest.mark.parametrize(("told", "cached"), [({}, False), (SMOOTH, True)])
def test_two_processes_give_the_losses_and_weights_of_one(palms_root, tmp_path, told, cached):
    found = []
    for name, settings in (("one", {}), ("two", TWO)):
        folder = tmp_path / name
        folder.mkdir()
        callbacks = [CacheLatents(str(folder))] if cached else []
        trainer(
            None, Losses(), Keep(folder), *callbacks, max_steps=3, val_check_interval=2,
            limit_val_batches=1.0, **settings,
        ).fit(controlnet(optimizer=SGD, **told), captures(palms_root, **DROPS))  # fmt: skip
        found.append(torch.load(folder / "kept.pt", weights_only=True))
    one, two = found
    assert len(one["losses"]) == 3
    assert one["losses"] == pytest.approx(two["losses"], rel=1e-5)
    assert one["metrics"].keys() == two["metrics"].keys()
    for name in ("val/loss", "train/denoising_loss", "train/grad_norm"):
        assert one["metrics"][name] == pytest.approx(two["metrics"][name], rel=1e-3)
    torch.testing.assert_close(one["weights"], two["weights"], rtol=1e-3, atol=1e-5)


def test_kept_latents_and_words_give_the_losses_of_computed_ones(palms_root, tmp_path):
    found = []
    for callbacks in ([], [CacheLatents(str(tmp_path))]):
        losses = Losses()
        trainer(None, losses, *callbacks, max_steps=3).fit(
            controlnet(optimizer=SGD, identity_weight=0.1), captures(palms_root, **DROPS)
        )
        found.append(losses.values)
    computed, kept = found
    assert kept == pytest.approx(computed, rel=1e-5)


def test_a_run_that_is_killed_ends_with_the_bits_of_one_that_was_not(palms_root, tmp_path):
    def run(name: str, die_at: int | None = None) -> None:
        if die_at is not None:
            kill_at_step(die_at)
        last = tmp_path / name / "checkpoints" / "last.ckpt"
        callbacks = [
            WeightEMA(0.9), LastCheckpoint(every_n_train_steps=2),
            CacheLatents(str(tmp_path / name / "cache")),
        ]  # fmt: skip
        data = captures(palms_root, protocol="first_five", **DROPS)
        trainer(None, *callbacks, default_root_dir=tmp_path / name, max_steps=4).fit(
            controlnet(warmup_steps=2, **DIAL), data,
            ckpt_path=str(last) if last.exists() else None,
        )  # fmt: skip

    run("whole")
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    assert in_a_process(run, "cut", 3) != 0
    assert load(last)["global_step"] == 2
    run("cut")
    whole, cut = load(tmp_path / "whole/checkpoints/last.ckpt"), load(last)
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_same_bits(whole[part], cut[part], part)
    assert_same_bits(whole["callbacks"]["WeightEMA"], cut["callbacks"]["WeightEMA"], "EMA")
    assert {name.split(".")[0] for name in cut["state_dict"]} == {"controlnet", "conditions"}
    assert cut["global_step"] == 4


def kept_bytes(compute) -> tuple[torch.Tensor, int]:
    """What it gives, and how much of it waits for the backward pass."""
    kept = 0

    def count(tensor):
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        return compute(), kept


@pytest.mark.parametrize("settings", [{}, {"identity_weight": 0.1}])
def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradients(settings):
    found = []
    for checkpointing in (False, True):
        module = quiet(ready(gradient_checkpointing=checkpointing, **settings))
        parts = module.encoded(batch())
        loss, kept = kept_bytes(partial(module.training_step, parts, 0))
        loss.backward()
        found.append(({n: p.grad for n, p in module.named_parameters() if p.requires_grad}, kept))
    (plain, all_kept), (less, few) = found
    torch.testing.assert_close(plain, less, rtol=1e-4, atol=1e-6)
    if not settings:  # the recogniser's 10 MiB a sample are the same for any size of picture
        assert few < 0.5 * all_kept


def test_of_the_autoencoder_too_little_is_kept_where_the_recogniser_looks():
    latents = torch.randn(1, 4, 8, 8, requires_grad=True)
    (_, all_kept), (_, few) = (
        kept_bytes(partial(ready(gradient_checkpointing=c).encoders.pictures, latents))
        for c in (False, True)
    )
    assert few < 0.3 * all_kept


def test_frozen_weights_are_bfloat16_under_mixed_precision(palms_root, tmp_path):
    module = controlnet(**DIAL)
    module.load_pretrained(resuming=False)  # as the CLI does
    before = trained(module)
    trainer(None, CacheLatents(str(tmp_path)), precision="bf16-mixed", max_steps=2).fit(
        module, captures(palms_root)
    )
    assert {p.dtype for p in module.unet.parameters()} == {torch.bfloat16}
    after = trained(module)
    assert {p.dtype for p in after.values()} == {torch.float32}
    assert any(not torch.equal(after[n], before[n]) for n in after)
    assert module.sample(["a palm"], [1], batch(1)["reference"]).float().std() > 0
