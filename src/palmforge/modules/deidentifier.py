"""De-identification: palms repainted after their own look, without training (paper 001)."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from palmforge.data.deidentification.photographs import Hand, Photograph
from palmforge.data.generation.output import checkpoint_digest
from palmforge.errors import CheckpointError, ConfigError
from palmforge.modules.exemplar_inpainting import (
    AUTHORS,
    PAPER,
    Fusion,
    InpaintingSettings,
    Unmasked,
    inpaint_with_exemplar,
)
from palmforge.modules.paint_by_example import PaintByExample, load_paint_by_example

PRESETS = {"paper": PAPER, "authors": AUTHORS}
_PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


class Deidentifier(L.LightningModule):
    """A Paint-by-Example that repaints the palms of photographs.

    For `predict` alone, with a `DeidentificationDataModule`, which cuts hands, masks and exemplars,
    and a `DeidentificationWriter`, which pastes the palms back.

    Args:
        pretrained_model_name_or_path: A Paint-by-Example: a hub id, or a folder in its layout.
        revision: Of the hub's repository.
        preset: Of the settings below: `paper`, as it is written; `authors`: their code, where it
            differs. What is given below wins over it.
        alpha: α of Eq. 2, in [0, 1]: how much of the palm the model sees.
        fusion: Of exemplars, `mean` (Eq. 1) or `tokens`.
        unmasked: Latents outside the mask: `original`, `background` or `free`.
        num_inference_steps: Of the scheduler.
        guidance_scale: Of the exemplars; 1: none.
        eta: Of DDIM.
        scheduler: A class of diffusers (DDIMScheduler, PNDMScheduler is PLMS); null: the model's.
        image_size: Side of a hand's crop, in pixels. Linked to the data's.
    """

    brings_checkpoints = True  # `predict` needs no --ckpt_path

    def __init__(
        self,
        pretrained_model_name_or_path: str,
        revision: str | None = None,
        preset: Literal["paper", "authors"] = "paper",
        alpha: float | None = None,
        fusion: Fusion | None = None,
        unmasked: Unmasked | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        eta: float | None = None,
        scheduler: str | None = None,
        image_size: int = 512,
    ) -> None:
        super().__init__()
        if preset not in PRESETS:
            raise ConfigError(f"model.preset: {preset!r} is neither paper nor authors")
        given = {
            "alpha": alpha, "fusion": fusion, "unmasked": unmasked, "eta": eta,
            "num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale,
        }  # fmt: skip
        changes: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
        self.pretrained_model_name_or_path = pretrained_model_name_or_path
        self.revision = revision
        self.settings: InpaintingSettings = replace(PRESETS[preset], **changes)
        self.scheduler = scheduler
        self.image_size = image_size
        self.parts: PaintByExample | None = None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Of `--ckpt_path`.

        Raises:
            CheckpointError: Always.
        """
        raise CheckpointError(
            "ckpt_path: Deidentifier takes its weights by model.pretrained_model_name_or_path; "
            "leave --ckpt_path out"
        )

    def load_pretrained(self, resuming: bool) -> None:
        """Of `fit`.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError("Deidentifier has nothing to train; use predict")

    def configure_model(self) -> None:
        """Loads all parts, frozen; once.

        Raises:
            CheckpointError: If they cannot be had.
            ConfigError: An unknown scheduler, or a size or precision that the parts do not take.
        """
        if self.parts is not None:
            return
        if self._trainer is not None and self.trainer.precision not in _PRECISIONS:
            raise ConfigError(
                f"trainer.precision: {self.trainer.precision} is none of {', '.join(_PRECISIONS)}: "
                "what is sampled stays float32"
            )
        parts = load_paint_by_example(self.pretrained_model_name_or_path, self.revision)
        multiple = parts.vae_scale_factor * 2 ** (len(parts.unet.config.block_out_channels) - 1)
        if self.image_size % multiple:
            raise ConfigError(f"data.image_size: {self.image_size} is no multiple of {multiple}")
        # Not a submodule: Lightning would move it, but knows nothing of the autoencoder's float32.
        self.parts = replace(parts, scheduler=self._make_scheduler(parts.scheduler))

    def _make_scheduler(self, own: Any) -> Any:
        import diffusers

        if self.scheduler is None:
            return own
        kind = getattr(diffusers, self.scheduler, None)
        if not (isinstance(kind, type) and issubclass(kind, diffusers.SchedulerMixin)):
            raise ConfigError(f"model.scheduler: diffusers has no scheduler {self.scheduler!r}")
        return kind.from_config(own.config)  # type: ignore[attr-defined]

    def on_predict_start(self) -> None:
        """Moves the parts to this process's device."""
        assert self.parts is not None
        for network in (self.parts.unet, self.parts.vae, self.parts.image_encoder):
            network.to(self.device)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """A group of a `DeidentificationPlan`, repainted.

        Returns:
            `photographs`: B; `repainted`: for each of them, of each hand, of each variant, `[3, S,
            S]` uint8, or None where what came out is not finite.
        """
        photographs: list[Photograph] = batch["photographs"]
        jobs = [
            (hand, seed)
            for photograph in photographs
            for hand in photograph.hands
            for seed in hand.seeds
        ]
        made: list[Tensor | None] = []
        for part in _evenly(jobs, batch["batch_size"]):
            made += self.repaint([hand for hand, _ in part], [seed for _, seed in part])
        results = iter(made)
        repainted = [
            [[next(results) for _ in hand.seeds] for hand in photograph.hands]
            for photograph in photographs
        ]
        return {"photographs": photographs, "repainted": repainted}

    @torch.no_grad()
    def repaint(self, hands: list[Hand], seeds: list[int]) -> list[Tensor | None]:
        """Hands at once, each with a seed → `[3, S, S]` uint8 on the CPU; None: not finite."""
        assert self.parts is not None
        exemplars = self.parts.embed(torch.stack([hand.exemplars for hand in hands]))
        found = inpaint_with_exemplar(
            self.parts,
            torch.stack([hand.image for hand in hands]),
            torch.stack([hand.mask for hand in hands]),
            exemplars,
            seeds,
            self.settings,
        )
        # A picture of which one number is none would be black where the palm was, or worse.
        finite = torch.isfinite(found).flatten(1).all(1).tolist()
        pixels = found.nan_to_num().mul(255).round().to(torch.uint8).cpu()
        return [picture if fine else None for picture, fine in zip(pixels, finite, strict=True)]

    @property
    def provenance(self) -> dict[str, str | int | float | None]:
        """What decides the results, besides the data: a setting each."""
        return {
            "model": self.pretrained_model_name_or_path,
            "revision": self.revision,
            "scheduler": self.scheduler or "own",
            "precision": str(self.trainer.precision) if self._trainer is not None else "32-true",
            **asdict(self.settings),
        }

    def digests(self) -> dict[str, str | None]:
        """SHA-256 of the model's files, where they are in a folder."""
        path = Path(self.pretrained_model_name_or_path)
        return {"model_sha256": checkpoint_digest(path) if path.is_dir() else None}


def _evenly(jobs: list[Any], most: int) -> list[list[Any]]:
    """In parts of at most so many, which differ by one at most."""
    count = -(-len(jobs) // most)
    bounds = [len(jobs) * part // count for part in range(count + 1)] if count else []
    return [jobs[a:b] for a, b in pairwise(bounds)]
