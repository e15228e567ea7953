"""Stage 1: text prompts → new palms (GenPalm-style, spec §5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import AdamW

from palmforge.data.generation.prompted import NO_WORDS
from palmforge.errors import CheckpointError, ConfigError
from palmforge.modules.checkpoint_files import read_checkpoint, rebuilt, weights_of
from palmforge.modules.encoders import Encoders
from palmforge.modules.lora_files import Format, save_generator
from palmforge.modules.objective import Objective
from palmforge.modules.schedule import Schedule, scheduled
from palmforge.modules.stable_diffusion import EMBEDDED, load_pipeline, text_encoders
from palmforge.networks.lora import LoraSettings, add_lora
from palmforge.networks.stable_diffusion import TinyStableDiffusion

Batch = dict[str, Any]
_DTYPES = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class IdentityGenerator(L.LightningModule):
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

    strict_loading = False  # checkpoints hold what is trained

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
        frozen_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        compile_unet: bool = False,
        optimizer: OptimizerCallable = lambda p: AdamW(p, lr=1e-4),
        warmup_steps: int = 100,
        lr_schedule: Schedule = "cosine",
        scheduler: str | None = None,
        num_inference_steps: int = 30,
        guidance_scale: float = 5.0,
        negative_prompt: str = NO_WORDS,
    ) -> None:
        super().__init__()
        self.pretrained_model_name_or_path = pretrained_model_name_or_path
        self.pretrained_vae_model_name_or_path = pretrained_vae_model_name_or_path
        self.revision = revision
        self.variant = variant
        self.sizes = sizes
        self.image_size = image_size
        self.train_weights = train
        self.lora = lora
        self.prediction_type = prediction_type
        self.zero_terminal_snr = zero_terminal_snr
        self.min_snr_gamma = min_snr_gamma
        self.noise_offset = noise_offset
        self.input_perturbation = input_perturbation
        self.gradient_checkpointing = gradient_checkpointing
        self.frozen_dtype = frozen_dtype
        self.compile_unet = compile_unet
        self.optimizer = optimizer
        self.warmup_steps = warmup_steps
        self.lr_schedule = lr_schedule
        self.scheduler = scheduler
        self.num_inference_steps = num_inference_steps
        self.guidance_scale = guidance_scale
        self.negative_prompt = negative_prompt
        self.pipeline: Any = None

    # --- what it is made of ---

    def load_pretrained(self, resuming: bool) -> None:
        """Before the data is touched: a wrong name is known at once."""
        self.configure_model()

    def configure_model(self) -> None:
        """Loads the pipeline and adds what is trained; once."""
        if self.pipeline is not None:
            return
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
            self._choose_trained()

    def _prepare_schedulers(self) -> None:
        import diffusers

        pipeline = self.pipeline
        own = dict(pipeline.scheduler.config)
        changes: dict[str, Any] = {}
        if self.prediction_type is not None:
            changes["prediction_type"] = self.prediction_type
        if self.zero_terminal_snr:
            changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        kind: Any = type(pipeline.scheduler)
        if self.scheduler is not None:
            kind = getattr(diffusers, self.scheduler, None)
            if kind is None or not hasattr(kind, "set_timesteps"):
                raise ConfigError(f"model.scheduler: diffusers has no scheduler {self.scheduler!r}")
        pipeline.scheduler = kind.from_config(own, **changes)
        training = diffusers.DDPMScheduler.from_config(own, **changes)
        self.objective = Objective(
            training.config.prediction_type,
            training.alphas_cumprod.float(),
            self.min_snr_gamma,
            self.noise_offset,
            self.input_perturbation,
        )
        factor = pipeline.vae_scale_factor
        if self.image_size % (factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)):
            raise ConfigError(
                f"data.image_size: {self.image_size} pixels are {self.image_size / factor:g} "
                "latents, which the UNet cannot halve on each of its levels. Take a multiple of "
                f"{factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)}"
            )

    def _choose_trained(self) -> None:
        pipeline, texts = self.pipeline, text_encoders(self.pipeline)
        for frozen in (pipeline.vae, pipeline.unet, *texts):
            frozen.requires_grad_(False).eval()
        trains_text = self.train_weights == "full" or self.lora.text_encoder
        self.encoders = Encoders(pipeline, self.image_size, trains_text)
        if self.train_weights == "full":
            for trained in (pipeline.unet, *texts):
                trained.requires_grad_(True).train()
        else:
            if (dtype := self._frozen_dtype()) != pipeline.unet.dtype:
                pipeline.unet.to(dtype)
            names, key = self.lora.target_modules, "model.lora.target_modules"
            add_lora(pipeline.unet, self.lora, tuple(names), key)
            if self.lora.text_encoder:
                names, key = self.lora.text_encoder_modules, "model.lora.text_encoder_modules"
                for encoder in texts:
                    add_lora(encoder, self.lora, tuple(names), key)
        self.unet = pipeline.unet
        if trains_text:
            self.text_encoders = nn.ModuleList(texts)
        if self.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        if self.compile_unet:
            self.unet.compile()

    def _frozen_dtype(self) -> torch.dtype:
        if self.frozen_dtype != "auto":
            dtype: torch.dtype = getattr(torch, self.frozen_dtype)
            return dtype
        precision = str(self._trainer.precision) if self._trainer is not None else "32-true"
        return _DTYPES.get(precision, torch.float32)

    # --- training ---

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """‖target − UNet(x_t, t, c)‖², weighted by noise level; t, ε from each sample's seed."""
        latents, predict = self._prepared(batch)
        steps = self.objective.timesteps(batch["seed"])
        loss = self.objective.losses(predict, latents, batch["seed"], steps).mean()
        self.log("train/loss", loss.detach(), batch_size=len(latents))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same loss at four fixed noise levels a picture, with fixed noise."""
        latents, predict = self._prepared(batch)
        for quarter in range(4):
            steps = self.objective.fixed_timesteps(batch["index"], quarter)
            losses = self.objective.losses(predict, latents, batch["seed"] + quarter, steps)
            self.log(
                "val/loss", losses.mean(), batch_size=len(latents), sync_dist=True, prog_bar=True
            )

    def _prepared(self, batch: Batch) -> tuple[Tensor, Callable[[Tensor, Tensor], Tensor]]:
        """x_0, and the UNet with the words given; what is not cached is computed."""
        if "mean" not in batch:
            batch = {**batch, **self.encoders.images(batch["image"], self.device)}
        if "prompt_embeds" not in batch:
            batch = {**batch, **self.encoders.prompts(list(batch["prompt"]), self.device)}

        def predict(noisy: Tensor, steps: Tensor) -> Tensor:
            prediction: Tensor = self.unet(
                noisy, steps, batch["prompt_embeds"], added_cond_kwargs=self._added(batch)
            ).sample
            return prediction

        return self.objective.latents(batch), predict

    def _added(self, batch: Batch) -> dict[str, Tensor] | None:
        """What Stable Diffusion XL asks for besides: pooled words, and sizes as they are."""
        if "pooled_embeds" not in batch:
            return None
        size = float(self.image_size)
        ids = torch.tensor([[size, size, 0.0, 0.0, size, size]], device=self.device)
        pooled = batch["pooled_embeds"]
        return {"text_embeds": pooled, "time_ids": ids.repeat(len(pooled), 1)}

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Logs the norm of the gradients before they are clipped."""
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.log("train/grad_norm", torch.nn.utils.get_total_norm(gradients))

    def configure_optimizers(self) -> Any:
        """The optimizer, with a warm-up and a decay."""
        trained = [p for p in self.parameters() if p.requires_grad]
        total = int(self.trainer.estimated_stepping_batches)
        return scheduled(self.optimizer(trained), self.lr_schedule, self.warmup_steps, total)

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
        with self.encoders.at_work(self.device, self.unet):
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

    @property
    def provenance(self) -> dict[str, str | int | float]:
        """What decides the pictures, besides the checkpoint, prompts and seeds."""
        return {
            "pretrained_model_name_or_path": str(self.pretrained_model_name_or_path),
            "scheduler": self.scheduler or "own",
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "negative_prompt": self.negative_prompt,
        }

    # --- files ---

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Only what is trained: megabytes of a LoRA, not gigabytes of what it is laid over."""
        trained = self._trained_names()
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if k in trained}
        checkpoint["network_class"] = type(self).__name__
        checkpoint["architecture"] = {
            "pretrained_model_name_or_path": self.pretrained_model_name_or_path,
            "pretrained_vae_model_name_or_path": self.pretrained_vae_model_name_or_path,
            "revision": self.revision,
            "variant": self.variant,
            "sizes": asdict(self.sizes),
            "image_size": self.image_size,
            "train": self.train_weights,
            "lora": asdict(self.lora),
            "prediction_type": self.prediction_type,
            "zero_terminal_snr": self.zero_terminal_snr,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of other weights than are trained here.

        Raises:
            CheckpointError: If names or shapes differ.
        """
        self.configure_model()
        parameters = dict(self.named_parameters())
        ours = {name: parameters[name].shape for name in self._trained_names()}
        theirs = {name: value.shape for name, value in checkpoint["state_dict"].items()}
        differing = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
        if differing:
            raise CheckpointError(
                f"the checkpoint is of another model, or another model.lora: {len(differing)} of "
                f"its weights differ, first {differing[0]!r}"
            )

    def _trained_names(self) -> set[str]:
        return {name for name, parameter in self.named_parameters() if parameter.requires_grad}

    def export(self, directory: Path, format: Format = "diffusers", half: bool = False) -> None:
        """Writes what plain diffusers loads: a LoRA, or the whole pipeline of `train: full`.

        Args:
            directory: New.
            format: Of a LoRA: `diffusers` (PEFT) or `kohya`.
            half: Weights of `train: full` in float16; a LoRA is small enough.
        """
        if half and self.train_weights == "full":
            self.pipeline.to(torch.float16)
        save_generator(self.pipeline, self.train_weights == "lora", directory, format)


def load_generator(path: str, averaged: bool = True) -> IdentityGenerator:
    """The generator of a checkpoint, for sampling and export.

    Args:
        path: A `.ckpt` of `IdentityGenerator`.
        averaged: The averages of `WeightEMA`, where it was trained with that.

    Raises:
        CheckpointError: If it is missing, unsafe, or of another model.
    """
    checkpoint = read_checkpoint(path, IdentityGenerator.__name__)
    parts = dict(checkpoint["architecture"])
    parts["sizes"] = rebuilt(TinyStableDiffusion, parts["sizes"])
    parts["lora"] = rebuilt(LoraSettings, parts["lora"])
    module = IdentityGenerator(**parts)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(weights_of(checkpoint, averaged))
    return module.eval()
