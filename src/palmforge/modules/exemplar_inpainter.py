"""Training of exemplar inpainting: Paint-by-Example (Yang et al. 2023) on hands."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import AdamW

from palmforge.errors import CheckpointError, ConfigError, first_line
from palmforge.modules.checkpoint_files import load_module
from palmforge.modules.draws import generators, normal_like
from palmforge.modules.exemplar_inpainting import masked_latents, with_mask, without_masked
from palmforge.modules.objective import POSTERIOR, Objective
from palmforge.modules.paint_by_example import (
    PaintByExample,
    load_paint_by_example,
    save_paint_by_example,
    tiny_paint_by_example,
)
from palmforge.modules.schedule import Schedule
from palmforge.modules.trained_part import Batch, TrainedPart
from palmforge.networks.gradient_checkpointing import checkpoint_blocks
from palmforge.networks.lora import LoraSettings, add_lora
from palmforge.networks.paint_by_example import TinyPaintByExample

_DROPOUT = 16  # stream of a sample's draws; those of `Objective` come before
_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
# Of the encoder; CLIP before them stays as it is (Yang et al. 2023, §3.2).
_TRAINED_OF_ENCODER = ("mapper.", "final_layer_norm.", "proj_out.", "uncond_vector")


class ExemplarInpainter(TrainedPart):
    """A UNet that paints what a mask hides, told by one vector of what an exemplar shows.

    Self-supervised: the exemplar is a changed crop of what is hidden, and the picture itself is
    what shall come out. Trained are the UNet and the encoder after CLIP; of one with random weights
    CLIP too; with `lora_rank` an adapter of the UNet's attention and nothing else. The autoencoder
    stays frozen. `train.py generator export` writes what `Deidentifier` loads.

    Noise, timesteps and dropped exemplars come from each sample's seed: they are the same for any
    number of processes. Checkpoints hold what is trained alone.

    Args:
        pretrained_model_name_or_path: A Paint-by-Example to go on from: a hub id, a folder in its
            layout, `embedded`; null: one of `sizes` with random weights.
        pretrained_vae_model_name_or_path: An autoencoder in place of its own: a folder that
            `AutoencoderKL.from_pretrained` reads.
        revision: Of the hub's repository.
        sizes: Of the one with random weights.
        image_size: Side of the pictures in pixels; linked from the data.
        lora_rank: Rank of a LoRA; null: everything named above is trained.
        lora_alpha: Its scale is alpha / rank; null: 1.
        exemplar_dropout: Share of samples that see the learned vector for no exemplar in place of
            theirs, for classifier-free guidance; the paper's is 0.2.
        mask_weight: How much the error of a masked latent counts; one that is seen counts 1. The
            paper's is 1: but what is seen is given to the UNet as it is and pasted over in the end,
            and a palm's mask covers an eighth of a picture, so that in a short training most of the
            gradient would go into copying.
        prediction_type: `epsilon`, `v_prediction` or `sample`; null: as the model's scheduler says.
        min_snr_gamma: γ of min-SNR weights (Hang et al. 2023); null: every noise level counts 1.
        gradient_checkpointing: Less memory, a third more time.
        optimizer: Class and arguments, its learning rate the peak.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it.
    """

    adapter_setting = "model.lora_rank"

    def __init__(
        self,
        pretrained_model_name_or_path: str | None = None,
        pretrained_vae_model_name_or_path: str | None = None,
        revision: str | None = None,
        sizes: TinyPaintByExample = TinyPaintByExample(),  # noqa: B008  (frozen)
        image_size: int = 512,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        exemplar_dropout: float = 0.2,
        mask_weight: float = 1.0,
        prediction_type: str | None = None,
        min_snr_gamma: float | None = None,
        gradient_checkpointing: bool = False,
        optimizer: OptimizerCallable = lambda p: AdamW(p, lr=1e-5),
        warmup_steps: int = 100,
        lr_schedule: Schedule = "cosine",
    ) -> None:
        super().__init__(optimizer, warmup_steps, lr_schedule)
        if not 0 <= exemplar_dropout < 1:
            raise ConfigError(f"model.exemplar_dropout: {exemplar_dropout} is not in [0, 1)")
        if not mask_weight > 0:
            raise ConfigError(f"model.mask_weight: {mask_weight} is not above 0")
        if lora_rank is not None and pretrained_model_name_or_path is None:
            raise ConfigError(
                "model.lora_rank: a LoRA is laid over what has been trained; give "
                "model.pretrained_model_name_or_path"
            )
        self.pretrained_model_name_or_path = pretrained_model_name_or_path
        self.pretrained_vae_model_name_or_path = pretrained_vae_model_name_or_path
        self.revision = revision
        self.sizes = sizes
        self.image_size = image_size
        self.lora_rank = lora_rank
        self.lora_alpha = lora_alpha
        self.exemplar_dropout = exemplar_dropout
        self.mask_weight = mask_weight
        self.prediction_type = prediction_type
        self.min_snr_gamma = min_snr_gamma
        self.gradient_checkpointing = gradient_checkpointing
        # No submodule as a whole: the autoencoder is in no checkpoint, and always float32.
        self.parts: PaintByExample | None = None

    def architecture(self) -> dict[str, Any]:
        """Constructor arguments, in plain types, from which a checkpoint can be used again."""
        return {
            "pretrained_model_name_or_path": self.pretrained_model_name_or_path,
            "pretrained_vae_model_name_or_path": self.pretrained_vae_model_name_or_path,
            "revision": self.revision,
            "sizes": asdict(self.sizes),
            "image_size": self.image_size,
            "lora_rank": self.lora_rank,
            "lora_alpha": self.lora_alpha,
            "prediction_type": self.prediction_type,
        }

    # --- what it is made of ---

    def configure_model(self) -> None:
        """Loads the parts and chooses what is trained; once.

        Raises:
            ConfigError: A size or precision that the parts do not take.
            CheckpointError: If a part cannot be had, or they do not fit together.
        """
        precision = self._trainer.precision if self._trainer is not None else _PRECISIONS[0]
        if precision not in _PRECISIONS:
            raise ConfigError(
                f"trainer.precision: {precision} would train in that precision, and most updates "
                "of its weights are lost in rounding. Take bf16-mixed"
            )
        if self.parts is not None:
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # a small one from configs is the same in every process
            self.parts = self._load()
            self._choose_trained(self.parts)
        self.unet = self.parts.unet.train()
        self.image_encoder = self.parts.image_encoder.train()

    def _load(self) -> PaintByExample:
        name = self.pretrained_model_name_or_path
        if name is None:
            parts = tiny_paint_by_example(self.sizes, self.image_size)
        else:
            parts = load_paint_by_example(name, self.revision)
        if self.pretrained_vae_model_name_or_path is not None:
            parts = replace(parts, vae=_autoencoder(self.pretrained_vae_model_name_or_path))
        latents, taken = parts.vae.config.latent_channels, parts.unet.config.in_channels
        if taken != 2 * latents + 1:
            raise CheckpointError(
                f"model: the autoencoder gives {latents} latent channels, so the UNet must take "
                f"{2 * latents + 1}, and takes {taken}. See pretrained_vae_model_name_or_path and "
                "sizes.latent_channels"
            )
        multiple = parts.vae_scale_factor * 2 ** (len(parts.unet.config.block_out_channels) - 1)
        if self.image_size % multiple:
            raise ConfigError(f"data.image_size: {self.image_size} is no multiple of {multiple}")
        changes = {} if self.prediction_type is None else {"prediction_type": self.prediction_type}
        scheduler = type(parts.scheduler).from_config(parts.scheduler.config, **changes)
        self.objective = Objective(
            scheduler.config.prediction_type, scheduler.alphas_cumprod.float(), self.min_snr_gamma
        )
        return replace(parts, scheduler=scheduler)

    def _choose_trained(self, parts: PaintByExample) -> None:
        if self.lora_rank is not None:
            alpha = self.lora_rank if self.lora_alpha is None else self.lora_alpha
            settings = LoraSettings(rank=self.lora_rank, alpha=float(alpha))
            add_lora(parts.unet, settings, settings.target_modules, "model.lora_rank")
        else:
            parts.unet.requires_grad_(True)
            whole = self.pretrained_model_name_or_path is None
            for name, parameter in parts.image_encoder.named_parameters():
                parameter.requires_grad_(whole or name.startswith(_TRAINED_OF_ENCODER))
        if self.gradient_checkpointing:
            checkpoint_blocks(parts.unet)

    # --- training ---

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """‖w · (target − UNet([x_t, z_bg, m], t, c))‖²; t, ε from each sample's seed."""
        latents, context, exemplars = self.prepared(batch)
        words = self.dropped(exemplars, batch["seed"])
        steps = self.objective.timesteps(batch["seed"])
        losses = self.objective.losses(
            self.predictor(context, words), latents, batch["seed"], steps, self.places(batch)
        )
        loss = losses.mean()
        self.log("train/loss", loss.detach(), batch_size=len(latents), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same loss at four fixed noise levels a picture, with fixed noise, none dropped."""
        self._log_loss(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As validation."""
        self._log_loss(batch, "test")

    def prepared(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """What the UNet learns on.

        Returns:
            x_0 `[N, C, h, w]`; z_bg and mask `[N, C + 1, h, w]`; embeddings `[N, 1, D]`.
        """
        assert self.parts is not None
        self.parts.vae.to(self.device)
        images, masks = batch["image"].to(self.device), batch["mask"].to(self.device)
        side = images.shape[-1] // self.parts.vae_scale_factor
        like = images.new_empty(
            (len(images), self.parts.vae.config.latent_channels, side, side), dtype=torch.float32
        )
        # One draw for both, as in sampling: where nothing is masked they are the same.
        noise = normal_like(like, batch["seed"], POSTERIOR)
        with torch.no_grad():
            both = torch.cat([images.float(), without_masked(images, masks)])
            latents, seen = self.parts.encode(both, torch.cat([noise, noise])).chunk(2)
        return latents, with_mask(seen, masks), self._embedded(batch["exemplar"])

    def _embedded(self, exemplars: Tensor) -> Tensor:
        """Exemplars `[N, 3, s, s]` uint8 → `[N, 1, D]`."""
        assert self.parts is not None
        pixels = self.parts.feature_extractor(
            list(exemplars), return_tensors="pt", device=str(self.device)
        ).pixel_values.to(self.device)
        trains = any(p.requires_grad for p in self.image_encoder.parameters())
        with nullcontext() if trains else torch.no_grad():
            embeddings: Tensor = self.image_encoder(pixels)
        return embeddings

    def dropped(self, words: Tensor, seeds: Tensor) -> Tensor:
        """Embeddings `[N, 1, D]`, some of them replaced by the vector for no exemplar."""
        shares = torch.stack([torch.rand((), generator=g) for g in generators(seeds, _DROPOUT)])
        without = (shares < self.exemplar_dropout).to(words.device)[:, None, None]
        return torch.where(without, self.image_encoder.uncond_vector.to(words.dtype), words)

    def places(self, batch: Batch) -> Tensor | None:
        """How much each latent counts, `[N, 1, h, w]`: on average 1 in each picture."""
        assert self.parts is not None
        if self.mask_weight == 1:
            return None
        masked = masked_latents(batch["mask"].to(self.device), self.parts.vae_scale_factor)
        weights = 1 + (self.mask_weight - 1) * masked
        return weights / weights.mean((1, 2, 3), keepdim=True)

    def predictor(self, context: Tensor, words: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """(x_t, t) → what the UNet predicts."""

        def predict(noisy: Tensor, steps: Tensor) -> Tensor:
            read = torch.cat([noisy, context], 1)
            prediction: Tensor = self.unet(read, steps, encoder_hidden_states=words).sample
            return prediction

        return predict

    def _log_loss(self, batch: Batch, split: str) -> None:
        latents, context, words = self.prepared(batch)
        self.log_fixed_loss(
            batch, latents, self.predictor(context, words), split, self.places(batch)
        )

    # --- files ---

    def export(self, directory: Path, half: bool = False) -> None:
        """Writes the published layout, for `Deidentifier`; a LoRA is merged into the UNet.

        Args:
            directory: New or empty.
            half: Weights in float16.
        """
        self.configure_model()
        assert self.parts is not None
        if self.lora_rank is not None:
            self.unet.fuse_lora()
            self.unet.unload_lora()
        if half:
            for network in (self.parts.unet, self.parts.vae, self.parts.image_encoder):
                network.half()
        save_paint_by_example(self.parts, str(directory))


def _autoencoder(path: str) -> Any:
    from diffusers import AutoencoderKL

    try:
        vae: Any = AutoencoderKL.from_pretrained(path, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"model.pretrained_vae_model_name_or_path: {path!r} cannot be read "
            f"({first_line(error)}). Train one with configs/experiment/"
            "paint_by_example_vae_tiny.yaml, and export it: train.py generator export CKPT FOLDER"
        ) from error
    return vae.requires_grad_(False).eval()


def load_inpainter(path: str, averaged: bool = True) -> ExemplarInpainter:
    """The inpainter of a checkpoint, for export.

    Args:
        path: A `.ckpt` of `ExemplarInpainter`.
        averaged: The averages of `WeightEMA`, where it was trained with that.

    Raises:
        CheckpointError: If it is missing, unsafe, or of another model.
    """
    return load_module(ExemplarInpainter, path, averaged, sizes=TinyPaintByExample)
