"""Stage 2: one picture of a palm → many of the same palm (GenPalm-style, CemiFace; spec §4, §5)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import AdamW

from palmforge.data.digests import checkpoint_digest
from palmforge.data.generation.prompted import NO_WORDS
from palmforge.errors import CheckpointError, ConfigError
from palmforge.losses.identity import (
    draw_similarity,
    identity_loss,
    identity_weights,
    similarity_loss,
)
from palmforge.modules.checkpoint_files import load_module, plain_arguments
from palmforge.modules.controlnet_files import (
    ARCHITECTURE,
    PRETRAINED,
    begin_with,
    folder_of,
    read_architecture,
    save_controlnet,
)
from palmforge.modules.draws import generators
from palmforge.modules.encoders import Encoders
from palmforge.modules.identity_conditions import Condition, IdentityConditions
from palmforge.modules.latent_diffusion import Batch, FrozenDtype, LatentDiffusionModule
from palmforge.modules.sampling import NoiseSeeds, guided, sample_latents
from palmforge.modules.schedule import Schedule
from palmforge.modules.stable_diffusion import EMBEDDED
from palmforge.networks.gradient_checkpointing import checkpoint_blocks
from palmforge.networks.stable_diffusion import TinyStableDiffusion
from palmforge.recognition import load_embedding, weights_path

_SIMILARITY, _DROPPED = 8, 9  # streams of a sample's seed, beside those of `Objective`


class IdentityControlNet(LatentDiffusionModule):
    """A ControlNet that keeps the palm and lets words decide the capture.

    The UNet is frozen, with a LoRA merged into it. The ControlNet starts as a copy of its encoder
    (Zhang et al. 2023) and is told of the palm by `conditions`. With `lines` and `reference` what
    is exported loads in a plain `StableDiffusionControlNetPipeline`; tokens need this class.

    With `similarity_weight` there is a dial: m in [−1, 1], the cosine between the palm that is
    shown and the one that is asked for, trained with the loss of CemiFace (spec §4).

    Args:
        pretrained_model_name_or_path: See `LatentDiffusionModule`, as all that is not told here.
        pretrained_vae_model_name_or_path: See there.
        revision: See there.
        variant: See there.
        sizes: See there.
        image_size: See there.
        lora: A LoRA that is merged into the UNet: a folder of `train.py generator export`; or null.
        controlnet: Weights to begin with: a folder of `train.py generator export`, of the same
            conditions; `pretrained`: the one of the package, for the embedded Stable Diffusion;
            null: a copy of the UNet's encoder.
        conditions: Of `lines`, `reference`, `embedding`.
        line_mode: Of `lines`: `soft` or `binary`.
        recogniser: Frozen, of the embedding kind: for `embedding`, the dial, the identity loss. To
            judge what comes of it, take another one.
        num_tokens: That the recogniser's vector becomes.
        embedding_dropout: Share of the vector's components that are zero while training
            (contextual partial dropout, IDiff-Face): more variation.
        identity_weight: Of 1 − cos(E(reference), E(x̂_0)); 0: none, and no picture is decoded.
        similarity_weight: λ of the dial's loss (CemiFace: 0.05); 0: there is no dial.
        prediction_type: See there.
        zero_terminal_snr: See there.
        min_snr_gamma: See there.
        noise_offset: See there.
        input_perturbation: See there.
        gradient_checkpointing: Of ControlNet *and* UNet, whose activations gradients need too, and
            of the autoencoder where the recogniser looks at x̂_0.
        frozen_dtype: See there.
        optimizer: See there.
        warmup_steps: See there.
        lr_schedule: See there.
        scheduler: See there.
        num_inference_steps: See there.
        guidance_scale: s_w, of the words.
        control_guidance_scale: s_c, of the palm; 1: what plain diffusers does.
        shared_steps: K: captures of a palm share the noise of the last K steps (Diff-Palm).
        eta: Of DDIM; sharing needs noise, 1 as much as DDPM.
        similarity: m asked for at sampling, with a dial.
        negative_prompt: See there.
    """

    def __init__(
        self,
        pretrained_model_name_or_path: str | None = EMBEDDED,
        pretrained_vae_model_name_or_path: str | None = None,
        revision: str | None = None,
        variant: str | None = None,
        sizes: TinyStableDiffusion = TinyStableDiffusion(),  # noqa: B008  (frozen)
        image_size: int = 512,
        lora: str | None = None,
        controlnet: str | None = None,
        conditions: tuple[Condition, ...] = ("lines",),
        line_mode: Literal["soft", "binary"] = "soft",
        recogniser: str = "synthetic-only",
        num_tokens: int = 4,
        embedding_dropout: float = 0.0,
        identity_weight: float = 0.0,
        similarity_weight: float = 0.0,
        prediction_type: str | None = None,
        zero_terminal_snr: bool = False,
        min_snr_gamma: float | None = 5.0,
        noise_offset: float = 0.0,
        input_perturbation: float = 0.0,
        gradient_checkpointing: bool = False,
        frozen_dtype: FrozenDtype = "auto",
        optimizer: OptimizerCallable = lambda p: AdamW(p, lr=1e-5),
        warmup_steps: int = 100,
        lr_schedule: Schedule = "constant",
        scheduler: str | None = None,
        num_inference_steps: int = 30,
        guidance_scale: float = 3.0,
        control_guidance_scale: float = 1.0,
        shared_steps: int = 0,
        eta: float = 0.0,
        similarity: float = 1.0,
        negative_prompt: str = NO_WORDS,
    ) -> None:
        super().__init__(
            pretrained_model_name_or_path, pretrained_vae_model_name_or_path, revision, variant,
            sizes, image_size, prediction_type, zero_terminal_snr, min_snr_gamma, noise_offset,
            input_perturbation, gradient_checkpointing, frozen_dtype, optimizer, warmup_steps,
            lr_schedule, scheduler, num_inference_steps, guidance_scale, negative_prompt,
        )  # fmt: skip
        if not -1 <= similarity <= 1:
            raise ConfigError(f"model.similarity: {similarity} is not in [-1, 1]")
        if not 0 <= embedding_dropout < 1:
            raise ConfigError(f"model.embedding_dropout: {embedding_dropout} is not in [0, 1)")
        self.lora = lora
        self.start_from = controlnet
        self.condition_names = tuple(conditions)
        self.line_mode = line_mode
        self.recogniser = recogniser
        self.num_tokens = num_tokens
        self.embedding_dropout = embedding_dropout
        self.identity_weight = identity_weight
        self.similarity_weight = similarity_weight
        self.control_guidance_scale = control_guidance_scale
        self.shared_steps = shared_steps
        self.eta = eta
        self.similarity = similarity

    # --- what it is made of ---

    def choose_trained(self) -> None:
        """The ControlNet and the tokens' MLP."""
        from diffusers import ControlNetModel

        pipeline = self.pipeline
        self.encoders = Encoders(pipeline, self.image_size, trains_text=False)
        if self.lora is not None:
            self._merge_lora(self.lora)
        unet = pipeline.unet.requires_grad_(False)
        needed = self._needs_recogniser
        model = load_embedding(self.recogniser, "model.recogniser") if needed else None
        # In a list, so that its weights are no submodule's: not in DDP, not in checkpoints.
        self._judge = [model] if model is not None else []
        self.conditions = IdentityConditions(
            self.condition_names,
            self.line_mode,
            unet.config.cross_attention_dim,
            model.network.linear.out_features if model is not None else 0,
            self.num_tokens,
            self.has_dial,
        )
        # The hint's encoder halves as often as the autoencoder: 8 × of Stable Diffusion, 4 × of
        # the small one.
        levels = len(pipeline.vae.config.block_out_channels)
        self.controlnet = ControlNetModel.from_unet(
            unet,
            conditioning_channels=self.conditions.num_channels,
            conditioning_embedding_out_channels=(16, 32, 96, 256)[:levels],
        )
        if self.start_from is not None:
            begin_with(folder_of(self.start_from), self.controlnet, self.conditions)
        self.controlnet.train().requires_grad_(True)
        if self.gradient_checkpointing:
            checkpoint_blocks(self.controlnet)
            checkpoint_blocks(unet)  # gradients pass its decoder too
            pipeline.vae.enable_gradient_checkpointing()  # and that one's, to the recogniser

    @property
    def has_dial(self) -> bool:
        """Whether m is told and trained."""
        return self.similarity_weight > 0

    @property
    def _needs_recogniser(self) -> bool:
        return "embedding" in self.condition_names or self.has_dial or self.identity_weight > 0

    def _merge_lora(self, path: str) -> None:
        if not Path(path).is_dir():
            raise CheckpointError(
                f"model.lora: no folder {path!r}. Export one: train.py generator export CKPT {path}"
            )
        try:
            self.pipeline.load_lora_weights(path)
        except (OSError, ValueError, RuntimeError) as error:  # not there, damaged, of other sizes
            raise CheckpointError(
                f"model.lora: {path} is no LoRA of this model: {error}"
            ) from error
        self.pipeline.fuse_lora()
        self.pipeline.unload_lora_weights()

    def architecture(self) -> dict[str, Any]:
        """What it takes to build it again."""
        return {
            **super().architecture(),
            "lora": self.lora,
            "conditions": list(self.condition_names),
            "line_mode": self.line_mode,
            "recogniser": self.recogniser,
            "num_tokens": self.num_tokens,
            "similarity_weight": self.similarity_weight,
            "control_guidance_scale": self.control_guidance_scale,
            "shared_steps": self.shared_steps,
            "eta": self.eta,
            "similarity": self.similarity,
        }

    # --- training ---

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """‖target − UNet(x_t, t, c, ControlNet(x_t, t, c, palm))‖², identity and dial losses."""
        batch = self.encoded(batch)
        told = self._told(batch, training=True)
        latents, seeds = self.objective.latents(batch), batch["seed"]
        steps = self.objective.timesteps(seeds)
        losses, samples = self.objective.errors(self._predictor(told), latents, seeds, steps)
        terms = {"denoising_loss": losses.mean()}
        if self.identity_weight or self.has_dial:
            terms |= self._judged(samples, told, steps.to(self.device))
        loss = torch.stack(list(terms.values())).sum()
        for name, value in {"loss": loss, **terms}.items():
            self.log(f"train/{name}", value.detach(), batch_size=len(latents), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The denoising loss at four fixed noise levels a picture, with fixed noise."""
        batch = self.encoded(batch)
        latents, told = self.objective.latents(batch), self._told(batch)
        self.log_fixed_loss(batch, latents, self._predictor(told), "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As validation."""
        batch = self.encoded(batch)
        latents, told = self.objective.latents(batch), self._told(batch)
        self.log_fixed_loss(batch, latents, self._predictor(told), "test")

    def _told(self, batch: Batch, training: bool = False, asked: float | None = None) -> Batch:
        """Adds `control`, `tokens`, and of the recogniser `embedding` and `similarity`."""
        reference = batch["reference"].to(self.device)
        kept = batch["keep_control"].to(self.device).float()
        told = {**batch, "control": self.conditions.control(reference) * kept[:, None, None, None]}
        if not self._judge:
            return {**told, "tokens": None}
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            embedding = self._judge[0].to(self.device).embed(reference)
        similarity = torch.full_like(kept, self.similarity if asked is None else asked)
        if training and self.has_dial:
            similarity = draw_similarity(generators(batch["seed"], _SIMILARITY)).to(self.device)
        shown = embedding * kept[:, None]
        if training and self.embedding_dropout:
            shown = shown * self._kept_components(batch["seed"], embedding)
        tokens = self.conditions.identity_tokens(shown, similarity if self.has_dial else None)
        return {**told, "tokens": tokens, "embedding": embedding, "similarity": similarity}

    def _kept_components(self, seeds: Tensor, embedding: Tensor) -> Tensor:
        rows = [torch.rand(embedding.shape[1], generator=g) for g in generators(seeds, _DROPPED)]
        return (torch.stack(rows) >= self.embedding_dropout).float().to(embedding.device)

    def _predictor(self, told: Batch) -> Callable[[Tensor, Tensor], Tensor]:
        def predict(noisy: Tensor, steps: Tensor) -> Tensor:
            return self._denoised(noisy, steps, told["prompt_embeds"], told, told["control"])

        return predict

    def _denoised(
        self, noisy: Tensor, steps: Tensor, words: Tensor, told: Batch, control: Tensor
    ) -> Tensor:
        """UNet and ControlNet together."""
        context = words if told["tokens"] is None else torch.cat([words, told["tokens"]], 1)
        added = self.added(told)
        down, middle = self.controlnet(
            noisy, steps, context, control, added_cond_kwargs=added, return_dict=False
        )
        prediction: Tensor = self.unet(
            noisy,
            steps,
            words,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            added_cond_kwargs=added,
        ).sample
        return prediction

    def _judged(self, samples: Tensor, told: Batch, steps: Tensor) -> dict[str, Tensor]:
        """Losses on what the recogniser sees in x̂_0."""
        pictures = self.encoders.pictures(samples)
        with torch.autocast(self.device.type, enabled=False):
            seen = self._judge[0](pictures.clamp(0, 1))
        cosine = (seen * told["embedding"]).sum(1)
        terms = {}
        kept = told["keep_control"].to(self.device).float()  # what is not told need not be kept
        if self.identity_weight:
            weights = kept * identity_weights(self.objective.alphas_cumprod, steps)
            terms["identity_loss"] = self.identity_weight * identity_loss(cosine, weights).mean()
        if self.has_dial:
            num = len(self.objective.alphas_cumprod)
            losses = similarity_loss(cosine, told["similarity"], steps, num)
            terms["similarity_loss"] = self.similarity_weight * (kept * losses).mean()
        return terms

    # --- sampling ---

    @torch.no_grad()
    def sample(
        self,
        prompts: list[str],
        seeds: list[int],
        reference: Tensor,
        identity_seeds: list[int] | None = None,
        similarity: float | None = None,
        shared_steps: int | None = None,
    ) -> Tensor:
        """New captures of palms.

        Args:
            prompts: `[N]`, what the captures shall be like.
            seeds: `[N]`, of each capture's noise, drawn on the CPU.
            reference: `[N, 3, S, S]` uint8 RGB, the palms.
            identity_seeds: `[N]`, of what captures of a palm share; None: their own.
            similarity: m in [−1, 1]; None: the module's.
            shared_steps: K; None: the module's.

        Returns:
            `[N, 3, S, S]` uint8 RGB on the CPU.

        Raises:
            ConfigError: m or K is out of range, there is no dial, or the sampler has no noise to
                share.
            ValueError: `reference` has another shape.
        """
        asked = self.similarity if similarity is None else similarity
        if not -1 <= asked <= 1:
            raise ConfigError(f"similarity: {asked} is not in [-1, 1]")
        if similarity is not None and not self.has_dial:
            raise ConfigError("similarity: this ControlNet has no dial (model.similarity_weight)")
        count = len(prompts)
        if reference.shape != (count, 3, self.image_size, self.image_size):
            raise ValueError(
                f"reference: {list(reference.shape)} is not [{count}, 3, {self.image_size}, "
                f"{self.image_size}] (a picture a prompt, of the model's image_size)"
            )
        noise = NoiseSeeds(
            seeds,
            identity_seeds or seeds,
            self.shared_steps if shared_steps is None else shared_steps,
        )
        networks = (self.unet, self.controlnet)
        with self.encoders.at_work(self.device, *networks), self.sampling_precision():
            shown = {"reference": reference, "keep_control": torch.ones(count)}
            told = self._told(shown, asked=asked)
            shape = self.encoders.latent_shape(count)
            denoise = guided(
                self._guided_predictor(prompts, told), self.guidance_scale,
                self.control_guidance_scale,
            )  # fmt: skip
            latents = sample_latents(
                self.pipeline.scheduler, denoise, shape, self.device, self.num_inference_steps,
                noise, self.eta,
            )  # fmt: skip
            pictures = self.encoders.pictures(latents).clamp(0, 1)
        return (pictures * 255).round().to(torch.uint8).cpu()

    def _guided_predictor(
        self, prompts: list[str], told: Batch
    ) -> Callable[[Tensor, Tensor, str], Tensor]:
        words = self.encoders.prompts(prompts, self.device)
        none = self.encoders.prompts([self.negative_prompt] * len(prompts), self.device)
        without = {**told, "tokens": None}
        if told["tokens"] is not None:
            no_one = torch.zeros_like(told["embedding"])
            without["tokens"] = self.conditions.identity_tokens(
                no_one, told["similarity"] if self.has_dial else None
            )

        def predict(noisy: Tensor, t: Tensor, which: str) -> Tensor:
            encoded = words if which == "both" else none
            condition = without if which == "nothing" else told
            control = condition["control"] * (which != "nothing")
            steps = t.expand(len(noisy)).to(self.device)
            return self._denoised(
                noisy, steps, encoded["prompt_embeds"], {**condition, **encoded}, control
            )

        return predict

    def on_predict_start(self) -> None:
        """Refuses to sample from a ControlNet that has never seen a palm, or none of this size.

        Raises:
            ConfigError: If there is no checkpoint, and it did not begin with a trained one; or it
                is the one of the package, and `image_size` is not what that was trained for.
        """
        if self.trainer.ckpt_path is not None:
            return
        if self.start_from is None:
            raise ConfigError(
                "model.controlnet: it is not trained. Give --ckpt_path, or the one of the package: "
                "--config configs/ablation/similarity_dial.yaml --model.controlnet=pretrained"
            )
        self._check_trained_size(self.start_from)

    def _check_trained_size(self, name_or_path: str) -> None:
        """Of a folder that tells it. Others may know that theirs can be asked for other sizes."""
        folder = folder_of(name_or_path)
        if not (folder / ARCHITECTURE).exists():
            return
        theirs = read_architecture(folder).get("image_size")
        if theirs in (None, self.image_size):
            return
        told = (
            f"data.image_size: {self.image_size}, but model.controlnet={name_or_path} was trained "
            f"for {theirs} pixels ({ARCHITECTURE}) and keeps palms of that size"
        )
        if name_or_path == PRETRAINED:
            raise ConfigError(f"{told}. Set --data.image_size={theirs}")
        rank_zero_warn(told)

    def predict_step(self, batch: Batch, batch_idx: int) -> Batch:
        """A batch of a `CapturePlan` → its pictures."""
        images = self.sample(
            batch["prompt"],
            batch["seed"].tolist(),
            batch["reference"],
            batch["identity_seed"].tolist(),
        )
        return {**batch, "image": images}

    @property
    def provenance(self) -> dict[str, str | int | float]:
        """What decides the pictures, besides checkpoint, references, prompts and seeds."""
        return {
            **super().provenance,
            "lora": self.lora or "",
            "controlnet": self.start_from or "",
            "control_guidance_scale": self.control_guidance_scale,
            "shared_steps": self.shared_steps,
            "eta": self.eta,
            "similarity": self.similarity if self.has_dial else "",
        }

    def digests(self) -> dict[str, str | None]:
        """As `LatentDiffusionModule`; of ControlNet, LoRA and recogniser too, where there are."""
        told = "embedding" in self.condition_names or self.has_dial
        paths = {
            "controlnet": None if self.start_from is None else folder_of(self.start_from),
            "lora": None if self.lora is None else Path(self.lora),
            "recogniser": weights_path(self.recogniser) if told else None,
        }
        found = {
            f"{name}_sha256": checkpoint_digest(path)
            for name, path in paths.items()
            if path is not None and path.exists()  # else it is refused when it is loaded
        }
        return {**super().digests(), **found}

    def export(self, directory: Path, half: bool = False) -> None:
        """Writes a folder that `ControlNetModel.from_pretrained` reads, and `load_controlnet` too.

        Args:
            directory: New.
            half: Weights in float16.
        """
        parts = (self.controlnet, self.conditions)
        network, conditions = (part.half() if half else part for part in parts)
        save_controlnet(directory, network, conditions, self.architecture())


def load_controlnet(path: str, averaged: bool = True) -> IdentityControlNet:
    """A trained ControlNet, for sampling and export.

    Args:
        path: A `.ckpt` of `IdentityControlNet`; a folder of `train.py generator export`; or
            `pretrained`, the one of the package.
        averaged: The averages of `WeightEMA`, where a checkpoint has them.

    Raises:
        CheckpointError: If it is missing, unsafe, or of another model.
    """
    folder = folder_of(path)
    if not folder.is_dir():
        return load_module(IdentityControlNet, path, averaged, sizes=TinyStableDiffusion)
    arguments = plain_arguments(read_architecture(folder), sizes=TinyStableDiffusion)
    module = IdentityControlNet(**arguments, controlnet=path)
    module.configure_model()
    return module.eval()
