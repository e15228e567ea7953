"""Data and steps of diffusers' training scripts, to be measured against.

Of `train_text_to_image_lora.py` and `train_controlnet.py`: every step reads pictures from files,
and runs the autoencoder and the text encoder.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset
from torchvision import transforms

from palmforge.data.generation.captures import CapturePairs
from palmforge.data.generation.prompted import PromptedDataset
from palmforge.modules.draws import normal_like
from palmforge.modules.latent_diffusion import LatentDiffusionModule
from palmforge.modules.objective import NOISE, POSTERIOR


class PictureFiles(Dataset[dict[str, Any]]):
    """Our pictures as files of the size to train at, through the script's transforms.

    Args:
        data: Ours, without a cache of latents.
        folder: Where the files are written, as PNG: the same pixels.
        tokenizer: Of the pipeline; prompts are tokenized as they are asked for.
        size: Side of the pictures in pixels.
    """

    def __init__(self, data: PromptedDataset, folder: Path, tokenizer: Any, size: int) -> None:
        self.prompts = data.prompts
        self.paths = [folder / f"{row}.png" for row in range(len(data))]
        self.tokenizer = tokenizer
        self.transform = transforms.Compose(
            [
                transforms.Resize(size, interpolation=transforms.InterpolationMode.BILINEAR),
                transforms.CenterCrop(size),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )
        folder.mkdir()
        for row, path in enumerate(self.paths):
            _written(data[row]["image"], path)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        """`pixel_values`, `input_ids` of a (row, seed); and the seed, for comparisons."""
        row, seed = item
        ids = self.tokenizer(
            self.prompts[row],
            max_length=self.tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids[0]
        with Image.open(self.paths[row]) as picture:
            pixels = self.transform(picture.convert("RGB"))
        return {"pixel_values": pixels, "input_ids": ids, "seed": seed}


class ControlFiles(PictureFiles):
    """As `PictureFiles`, with the control of each picture as a file, made beforehand.

    Args:
        data: Ours, whose pictures are their own references.
        folder: See `PictureFiles`.
        tokenizer: See there.
        size: See there.
        control: References `[1, 3, S, S]` uint8 → `[1, 3, S, S]` in [0, 1]; kept in eight bits.
    """

    def __init__(
        self,
        data: CapturePairs,
        folder: Path,
        tokenizer: Any,
        size: int,
        control: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(data, folder, tokenizer, size)
        self.controls = [path.with_stem(f"{path.stem}_control") for path in self.paths]
        self.control_transform = transforms.Compose(self.transform.transforms[:-1])
        for row, path in enumerate(self.controls):
            image = control(data[row]["reference"][None])[0]
            _written((image * 255).round().to(torch.uint8).cpu(), path)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        """As there, and `conditioning_pixel_values` in [0, 1]."""
        with Image.open(self.controls[item[0]]) as picture:
            control = self.control_transform(picture.convert("RGB"))
        return {**super().__getitem__(item), "conditioning_pixel_values": control}


def _written(image: Tensor, path: Path) -> None:
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)


class ScriptStep:
    """Its loss, with the UNet and LoRA of a module of ours (the script's LoRA is peft's too).

    Args:
        module: Of whose pipeline it has copies of autoencoder and text encoder.
        dtype: Of these copies.
        autocast: Makes the context that the UNet runs in.
    """

    def __init__(
        self, module: LatentDiffusionModule, dtype: torch.dtype, autocast: Callable[[], Any]
    ) -> None:
        from diffusers import DDPMScheduler

        self.module, self.dtype, self.autocast = module, dtype, autocast
        self.scheduler = DDPMScheduler.from_config(module.pipeline.scheduler.config)
        self.vae = copy.deepcopy(module.pipeline.vae).to(dtype)
        self.text = copy.deepcopy(module.pipeline.text_encoder).to(dtype)

    def loss(self, batch: dict[str, Any], seeds: Tensor | None) -> Tensor:
        """Of noise that it draws, or that samples' seeds give, as ours do."""
        posterior = self.vae.encode(batch["pixel_values"].to(self.dtype)).latent_dist
        if seeds is None:
            latents = posterior.sample()
        else:
            drawn = normal_like(posterior.mean, seeds, POSTERIOR).to(self.dtype)
            latents = posterior.mean + posterior.std * drawn
        latents = latents * self.vae.config.scaling_factor
        noise, steps = self._drawn(latents, seeds)
        noisy = self.scheduler.add_noise(latents, noise, steps)
        words = self.text(batch["input_ids"])[0]
        predicted = self.predicted(noisy, steps, words, batch)
        return functional.mse_loss(predicted.float(), noise.float())

    def predicted(
        self, noisy: Tensor, steps: Tensor, words: Tensor, batch: dict[str, Any]
    ) -> Tensor:
        """Of the noise."""
        with self.autocast():
            return self.module.unet(noisy, steps, words).sample

    def _drawn(self, latents: Tensor, seeds: Tensor | None) -> tuple[Tensor, Tensor]:
        if seeds is None:
            steps = torch.randint(len(self.scheduler), (len(latents),), device=latents.device)
            return torch.randn_like(latents), steps
        noise = normal_like(latents, seeds, NOISE).to(self.dtype)
        return noise, self.module.objective.timesteps(seeds).to(latents.device)


class ControlNetScriptStep(ScriptStep):
    """The loss of `train_controlnet.py`, with the UNet and ControlNet of a module of ours."""

    def predicted(
        self, noisy: Tensor, steps: Tensor, words: Tensor, batch: dict[str, Any]
    ) -> Tensor:
        """Of the noise, with the control that was read from a file."""
        control = batch["conditioning_pixel_values"].to(self.dtype)
        with self.autocast():
            down, middle = self.module.controlnet(
                noisy, steps, encoder_hidden_states=words, controlnet_cond=control,
                return_dict=False,
            )  # fmt: skip
            return self.module.unet(
                noisy,
                steps,
                encoder_hidden_states=words,
                down_block_additional_residuals=[sample.to(self.dtype) for sample in down],
                mid_block_additional_residual=middle.to(self.dtype),
            ).sample
