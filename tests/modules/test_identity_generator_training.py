"""Training of the identity generator: the same whatever is cached, cut or divided."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from generators import TWO, Losses, base_xl, generator, palms, ready, trained, trainer
from lightning.pytorch.callbacks import Callback
from torch.autograd.graph import saved_tensors_hooks

from palmforge.callbacks import CacheLatents
from palmforge.errors import ConfigError
from palmforge.networks.lora import LoraSettings

SGD = partial(torch.optim.SGD, lr=1.0)  # no AdamW: it makes a whole step of a rounding error


def fit(root, folder, module=None, callbacks=(), data=None, **settings):
    """Returns the module and the losses of its steps."""
    module, losses = module or generator(), Losses()
    trainer(None, losses, *callbacks, **settings).fit(module, palms(root, **(data or {})))
    return module, losses.values


@pytest.mark.parametrize("settings", [{}, {"train": "full"}], ids=["lora", "full"])
def test_a_fit_trains_what_it_shall_and_nothing_else(palms_root, tmp_path, settings):
    module = generator(**settings)
    module.configure_model()
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    vae = {n: p.detach().clone() for n, p in module.pipeline.vae.named_parameters()}
    module, losses = fit(palms_root, tmp_path, module)
    moved = {n for n, p in module.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n in before if settings or "lora_" in n}
    assert all(torch.equal(p, vae[n]) for n, p in module.pipeline.vae.named_parameters())
    assert not any("vae" in n for n in before)
    assert len(losses) == 4 and torch.tensor(losses).isfinite().all()


@pytest.mark.parametrize("settings", [
    {"prediction_type": "epsilon", "noise_offset": 0.1},
    {"prediction_type": "v_prediction", "zero_terminal_snr": True},
    {"min_snr_gamma": None, "input_perturbation": 0.1},
    {"lora": LoraSettings(rank=2, use_dora=True)},
    {"lora": LoraSettings(rank=2, init="pissa", text_encoder=True)},
    {"optimizer": partial(torch.optim.SGD, lr=0.1), "lr_schedule": "linear"},
])  # fmt: skip
def test_its_settings_train(palms_root, tmp_path, settings):
    module, losses = fit(palms_root, tmp_path, generator(**settings), max_steps=2)
    assert len(losses) == 2 and torch.tensor(losses).isfinite().all()
    if "text_encoder" in str(settings.get("lora")) and settings["lora"].text_encoder:
        assert any("text_encoders.0" in name for name in trained(module))


def test_xl_trains_with_pooled_words(palms_root, tmp_path):
    module, losses = fit(
        palms_root, tmp_path, generator(pretrained_model_name_or_path=base_xl()),
        [CacheLatents(str(tmp_path))],
    )  # fmt: skip
    _, without = fit(
        palms_root, tmp_path, generator(pretrained_model_name_or_path=base_xl())
    )  # fmt: skip
    assert losses == pytest.approx(without, rel=1e-5)
    assert module.sample(["a left palm"], [1]).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    "settings", [{"train": "full"}, {"lora": LoraSettings(rank=2, text_encoder=True)}]
)
def test_text_encoders_of_xl_train_on_two_processes(palms_root, tmp_path, settings):
    """The first one's last layer is not read: DDP would wait for its gradients."""
    module = generator(pretrained_model_name_or_path=base_xl(), **settings)
    fit(palms_root, tmp_path, module, [Keep(tmp_path)], max_steps=2, **TWO)
    kept = torch.load(tmp_path / "kept.pt", weights_only=True)
    assert len(kept["losses"]) == 2
    assert {name.split(".")[1] for name in kept["weights"] if "text_encoders" in name} == {"0", "1"}


def test_kept_latents_and_words_give_the_losses_of_computed_ones(palms_root, tmp_path):
    data = {"augmentation": "mild", "augmented_views": 2, "caption_dropout": 0.5}
    settings = {"data": data, "limit_val_batches": 1, "val_check_interval": 2}
    one, computed = fit(palms_root, tmp_path, generator(optimizer=SGD), **settings)
    two, kept = fit(
        palms_root, tmp_path, generator(optimizer=SGD), [CacheLatents(str(tmp_path))], **settings
    )
    _, again = fit(
        palms_root, tmp_path, generator(optimizer=SGD), [CacheLatents(str(tmp_path))], **settings
    )
    assert kept == pytest.approx(computed, rel=1e-5)
    assert again == kept
    torch.testing.assert_close(trained(one), trained(two), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        one.trainer.callback_metrics["val/loss"], two.trainer.callback_metrics["val/loss"]
    )


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


@pytest.mark.parametrize(("cached", "text"), [(True, False), (False, True)])
def test_two_processes_give_the_losses_and_weights_of_one(palms_root, tmp_path, cached, text):
    lora = LoraSettings(rank=4, alpha=4.0, text_encoder=text)
    found = []
    for name, settings in (("one", {}), ("two", TWO)):
        folder = tmp_path / name
        folder.mkdir()
        callbacks = [Keep(folder), *([CacheLatents(str(folder))] if cached else [])]
        fit(
            palms_root, folder, generator(optimizer=SGD, lora=lora), callbacks,
            limit_val_batches=1.0, val_check_interval=2, max_steps=2, **settings,
        )  # fmt: skip
        found.append(torch.load(folder / "kept.pt", weights_only=True))
    one, two = found
    assert one["losses"] == pytest.approx(two["losses"], rel=1e-5)
    assert one["metrics"]["val/loss"] == pytest.approx(two["metrics"]["val/loss"], rel=1e-5)
    assert one["metrics"]["train/grad_norm"] == pytest.approx(
        two["metrics"]["train/grad_norm"], rel=1e-4
    )
    torch.testing.assert_close(one["weights"], two["weights"], rtol=1e-4, atol=1e-6)


def test_frozen_weights_are_bfloat16_under_mixed_precision_and_every_entry_moves(
    palms_root, tmp_path
):
    """Adapters in bf16 would stand still: an update of 1e-4 is below half a step of theirs."""
    module = generator(optimizer=partial(torch.optim.AdamW, lr=1e-4), lr_schedule="constant")
    module.load_pretrained(resuming=False)  # as the CLI does, before there is a trainer
    before = trained(module)
    fit(
        palms_root, tmp_path, module, [CacheLatents(str(tmp_path))], precision="bf16-mixed",
        max_steps=100,
    )  # fmt: skip
    frozen = {p.dtype for p in module.parameters() if not p.requires_grad}
    assert frozen == {torch.bfloat16}
    after = trained(module)
    assert {p.dtype for p in after.values()} == {torch.float32}
    still = [(after[n] == before[n]).float().mean().item() for n in after if "lora_A" in n]
    assert max(still) == 0.0
    assert module.sample(["a left palm"], [1]).float().std() > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_dtype_of_what_is_frozen_can_be_told(palms_root, tmp_path, dtype):
    module, _ = fit(
        palms_root, tmp_path, generator(frozen_dtype=dtype), max_steps=1, precision="bf16-mixed"
    )
    frozen = {p.dtype for p in module.parameters() if not p.requires_grad}
    assert frozen == {getattr(torch, dtype)}


def test_dropout_of_the_adapter_is_on_in_training_and_after_a_sample(palms_root, tmp_path):
    module = generator(lora=LoraSettings(rank=4, dropout=0.5))

    class Look(Callback):
        modes: list[bool] = []  # noqa: RUF012

        def on_train_batch_start(self, trainer, pl_module, *args):
            drops = [m for n, m in pl_module.unet.named_modules() if n.endswith("lora_dropout")]
            self.modes.append(all(m.training for m in drops) and bool(drops))

        def on_validation_epoch_end(self, trainer, pl_module):
            pl_module.sample(["a palm"], [1])

    fit(palms_root, tmp_path, module, [Look()], val_check_interval=2, limit_val_batches=1)
    assert Look.modes == [True] * 4


def test_gradients_are_clipped_and_their_norm_is_logged(palms_root, tmp_path):
    norms = Losses("train/grad_norm")

    class Before(Callback):
        clipped: list[float] = []  # noqa: RUF012

        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
            if grads:
                self.clipped.append(float(torch.nn.utils.get_total_norm(grads)))

    module = ready(optimizer=SGD, min_snr_gamma=None)
    fit(palms_root, tmp_path, module, [norms, Before()], gradient_clip_val=1e-3)
    assert min(norms.values) > 0.01
    assert Before.clipped == pytest.approx([1e-3] * len(Before.clipped), rel=1e-2)


def _gradients(**settings) -> tuple[dict[str, torch.Tensor], int]:
    module = ready(**settings)
    batch = {
        "mean": torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
        "sd": torch.zeros(2, 4, 8, 8), "seed": torch.tensor([1, 2]), "prompt": ["a palm", ""],
    }  # fmt: skip
    kept = 0

    def count(tensor):
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    module.log = lambda *args, **kwargs: None
    with saved_tensors_hooks(count, lambda tensor: tensor):
        loss = module.training_step(batch, 0)
    loss.backward()
    return {n: p.grad for n, p in module.named_parameters() if p.requires_grad}, kept


def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradients():
    plain, all_kept = _gradients()
    less, few = _gradients(gradient_checkpointing=True)
    torch.testing.assert_close(plain, less, rtol=1e-5, atol=1e-7)
    assert few < 0.5 * all_kept


@pytest.mark.parametrize(
    ("settings", "data", "reason"),
    [
        ({"lora": LoraSettings(text_encoder=True)}, {}, "the text encoder is trained"),
        ({"train": "full"}, {}, "the text encoder is trained"),
        ({}, {"augmentation": "mild", "augmented_views": None}, "new view"),
    ],
)
def test_a_cache_that_cannot_be_is_refused_with_the_reason(
    palms_root, tmp_path, settings, data, reason
):
    cache = CacheLatents(str(tmp_path / "cache"), enabled=True)
    with pytest.raises(ConfigError, match=rf"CacheLatents\.enabled.*{reason}"):
        fit(palms_root, tmp_path, generator(**settings), [cache], data)
