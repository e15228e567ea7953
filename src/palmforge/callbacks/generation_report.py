"""How new, how different and how like real palms a generator's are."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from palmforge.data.generation.plan import image_seed
from palmforge.data.generation.prompted import PromptedDataset
from palmforge.data.generation.prompts import draw_prompts
from palmforge.evaluation.inception import load_inception
from palmforge.metrics.embeddings import embedding_counts
from palmforge.metrics.generation import UNIT_GAMMA, impostor_threshold
from palmforge.metrics.generation_metric import (
    GenerationMetrics,
    ImageDistances,
    RecognizerFeatures,
)
from palmforge.recognition import load_embedding
from palmforge.recognition.embedding import EmbeddingRecognizer


class GenerationReport(L.Callback):
    """At `test`, and at validation if asked: generates palms and logs what they are worth.

    `uniqueness`: share whose nearest other generated palm is no match; `novelty`: share whose
    nearest training palm is none; `diversity` (mean cosine distance) and `vendi`; `fid` and `kid`
    between generated and held-out pictures, on the recogniser's features, or on Inception's. What
    is a match: the threshold at a FAR among training palms. `train.py generator measure` puts the
    same figures of real palms beside them, without which they say little.

    Processes generate a share each; under `WeightEMA` it is the averages that are judged.

    Args:
        num_images: Generated palms.
        recogniser: What `palmforge.recognition.load` takes, of the embedding kind.
        far: False accept rate that fixes the threshold.
        inception: Weights of FID's Inception; null: FID and KID are on the recogniser's features.
        at_validation: Also with each validation.
        num_training: Training palms compared with, a picture each, at most.
        batch_size: Generated at once.
        seed: Of prompts and start noise.
    """

    def __init__(
        self,
        num_images: int = 500,
        recogniser: str = "synthetic-only",
        far: float = 1e-3,
        inception: str | None = None,
        at_validation: bool = False,
        num_training: int = 2000,
        batch_size: int = 16,
        seed: int = 0,
    ) -> None:
        self.num_images = num_images
        self.recogniser = recogniser
        self.far = far
        self.inception = inception
        self.at_validation = at_validation
        self.num_training = num_training
        self.batch_size = batch_size
        self.seed = seed
        self.prompts = draw_prompts(num_images, seed=seed)
        self._training: Tensor | None = None

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Against the test palms."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._report(trainer, pl_module, datamodule.test, "test")

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Against the validation palms, before `WeightEMA` takes its averages out again."""
        if self.at_validation and not trainer.sanity_checking:
            datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
            self._report(trainer, pl_module, datamodule.val, "val")

    def _report(
        self, trainer: L.Trainer, module: Any, held_out: PromptedDataset, split: str
    ) -> None:
        model = load_embedding(self.recogniser, "GenerationReport.recogniser")
        training = self._embedded_training(trainer, model)
        metrics = GenerationMetrics(self._threshold(training), training)
        if self.inception is None:
            features: Any = RecognizerFeatures(model.embed, training.shape[1])
            distances = ImageDistances(features, kid_gamma=UNIT_GAMMA)
        else:
            distances = ImageDistances(load_inception(self.inception))
        for start in range(trainer.global_rank, len(held_out), trainer.world_size):
            image = held_out.palms[start]["image"][None]
            distances.update(image, torch.tensor([start]), real=True)
        # Whole batches, whoever makes them: a kernel's numbers may depend on the batch.
        batches = range(0, self.num_images, self.batch_size)
        for start in batches[trainer.global_rank :: trainer.world_size]:
            index = range(start, min(start + self.batch_size, self.num_images))
            seeds = [image_seed(self.seed, i) for i in index]
            images = module.sample([self.prompts[i] for i in index], seeds)
            metrics.update(model.embed(images), torch.tensor(index))
            distances.update(images, torch.tensor(index), real=False)
        figures = {**metrics.to(module.device).compute(), **distances.to(module.device).compute()}
        for name in ("recognizer_fid", "recognizer_kid", "num_identities"):
            figures.pop(name, None)  # the former are between generated and *training* palms
        if math.isnan(metrics.threshold):
            figures |= {"uniqueness": math.nan, "novelty": math.nan}
        for name, value in figures.items():
            module.log(f"{split}/{name}", value, sync_dist=True)

    def _embedded_training(self, trainer: L.Trainer, model: EmbeddingRecognizer) -> Tensor:
        """`[M, D]`, a picture an identity; computed once a run."""
        if self._training is None:
            palms = trainer.datamodule.train.palms  # type: ignore[attr-defined]
            labels = np.asarray(palms.labels)
            rows = np.unique(labels, return_index=True)[1][: self.num_training]
            parts = [model.embed(palms[int(row)]["image"][None]) for row in rows]
            self._training = torch.cat(parts)
        return self._training

    def _threshold(self, training: Tensor) -> float:
        """Of the FAR among the training palms; NaN, and a warning, where they are too few."""
        counts = embedding_counts(
            training, np.arange(len(training)), distance="cosine", fars=(self.far,)
        )
        reason = counts.far_refusal(self.far)
        if reason is None:
            return impostor_threshold(counts, self.far)
        rank_zero_warn(f"GenerationReport.far: {reason}; uniqueness and novelty are not told")
        return float("nan")
