"""De-identification: palms repainted after their own look, without training (paper 001)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from palmforge.data.deidentification.exemplars import SHARES
from palmforge.data.deidentification.methods import Method, check_methods
from palmforge.data.deidentification.photographs import Hand, Photograph
from palmforge.data.digests import checkpoint_digest
from palmforge.errors import CheckpointError, ConfigError
from palmforge.modules.exemplar_inpainting import (
    AUTHORS,
    PAPER,
    Fusion,
    InpaintingSettings,
    Unmasked,
    fuse_exemplars,
    inpaint_with_exemplar,
)
from palmforge.modules.paint_by_example import PaintByExample, load_paint_by_example

PRESETS = {"paper": PAPER, "authors": AUTHORS}
_PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")


class Deidentifier(L.LightningModule):
    """A Paint-by-Example that repaints the palms of photographs.

    With a `DeidentificationDataModule`, which cuts hands, masks and exemplars. `predict`: with a
    `DeidentificationWriter`, which pastes the palms back. `test`: with a `DeidentificationReport`,
    which measures what is left of identity, quality and use.

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
        methods: Rows of the tables of `test`, name → what differs from the settings above. The
            first is the one that is looked at: pictures, diversity, attack. null: it alone.
    """

    brings_checkpoints = True  # neither `predict` nor `test` needs a --ckpt_path

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
        methods: dict[str, Method] | None = None,
    ) -> None:
        super().__init__()
        self.methods = methods or {"de-identified": Method()}
        check_methods(self.methods)
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
        raise ConfigError("Deidentifier has nothing to train; use predict or test")

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

    on_test_start = on_predict_start

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """A group of a `DeidentificationPlan`, repainted.

        Returns:
            `photographs`: B; `repainted`: for each of them, of each hand, of each variant, `[3, S,
            S]` uint8, or None where what came out is not finite.
        """
        photographs: list[Photograph] = batch["photographs"]
        hands = [hand for photograph in photographs for hand in photograph.hands]
        made = iter(self._repainted(hands, None, batch["batch_size"]))
        repainted = [[next(made) for _ in photograph.hands] for photograph in photographs]
        return {"photographs": photographs, "repainted": repainted}

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """The surest hand of each photograph of a group, by each method that repaints.

        Returns:
            `photographs`: B; `repainted`: method → for each photograph, of each variant, as in
            `predict_step`, an empty list where there is no hand. Variants after the first are of
            the first method alone. `embeddings`: for each photograph the fused exemplars of the
            first method, `[D]`, or None.
        """
        photographs: list[Photograph] = batch["photographs"]
        hands = [photograph.hands[0] for photograph in photographs if photograph.hands]
        repainted: dict[str, list[list[Tensor | None]]] = {}
        for number, (name, method) in enumerate(self.methods.items()):
            if method.baseline is not None:
                continue
            chosen = _showing(hands, method.exemplars or batch["exemplars"])
            if number > 0:
                chosen = [replace(hand, seeds=hand.seeds[:1]) for hand in chosen]
            made = iter(self._repainted(chosen, method.alpha, batch["batch_size"]))
            repainted[name] = [next(made) if one.hands else [] for one in photographs]
        first = next(iter(self.methods.values()))
        shown = _showing(hands, first.exemplars or batch["exemplars"])
        fused = iter(self._fused(shown))
        embeddings = [next(fused) if one.hands else None for one in photographs]
        return {"photographs": photographs, "repainted": repainted, "embeddings": embeddings}

    def _repainted(
        self, hands: Sequence[Hand], alpha: float | None, batch_size: int
    ) -> list[list[Tensor | None]]:
        """All variants of each hand, so many at once."""
        jobs = [(hand, seed) for hand in hands for seed in hand.seeds]
        made: list[Tensor | None] = []
        for part in _evenly(jobs, batch_size):
            made += self.repaint([hand for hand, _ in part], [seed for _, seed in part], alpha)
        results = iter(made)
        return [[next(results) for _ in hand.seeds] for hand in hands]

    @torch.no_grad()
    def repaint(
        self, hands: list[Hand], seeds: list[int], alpha: float | None = None
    ) -> list[Tensor | None]:
        """Hands at once, each with a seed → `[3, S, S]` uint8 on the CPU; None: not finite."""
        assert self.parts is not None
        settings = self.settings if alpha is None else replace(self.settings, alpha=alpha)
        exemplars = self.parts.embed(torch.stack([hand.exemplars for hand in hands]))
        found = inpaint_with_exemplar(
            self.parts,
            torch.stack([hand.image for hand in hands]),
            torch.stack([hand.mask for hand in hands]),
            exemplars,
            seeds,
            settings,
        )
        # A picture of which one number is none would be black where the palm was, or worse.
        finite = torch.isfinite(found).flatten(1).all(1).tolist()
        pixels = found.nan_to_num().mul(255).round().to(torch.uint8).cpu()
        return [picture if fine else None for picture, fine in zip(pixels, finite, strict=True)]

    def _fused(self, hands: list[Hand]) -> list[Tensor]:
        """What the UNet is told of each palm (Eq. 1), flat, on the CPU."""
        assert self.parts is not None
        if not hands:
            return []
        exemplars = self.parts.embed(torch.stack([hand.exemplars for hand in hands]))
        return list(fuse_exemplars(exemplars, self.settings.fusion).flatten(1).cpu())

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


def _showing(hands: list[Hand], exemplars: Sequence[str]) -> list[Hand]:
    """With some of s, m, f, which were all cut, in this order."""
    rows = [list(SHARES).index(exemplar) for exemplar in exemplars]
    return [replace(hand, exemplars=hand.exemplars[rows]) for hand in hands]


def _evenly(jobs: list[Any], most: int) -> list[list[Any]]:
    """In parts of at most so many, which differ by one at most."""
    count = -(-len(jobs) // most)
    bounds = [len(jobs) * part // count for part in range(count + 1)] if count else []
    return [jobs[a:b] for a, b in pairwise(bounds)]
