"""The autoencoder of a small Stable Diffusion, trained on palms."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor
from torchmetrics.image import PeakSignalNoiseRatio

from palmforge.errors import CheckpointError, ConfigError
from palmforge.losses.reconstruction import edge_loss, gaussian_kl, tone_loss
from palmforge.modules.checkpoint_files import load_module
from palmforge.modules.draws import normal_like
from palmforge.modules.schedule import Schedule, scheduled_adamw
from palmforge.networks.autoencoder_start import start_as_thumbnail
from palmforge.networks.preparation import as_signed
from palmforge.networks.stable_diffusion import TinyStableDiffusion, tiny_autoencoder


class PalmAutoencoder(L.LightningModule):
    """`AutoencoderKL` from a config: L1 of pixels, slopes and tones, and a little KL.

    Latent diffusion's own recipe (Rombach et al. 2022, appendix G) with slopes and tones in place
    of its perceptual and adversarial losses, which need a pretrained network.

    Args:
        sizes: Of the stack that it is for.
        image_size: Side of the pictures; linked from the data.
        edge_weight: Of the slopes' L1.
        tone_weight: Of the L1 of colours of 8 × 8 pixels.
        kl_weight: Of the KL term; small, so that latents keep their detail.
        lr: Peak learning rate of AdamW.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it.
        start: `random` weights, or `thumbnail`: three of the latents are the picture's colours
            before the first step (`start_as_thumbnail`; `sizes.vae_norm_groups: 1`).
    """

    def __init__(
        self,
        sizes: TinyStableDiffusion = TinyStableDiffusion(),  # noqa: B008  (frozen)
        image_size: int = 64,
        edge_weight: float = 1.0,
        tone_weight: float = 2.0,
        kl_weight: float = 1e-5,
        lr: float = 2e-3,
        warmup_steps: int = 100,
        lr_schedule: Schedule = "cosine",
        start: Literal["random", "thumbnail"] = "random",
    ) -> None:
        super().__init__()
        self.architecture = {"sizes": asdict(sizes), "image_size": image_size}
        self.edge_weight = edge_weight
        self.tone_weight = tone_weight
        self.kl_weight = kl_weight
        self.lr = lr
        self.warmup_steps = warmup_steps
        self.lr_schedule = lr_schedule
        self.vae = tiny_autoencoder(sizes, image_size)
        if start == "thumbnail":
            if sizes.vae_norm_groups != 1 or sizes.latent_channels < 3:
                raise ConfigError(
                    "model.start: a thumbnail needs sizes.vae_norm_groups: 1 and three latents"
                )
            start_as_thumbnail(self.vae)
        self.val_psnr = PeakSignalNoiseRatio(data_range=1.0)
        # Of the latents of the last validation: their scale is for the UNet to be told. 0: unknown.
        self.register_buffer("latent_sd", torch.zeros(()))
        self._spread: list[Tensor] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """L = L1 + w_e · slopes + w_t · tones + w_KL · KL, on pictures in [-1, 1]."""
        images = as_signed(batch["image"])
        posterior = self.vae.encode(images).latent_dist
        mean, sd = posterior.mean.float(), posterior.std.float()
        latents = mean + sd * normal_like(mean, batch["seed"])
        made = self.vae.decode(latents).sample.float()
        losses = {
            "pixel_loss": (made - images).abs().mean(),
            "edge_loss": self.edge_weight * edge_loss(made, images),
            "tone_loss": self.tone_weight * tone_loss(made, images),
            "kl_loss": self.kl_weight * gaussian_kl(mean, sd),
        }
        for name, value in losses.items():
            self.log(f"train/{name}", value.detach(), sync_dist=True)
        total = torch.stack(list(losses.values())).sum()
        self.log("train/loss", total.detach(), sync_dist=True)
        return total

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """PSNR of what comes back from the posterior's mean."""
        images = as_signed(batch["image"])
        latents = self.vae.encode(images).latent_dist.mean
        made = self.vae.decode(latents).sample.float().clamp(-1, 1)
        self.val_psnr.update(made / 2 + 0.5, images / 2 + 0.5)
        self._spread.append(latents.float().square().mean())
        self.log("val/psnr", self.val_psnr, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        """The latents' root mean square, over all processes."""
        mean = torch.as_tensor(self.all_gather(torch.stack(self._spread).mean())).mean()
        self.latent_sd = mean.sqrt()
        self._spread.clear()
        self.log("val/latent_sd", self.latent_sd, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW with a warm-up and a decay."""
        total = int(self.trainer.estimated_stepping_batches)
        return scheduled_adamw(
            self.vae.parameters(), self.lr, 0.0, self.lr_schedule, self.warmup_steps, total
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What it takes to build it again."""
        checkpoint["network_class"] = type(self).__name__
        checkpoint["architecture"] = self.architecture

    def export(self, directory: Path, half: bool = False) -> None:
        """Writes a folder that `AutoencoderKL.from_pretrained` reads, its scaling factor set.

        Args:
            directory: New.
            half: Weights in float16.

        Raises:
            CheckpointError: If it was saved before its first validation.
        """
        if not self.latent_sd > 0:
            raise CheckpointError(
                "this autoencoder was saved before its first validation: the scale of its latents "
                "is not known. Take best.ckpt, or train on until trainer.val_check_interval"
            )
        self.vae.register_to_config(scaling_factor=round(1 / float(self.latent_sd), 5))
        (self.vae.half() if half else self.vae).save_pretrained(directory)


def load_autoencoder(path: str, averaged: bool = True) -> PalmAutoencoder:
    """The autoencoder of a checkpoint.

    Args:
        path: A `.ckpt` of `PalmAutoencoder`.
        averaged: The averages of `WeightEMA`, where it was trained with that.

    Raises:
        CheckpointError: If it is missing, unsafe, or of another model.
    """
    return load_module(PalmAutoencoder, path, averaged, sizes=TinyStableDiffusion)
