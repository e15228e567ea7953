"""The autoencoder of a small Stable Diffusion."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL
from generators import SIZE, SIZES, TWO, Losses, trainer
from runs import load

from palmforge.callbacks import LastCheckpoint
from palmforge.data.datamodule import PalmDataModule
from palmforge.data.roi_cache import RoiSettings
from palmforge.errors import CheckpointError
from palmforge.modules.palm_autoencoder import PalmAutoencoder, load_autoencoder


def data(root) -> PalmDataModule:
    return PalmDataModule(
        root=root, cache_dir=str(root) + "/../roi_cache", image_size=SIZE,
        roi=RoiSettings(size=40), protocol="open_set", fractions=(0.5, 0.25, 0.25),
        domains=["IF"], augmentation="none", identities_per_batch=4, images_per_identity=1,
        eval_batch_size=4, num_workers=0,
    )  # fmt: skip


def fit(root, folder, **settings):
    torch.manual_seed(0)
    module, losses = PalmAutoencoder(SIZES, SIZE, warmup_steps=2, lr=5e-3), Losses("train/loss")
    own = {"limit_val_batches": 1.0, "val_check_interval": 1, "check_val_every_n_epoch": None}
    one = trainer(None, losses, LastCheckpoint(), default_root_dir=folder, **{**own, **settings})
    one.fit(module, data(root))
    return module, losses.values, folder / "checkpoints" / "last.ckpt"


def test_it_learns_and_is_exported_with_the_scale_of_its_latents(palms_root, tmp_path):
    module, losses, path = fit(palms_root, tmp_path, max_steps=30, val_check_interval=30)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert module.trainer.callback_metrics["val/psnr"] > 10
    with pytest.raises(CheckpointError, match=r"before its first validation.*best\.ckpt"):
        load_autoencoder(str(path)).export(tmp_path / "no")  # of step 30, as the validation
    module.trainer.save_checkpoint(path)
    load_autoencoder(str(path)).export(tmp_path / "vae")
    vae = AutoencoderKL.from_pretrained(tmp_path / "vae")
    palms = data(palms_root)
    palms.setup("fit")
    images = torch.stack([palms.val[i]["image"] for i in range(len(palms.val))])
    with torch.no_grad():
        latents = vae.encode(images / 127.5 - 1).latent_dist.mean
    rms = latents.square().mean().sqrt().item()
    assert vae.config.scaling_factor == pytest.approx(1 / rms, rel=1e-2)  # batches count the same


def test_two_processes_go_on_after_a_validation(palms_root, tmp_path):
    """The latents' scale is a buffer, which DDP copies in place."""
    paths = [fit(palms_root, tmp_path / str(len(s)), max_steps=3, **s)[2] for s in ({}, TWO)]
    one, two = (load(path)["state_dict"] for path in paths)
    assert two["latent_sd"] > 0
    torch.testing.assert_close(one["latent_sd"], two["latent_sd"], rtol=0.1, atol=0.0)
