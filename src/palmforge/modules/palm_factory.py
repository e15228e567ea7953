"""Identities × captures: both stages and the recogniser that judges what comes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from palmforge.data.digests import checkpoint_digest
from palmforge.data.factory.ledger import CAPTURE
from palmforge.data.factory.plan import WAIT
from palmforge.data.synthetic import dataset as world
from palmforge.data.synthetic.camera import get_preset
from palmforge.data.synthetic.render import render_roi
from palmforge.errors import CheckpointError, ConfigError
from palmforge.metrics.palm_quality import palm_quality
from palmforge.modules.controlnet_files import PRETRAINED, folder_of, read_architecture
from palmforge.modules.identity_controlnet import IdentityControlNet, load_controlnet
from palmforge.modules.identity_generator import IdentityGenerator, load_generator
from palmforge.modules.latent_diffusion import Batch
from palmforge.modules.sampling import NoiseSeeds, sample_latents
from palmforge.modules.stable_diffusion import EMBEDDED_PATH
from palmforge.recognition import load_embedding, weights_path

WORLD = "world:"


class PalmFactory(L.LightningModule):
    """New palms from a generator, captures of each from a ControlNet (GenPalm's two stages).

    For `predict` alone, with a `FactoryDataModule`, which says what is kept.

    Args:
        controlnet: A checkpoint of `IdentityControlNet`; a folder of `train.py generator export`;
            `pretrained`: the one of the package, for 64 pixels.
        generator: Where palms come from: a checkpoint of `IdentityGenerator`; `pretrained`: the
            embedded one; `world:PRESET` (`world:wild`, `world:IF`): the synthetic world's, of whose
            pictures only what the ControlNet's conditions take is seen: their creases.
        recogniser: Of the embedding kind. Judges consistency and uniqueness; to judge the set,
            take another one.
        similarity: m in [-1, 1] of the captures; null: the ControlNet's own. Needs a dial.
        shared_steps: K; null: the ControlNet's own.
        eta: Of DDIM, for captures: sharing needs noise, 1 as much as DDPM; null: the ControlNet's
            own.
        num_inference_steps: Of both stages; null: their own.
        guidance_scale: Of the words, for captures; null: the ControlNet's own.
        control_guidance_scale: Of the palm; null: the ControlNet's own.
        averaged: Weights of `WeightEMA`, where a checkpoint has them.
        image_size: Pixels a side; both must have been trained for it.
    """

    brings_checkpoints = True  # `predict` needs no --ckpt_path
    makes_sets = True  # for `FactoryWriter`

    def __init__(
        self,
        controlnet: str = PRETRAINED,
        generator: str = PRETRAINED,
        recogniser: str = "synthetic-only",
        similarity: float | None = None,
        shared_steps: int | None = None,
        eta: float | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        control_guidance_scale: float | None = None,
        averaged: bool = True,
        image_size: int = 512,
    ) -> None:
        super().__init__()
        if similarity is not None and not -1 <= similarity <= 1:
            raise ConfigError(f"model.similarity: {similarity} is not in [-1, 1]")
        if num_inference_steps is not None and num_inference_steps < 1:
            raise ConfigError(f"model.num_inference_steps: {num_inference_steps} is less than 1")
        if shared_steps is not None and shared_steps < 0:
            raise ConfigError(f"model.shared_steps: {shared_steps} is less than 0")
        if eta is not None and not 0 <= eta <= 1:
            raise ConfigError(f"model.eta: {eta} is not in [0, 1]")
        if generator.startswith(WORLD):
            try:
                get_preset(generator.removeprefix(WORLD))
            except ValueError as error:
                raise ConfigError(f"model.generator: {error}") from error
        self.controlnet_path = controlnet
        self.generator_path = generator
        self.recogniser_path = recogniser
        self.similarity = similarity
        self.shared_steps = shared_steps
        self.eta = eta
        self.num_inference_steps = num_inference_steps
        self.guidance_scale = guidance_scale
        self.control_guidance_scale = control_guidance_scale
        self.averaged = averaged
        self.image_size = image_size
        self.controlnet: IdentityControlNet | None = None
        self.generator: IdentityGenerator | None = None

    def load_pretrained(self, resuming: bool) -> None:
        """Of `fit`.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError("PalmFactory has nothing to train; use predict")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Of `--ckpt_path`.

        Raises:
            CheckpointError: Always.
        """
        raise CheckpointError(
            "ckpt_path: PalmFactory takes its checkpoints by model.controlnet and model.generator; "
            "leave --ckpt_path out"
        )

    def setup(self, stage: str) -> None:
        """Before anything is loaded.

        Raises:
            ConfigError: If the data is of no factory, or nobody keeps the pictures.
        """
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if not hasattr(datamodule, "check_kept"):
            raise ConfigError(
                f"data: PalmFactory is for FactoryDataModule, not for {type(datamodule).__name__}"
            )
        datamodule.check_kept()

    def configure_model(self) -> None:
        """Loads all parts; once.

        Raises:
            CheckpointError: If one is missing or of another model.
            ConfigError: If sizes differ, there is no dial for `similarity`, or K cannot be.
        """
        if self.controlnet is not None:
            return
        self._check_parts()
        self.recogniser = load_embedding(self.recogniser_path, "model.recogniser")  # the smallest
        self.controlnet = self._prepared(load_controlnet(self.controlnet_path, self.averaged))
        for name in ("guidance_scale", "control_guidance_scale", "eta"):
            if getattr(self, name) is not None:
                setattr(self.controlnet, name, getattr(self, name))
        self._check_dial(self.controlnet.has_dial)
        self._check_shared_steps(self.controlnet)
        if not self.generator_path.startswith(WORLD):
            self.generator = self._prepared(self._load_generator())

    def _check_parts(self) -> None:
        """What can be known to be wrong without loading a model."""
        folder = folder_of(self.controlnet_path)
        if not folder.exists():
            raise CheckpointError(
                f"model.controlnet: no checkpoint {self.controlnet_path!r}; train one: "
                "train.py fit --config configs/experiment/identity_controlnet_tiny.yaml"
            )
        if folder.is_dir():
            told = read_architecture(folder)
            self._check_size(told.get("image_size"), IdentityControlNet.__name__)
            self._check_dial(told.get("similarity_weight", 0.0) > 0)
        named = self.generator_path == PRETRAINED or self.generator_path.startswith(WORLD)
        if not named and not Path(self.generator_path).is_file():
            raise CheckpointError(
                f"model.generator: no checkpoint {self.generator_path!r}; or give pretrained, or "
                "world:PRESET"
            )

    def _check_size(self, trained: int | None, part: str) -> None:
        if trained != self.image_size:
            raise ConfigError(
                f"data.image_size: {self.image_size}, but {part} was trained for {trained} pixels"
            )

    def _check_dial(self, has_dial: bool) -> None:
        if self.similarity is not None and not has_dial:
            raise ConfigError(
                f"model.similarity: {self.controlnet_path} has no dial; train one with "
                "--model.similarity_weight=0.05"
            )

    def _check_shared_steps(self, controlnet: IdentityControlNet) -> None:
        """By a trial without networks: else it would be known when all palms are drawn."""
        shared = controlnet.shared_steps if self.shared_steps is None else self.shared_steps
        sample_latents(
            controlnet.pipeline.scheduler, lambda noisy, t: torch.zeros_like(noisy), (1, 4, 2, 2),
            torch.device("cpu"), controlnet.num_inference_steps, NoiseSeeds([0], [0], shared),
            controlnet.eta,
        )  # fmt: skip

    def _load_generator(self) -> IdentityGenerator:
        if self.generator_path == PRETRAINED:
            generator = IdentityGenerator(image_size=self.image_size)
            generator.configure_model()
            return generator.eval()
        return load_generator(self.generator_path, self.averaged)

    def _prepared(self, part: Any) -> Any:
        self._check_size(part.image_size, type(part).__name__)
        if self.num_inference_steps is not None:
            part.num_inference_steps = self.num_inference_steps
        if self._trainer is not None:
            part.trainer = self._trainer
            part.configure_model()  # again, for the trainer's precision
        return part

    def predict_step(self, batch: Batch, batch_idx: int) -> Batch:
        """A batch of a `FactoryPlan` → `image` `[B, 3, S, S]` uint8, and a row of scores each."""
        if batch["kind"] == WAIT:
            return {"kind": WAIT}
        make = self._captures if batch["kind"] == CAPTURE else self._palms
        images = make(batch)
        with torch.autocast(self.device.type, enabled=False):
            embeddings = self.recogniser.embed(images.to(self.device)).cpu()
            quality = palm_quality(images.to(self.device))
        scores = {name: values.tolist() for name, values in quality.items()}
        if batch["kind"] == CAPTURE:
            scores["cosine"] = (embeddings @ batch["reference_embedding"]).clamp(-1, 1).tolist()
        else:
            scores["embedding"] = embeddings.tolist()
        columns = zip(*scores.values(), strict=True)
        rows = [dict(zip(scores, values, strict=True)) for values in columns]
        return {"kind": batch["kind"], "job": batch["job"], "image": images, "rows": rows}

    def _captures(self, batch: Batch) -> Tensor:
        assert self.controlnet is not None
        return self.controlnet.sample(
            batch["prompt"], batch["seed"], batch["reference"], batch["identity_seed"],
            self.similarity, self.shared_steps,
        )  # fmt: skip

    def _palms(self, batch: Batch) -> Tensor:
        if self.generator is not None:
            return self.generator.sample(batch["prompt"], batch["seed"])
        preset = self.generator_path.removeprefix(WORLD)
        size, seed = self.image_size, batch["set_seed"]
        pictures = [render_roi(c, 1, preset, size, seed)[0] for c in batch["identity"]]
        return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())

    @property
    def provenance(self) -> dict[str, str | int | float]:
        """What decides the pictures, besides prompts, seeds and filters: a column each."""
        assert self.controlnet is not None
        told: dict[str, str | int | float] = {
            "controlnet": self.controlnet_path,
            "generator": self.generator_path,
            "recogniser": self.recogniser_path,
            "averaged": self.averaged,
            **{f"controlnet.{k}": v for k, v in self.controlnet.provenance.items()},
        }
        for name in ("similarity", "shared_steps"):
            if getattr(self, name) is not None:
                told[f"controlnet.{name}"] = getattr(self, name)
        if self.generator is not None:
            told |= {f"generator.{k}": v for k, v in self.generator.provenance.items()}
        return told

    def digests(self) -> dict[str, str | int | None]:
        """SHA-256 of the weights that `provenance` calls by name; None: of the synthetic world."""
        packaged = self.generator_path == PRETRAINED
        paths = {
            "controlnet": folder_of(self.controlnet_path),
            "generator": EMBEDDED_PATH if packaged else Path(self.generator_path),
            "recogniser": weights_path(self.recogniser_path),
        }
        told: dict[str, str | int | None] = {
            f"{name}_sha256": checkpoint_digest(path) if path.exists() else None
            for name, path in paths.items()
        }
        for name, part in (("controlnet", self.controlnet), ("generator", self.generator)):
            own = {} if part is None else part.digests()  # what its checkpoint stands on
            own.pop(f"{name}_sha256", None)
            told |= {f"{name}.{key}": value for key, value in own.items() if value is not None}
        if self.generator_path.startswith(WORLD):
            told["world_version"] = world.FORMAT_VERSION
        return told
