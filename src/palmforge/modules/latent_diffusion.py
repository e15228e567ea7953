"""What the modules that train a part of a Stable Diffusion have in common."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from inspect import signature
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

from palmforge.data.digests import checkpoint_digest
from palmforge.errors import ConfigError
from palmforge.modules.encoders import Encoders
from palmforge.modules.objective import Objective
from palmforge.modules.schedule import Schedule
from palmforge.modules.stable_diffusion import base_path, load_pipeline, text_encoders
from palmforge.modules.trained_part import Batch, TrainedPart
from palmforge.networks.stable_diffusion import TinyStableDiffusion

FrozenDtype = Literal["auto", "float32", "bfloat16", "float16"]
_MIXED = {"bf16-mixed": "bfloat16", "16-mixed": "float16"}


class LatentDiffusionModule(TrainedPart):
    """A pipeline of diffusers of which a part is trained; plain diffusers loads what comes of it.

    Noise, timesteps and posterior draws come from each sample's seed: they are the same for any
    number of processes. A subclass says which part (`choose_trained`) and writes the steps. Only
    what is trained, and what gradients must pass, is a submodule; checkpoints hold what is trained
    alone.

    Args:
        pretrained_model_name_or_path: A hub id or a folder in diffusers' layout (Stable Diffusion
            1.x, 2.x, XL); `embedded`: the small one of the package; null: one of `sizes` with
            random weights.
        pretrained_vae_model_name_or_path: An autoencoder in place of its own.
        revision: Of the hub's repository.
        variant: Of the weights' files, such as `fp16`.
        sizes: Of the one with random weights.
        image_size: Side of the pictures in pixels; linked from the data.
        prediction_type: `epsilon`, `v_prediction` or `sample`; null: as the model's scheduler says.
        zero_terminal_snr: The last step is noise alone (Lin et al. 2024, §3.1); for a model that
            predicts v.
        min_snr_gamma: γ of min-SNR weights (Hang et al. 2023); null: every noise level counts 1.
        noise_offset: Adds noise that is constant over a picture, of this deviation, so that very
            dark and very light pictures are reached.
        input_perturbation: Adds this much more noise to what the network sees than it is asked for
            (Ning et al. 2023: 0.1).
        gradient_checkpointing: Less memory, a third more time.
        frozen_dtype: Of the UNet's frozen weights; `auto`: that of `trainer.precision`.
        optimizer: Class and arguments, its learning rate the peak.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it.
        scheduler: Sampler, a class of diffusers; null: the model's own.
        num_inference_steps: Of sampling.
        guidance_scale: Of classifier-free guidance by words; 1: none.
        negative_prompt: What sampling leads away from.
    """

    adapter_setting = "model.lora"

    encoders: Encoders

    def __init__(
        self,
        pretrained_model_name_or_path: str | None,
        pretrained_vae_model_name_or_path: str | None,
        revision: str | None,
        variant: str | None,
        sizes: TinyStableDiffusion,
        image_size: int,
        prediction_type: str | None,
        zero_terminal_snr: bool,
        min_snr_gamma: float | None,
        noise_offset: float,
        input_perturbation: float,
        gradient_checkpointing: bool,
        frozen_dtype: FrozenDtype,
        optimizer: OptimizerCallable,
        warmup_steps: int,
        lr_schedule: Schedule,
        scheduler: str | None,
        num_inference_steps: int,
        guidance_scale: float,
        negative_prompt: str,
    ) -> None:
        super().__init__(optimizer, warmup_steps, lr_schedule)
        self.pretrained_model_name_or_path = pretrained_model_name_or_path
        self.pretrained_vae_model_name_or_path = pretrained_vae_model_name_or_path
        self.revision = revision
        self.variant = variant
        self.sizes = sizes
        self.image_size = image_size
        self.prediction_type = prediction_type
        self.zero_terminal_snr = zero_terminal_snr
        self.min_snr_gamma = min_snr_gamma
        self.noise_offset = noise_offset
        self.input_perturbation = input_perturbation
        self.gradient_checkpointing = gradient_checkpointing
        self.frozen_dtype = frozen_dtype
        self.scheduler = scheduler
        self.num_inference_steps = num_inference_steps
        self.guidance_scale = guidance_scale
        self.negative_prompt = negative_prompt
        self.pipeline: Any = None

    def choose_trained(self) -> None:
        """Adds and thaws what is trained; all parts of `pipeline` come frozen, in eval mode."""
        raise NotImplementedError

    def architecture(self) -> dict[str, Any]:
        """Constructor arguments, in plain types, from which a checkpoint can be used again."""
        return {
            "pretrained_model_name_or_path": self.pretrained_model_name_or_path,
            "pretrained_vae_model_name_or_path": self.pretrained_vae_model_name_or_path,
            "revision": self.revision,
            "variant": self.variant,
            "sizes": asdict(self.sizes),
            "image_size": self.image_size,
            "prediction_type": self.prediction_type,
            "zero_terminal_snr": self.zero_terminal_snr,
            "scheduler": self.scheduler,
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "negative_prompt": self.negative_prompt,
        }

    # --- what it is made of ---

    def configure_model(self) -> None:
        """Loads the pipeline and adds what is trained; once.

        Raises:
            ConfigError: If parts do not fit together, or the precision would cast what is trained.
        """
        precision = str(self._trainer.precision) if self._trainer is not None else None
        if precision is not None and precision not in ("32-true", *_MIXED):
            raise ConfigError(
                f"trainer.precision: {precision} would train in that precision, and most updates "
                "of bf16 weights are lost in rounding. Take bf16-mixed: frozen weights are in bf16"
            )
        if self.pipeline is None:
            self._build()
        if precision is not None:
            self._cast_frozen(precision)

    def _build(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # a small one from configs is the same in every process
            self.pipeline = load_pipeline(
                self.pretrained_model_name_or_path,
                self.pretrained_vae_model_name_or_path,
                self.revision,
                self.variant,
                self.sizes,
                self.image_size,
            )
            self._prepare_schedulers()
            self._check_size()
            parts = (self.pipeline.vae, self.pipeline.unet, *text_encoders(self.pipeline))
            for frozen in parts:
                frozen.requires_grad_(False).eval()
            self.choose_trained()
        self.unet = self.pipeline.unet.train()

    def _prepare_schedulers(self) -> None:
        import diffusers

        own = dict(self.pipeline.scheduler.config)
        changes: dict[str, Any] = {}
        if self.prediction_type is not None:
            changes["prediction_type"] = self.prediction_type
        if self.zero_terminal_snr:
            changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        kind: Any = type(self.pipeline.scheduler)
        if self.scheduler is not None:
            kind = getattr(diffusers, self.scheduler, None)
            if kind is None or not hasattr(kind, "set_timesteps"):
                raise ConfigError(f"model.scheduler: diffusers has no scheduler {self.scheduler!r}")
        if unknown := changes.keys() - signature(kind.__init__).parameters.keys():
            raise ConfigError(
                f"model.zero_terminal_snr: {kind.__name__} knows no {sorted(unknown)[0]}, and "
                "would begin where the training did not. Set model.scheduler=DDIMScheduler"
            )
        self.pipeline.scheduler = kind.from_config(own, **changes)
        training = diffusers.DDPMScheduler.from_config(own, **changes)
        self.objective = Objective(
            training.config.prediction_type,
            training.alphas_cumprod.float(),
            self.min_snr_gamma,
            self.noise_offset,
            self.input_perturbation,
        )

    def _check_size(self) -> None:
        factor = self.pipeline.vae_scale_factor
        unit = factor * 2 ** (len(self.pipeline.unet.config.block_out_channels) - 1)
        if self.image_size % unit:
            raise ConfigError(
                f"data.image_size: {self.image_size} pixels are {self.image_size / factor:g} "
                "latents, which the UNet cannot halve on each of its levels. Take a multiple of "
                f"{unit}"
            )

    def _cast_frozen(self, precision: str) -> None:
        """What is frozen needs no more digits than it is multiplied with."""
        auto = self.frozen_dtype == "auto"
        name = _MIXED.get(precision, "float32") if auto else self.frozen_dtype
        dtype: torch.dtype = getattr(torch, name)
        for parameter in self.unet.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)

    def sampling_precision(self) -> Any:
        """A context in which frozen weights of fewer digits meet trained ones in float32."""
        dtype = self.unet.conv_in.weight.dtype
        return torch.autocast(self.device.type, dtype) if dtype != torch.float32 else nullcontext()

    # --- training ---

    def encoded(self, batch: Batch) -> Batch:
        """The batch with `mean`, `sd` and `prompt_embeds`; what is not cached is computed."""
        if "mean" not in batch:
            batch = {**batch, **self.encoders.images(batch["image"], self.device)}
        if "prompt_embeds" not in batch:
            batch = {**batch, **self.encoders.prompts(list(batch["prompt"]), self.device)}
        return batch

    def added(self, batch: Batch) -> dict[str, Tensor] | None:
        """What Stable Diffusion XL asks for besides: pooled words, and sizes as they are."""
        if "pooled_embeds" not in batch:
            return None
        size = float(self.image_size)
        ids = torch.tensor([[size, size, 0.0, 0.0, size, size]], device=self.device)
        pooled = batch["pooled_embeds"]
        return {"text_embeds": pooled, "time_ids": ids.repeat(len(pooled), 1)}

    def teardown(self, stage: str) -> None:
        """Says how many prompts were longer than the text encoder reads."""
        if self.pipeline is not None and self.encoders.num_cut_prompts:
            rank_zero_info(
                f"{self.encoders.num_cut_prompts} prompts were cut to "
                f"{self.pipeline.tokenizer.model_max_length} tokens (process 0)"
            )

    # --- files ---

    @property
    def provenance(self) -> dict[str, str | int | float]:
        """What decides the pictures, besides the checkpoint, prompts and seeds."""
        return {
            "pretrained_model_name_or_path": str(self.pretrained_model_name_or_path),
            "revision": self.revision or "",
            "scheduler": self.scheduler or "own",
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "negative_prompt": self.negative_prompt,
            "precision": str(self._trainer.precision) if self._trainer is not None else "",
        }

    def digests(self) -> dict[str, str | None]:
        """SHA-256 of the weights that `provenance` calls by name; None: not on this machine."""
        base = base_path(self.pretrained_model_name_or_path)
        return {"pretrained_model_sha256": checkpoint_digest(base)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As `TrainedPart`; warns of another size.

        Raises:
            CheckpointError: If names or shapes differ.
        """
        theirs = checkpoint.get("architecture", {}).get("image_size", self.image_size)
        if theirs != self.image_size and self._trainer is not None and self.trainer.predicting:
            rank_zero_warn(
                f"data.image_size: {self.image_size}, but the checkpoint was trained for {theirs} "
                "pixels"
            )
        super().on_load_checkpoint(checkpoint)
