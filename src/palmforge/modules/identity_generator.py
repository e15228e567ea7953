"""Stage 1: text prompts → new palms (GenPalm-style, spec §5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW

from palmforge.data.generation.prompted import NO_WORDS
from palmforge.modules.checkpoint_files import load_module
from palmforge.modules.encoders import Encoders
from palmforge.modules.latent_diffusion import Batch, FrozenDtype, LatentDiffusionModule
from palmforge.modules.lora_files import Format, save_generator, starting_adapters
from palmforge.modules.schedule import Schedule
from palmforge.modules.stable_diffusion import EMBEDDED, text_encoders
from palmforge.networks.gradient_checkpointing import checkpoint_blocks
from palmforge.networks.lora import LoraSettings, add_lora
from palmforge.networks.stable_diffusion import TinyStableDiffusion


class IdentityGenerator(LatentDiffusionModule):
    """Stable Diffusion, fine-tuned on palms: LoRA, or all of the UNet.

    It holds a pipeline of diffusers, samples with it, and what it exports loads in plain diffusers.
    Only what is trained is a submodule, is in checkpoints and reaches DDP; the frozen autoencoder
    and text encoder stand beside. Noise, timesteps and posterior draws come from each sample's
    seed: they are the same for any number of processes.

    Args:
        pretrained_model_name_or_path: A hub id or a folder in diffusers' layout (Stable Diffusion
            1.x, 2.x, XL); `embedded`: the small one of the package; null: one of `sizes` with
            random weights.
        pretrained_vae_model_name_or_path: An autoencoder in place of its own.
        revision: Of the hub's repository.
        variant: Of the weights' files, such as `fp16`.
        sizes: Of the one with random weights.
        image_size: Side of the pictures in pixels; linked from the data.
        train: `lora`, or `full`: all weights of UNet and text encoder.
        lora: Of the adapter.
        prediction_type: `epsilon`, `v_prediction` or `sample`; null: as the model's scheduler says.
        zero_terminal_snr: The last step is noise alone (Lin et al. 2024, §3.1); for a model that
            predicts v.
        min_snr_gamma: γ of min-SNR weights (Hang et al. 2023); null: every noise level counts 1.
        noise_offset: Adds noise that is constant over a picture, of this deviation, so that very
            dark and very light pictures are reached.
        input_perturbation: Adds this much more noise to what the network sees than it is asked for
            (Ning et al. 2023: 0.1).
        gradient_checkpointing: Of the UNet: less memory, a third more time.
        frozen_dtype: Of the UNet's frozen weights; `auto`: that of `trainer.precision`.
        compile_unet: `torch.compile` the UNet.
        optimizer: Class and arguments, its learning rate the peak.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it.
        scheduler: Sampler, a class of diffusers; null: the model's own.
        num_inference_steps: Of sampling.
        guidance_scale: Of classifier-free guidance; 1: none.
        negative_prompt: What sampling leads away from.
    """

    def __init__(
        self,
        pretrained_model_name_or_path: str | None = EMBEDDED,
        pretrained_vae_model_name_or_path: str | None = None,
        revision: str | None = None,
        variant: str | None = None,
        sizes: TinyStableDiffusion = TinyStableDiffusion(),  # noqa: B008  (frozen)
        image_size: int = 512,
        train: Literal["lora", "full"] = "lora",
        lora: LoraSettings = LoraSettings(),  # noqa: B008  (frozen)
        prediction_type: str | None = None,
        zero_terminal_snr: bool = False,
        min_snr_gamma: float | None = 5.0,
        noise_offset: float = 0.0,
        input_perturbation: float = 0.0,
        gradient_checkpointing: bool = False,
        frozen_dtype: FrozenDtype = "auto",
        compile_unet: bool = False,
        optimizer: OptimizerCallable = lambda p: AdamW(p, lr=1e-4),
        warmup_steps: int = 100,
        lr_schedule: Schedule = "cosine",
        scheduler: str | None = None,
        num_inference_steps: int = 30,
        guidance_scale: float = 5.0,
        negative_prompt: str = NO_WORDS,
    ) -> None:
        super().__init__(
            pretrained_model_name_or_path, pretrained_vae_model_name_or_path, revision, variant,
            sizes, image_size, prediction_type, zero_terminal_snr, min_snr_gamma, noise_offset,
            input_perturbation, gradient_checkpointing, frozen_dtype, optimizer, warmup_steps,
            lr_schedule, scheduler, num_inference_steps, guidance_scale, negative_prompt,
        )  # fmt: skip
        self.train_weights = train
        self.lora = lora
        self.compile_unet = compile_unet

    def choose_trained(self) -> None:
        """Adapters, or the whole UNet, and perhaps the text encoders."""
        pipeline, texts = self.pipeline, text_encoders(self.pipeline)
        trains_text = self.train_weights == "full" or self.lora.text_encoder
        self.encoders = Encoders(pipeline, self.image_size, trains_text)
        if self.train_weights == "full":
            for trained in (pipeline.unet, *texts):
                trained.requires_grad_(True)
        else:
            names, key = self.lora.target_modules, "model.lora.target_modules"
            add_lora(pipeline.unet, self.lora, tuple(names), key)
            if self.lora.text_encoder:
                names, key = self.lora.text_encoder_modules, "model.lora.text_encoder_modules"
                for encoder in texts:
                    add_lora(encoder, self.lora, tuple(names), key)
        if len(texts) == 2:
            _freeze_unread(texts[0])
        self._start = starting_adapters(pipeline)
        if trains_text:
            self.text_encoders = nn.ModuleList(texts).train()
        if self.gradient_checkpointing:
            checkpoint_blocks(pipeline.unet)
        if self.compile_unet:
            pipeline.unet.compile()

    def architecture(self) -> dict[str, Any]:
        """What it takes to build it again."""
        return {
            **super().architecture(),
            "train": self.train_weights,
            "lora": asdict(self.lora),
        }

    # --- training ---

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """‖target − UNet(x_t, t, c)‖², weighted by noise level; t, ε from each sample's seed."""
        batch = self.encoded(batch)
        latents, seeds = self.objective.latents(batch), batch["seed"]
        steps = self.objective.timesteps(seeds)
        loss = self.objective.losses(self.predictor(batch), latents, seeds, steps).mean()
        self.log("train/loss", loss.detach(), batch_size=len(latents), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same loss at four fixed noise levels a picture, with fixed noise."""
        batch = self.encoded(batch)
        latents = self.objective.latents(batch)
        self.log_fixed_loss(batch, latents, self.predictor(batch), "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As validation."""
        batch = self.encoded(batch)
        latents = self.objective.latents(batch)
        self.log_fixed_loss(batch, latents, self.predictor(batch), "test")

    def predictor(self, batch: Batch) -> Callable[[Tensor, Tensor], Tensor]:
        """(x_t, t) → what the UNet predicts with the words of an `encoded` batch."""

        def predict(noisy: Tensor, steps: Tensor) -> Tensor:
            prediction: Tensor = self.unet(
                noisy, steps, batch["prompt_embeds"], added_cond_kwargs=self.added(batch)
            ).sample
            return prediction

        return predict

    # --- sampling ---

    @torch.no_grad()
    def sample(self, prompts: list[str], seeds: list[int]) -> Tensor:
        """New palms.

        Args:
            prompts: `[N]`.
            seeds: `[N]`, of the start noise, which is drawn on the CPU.

        Returns:
            `[N, 3, S, S]` uint8 RGB on the CPU.
        """
        self.encoders.count_cut(prompts)
        with self.encoders.at_work(self.device, self.unet), self.sampling_precision():
            images = self.pipeline(
                prompts,
                negative_prompt=[self.negative_prompt] * len(prompts),
                height=self.image_size,
                width=self.image_size,
                num_inference_steps=self.num_inference_steps,
                guidance_scale=self.guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                output_type="pt",
            ).images
        return (images * 255).round().to(torch.uint8).cpu()

    def predict_step(self, batch: Batch, batch_idx: int) -> Batch:
        """A batch of a `GenerationPlan` → its pictures."""
        return {**batch, "image": self.sample(batch["prompt"], batch["seed"].tolist())}

    def export(self, directory: Path, format: Format = "diffusers", half: bool = False) -> None:
        """Writes what plain diffusers loads: a LoRA, or the whole pipeline of `train: full`.

        Args:
            directory: New.
            format: Of a LoRA: `diffusers` (PEFT) or `kohya`.
            half: Weights of `train: full` in float16; a LoRA is small enough.
        """
        if half and self.train_weights == "full":
            self.pipeline.to(torch.float16)
        is_lora = self.train_weights == "lora"
        save_generator(self.pipeline, is_lora, directory, format, self._start)


def _freeze_unread(encoder: Any) -> None:
    """Stable Diffusion XL reads the last layer but one of its first text encoder.

    DDP would wait for gradients of the rest, which never come.
    """
    body = getattr(encoder, "text_model", encoder)
    for unread in (body.encoder.layers[-1], body.final_layer_norm):
        unread.requires_grad_(False)


def load_generator(path: str, averaged: bool = True) -> IdentityGenerator:
    """The generator of a checkpoint, for sampling and export.

    Args:
        path: A `.ckpt` of `IdentityGenerator`.
        averaged: The averages of `WeightEMA`, where it was trained with that.

    Raises:
        CheckpointError: If it is missing, unsafe, or of another model.
    """
    return load_module(
        IdentityGenerator, path, averaged, sizes=TinyStableDiffusion, lora=LoraSettings
    )
