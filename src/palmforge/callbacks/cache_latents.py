"""What frozen encoders make of pictures and words is computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from palmforge.data.generation.prompted import PromptedDataset
from palmforge.data.progress import progress_bar
from palmforge.data.tensor_shards import TensorShards
from palmforge.errors import ConfigError

_SHARD = 256  # rows a file: what a killed run loses


class CacheLatents(L.Callback):
    """Keeps latents and prompt embeddings on disk; then encoders leave the GPU.

    Of a picture the posterior's mean and deviation are kept: each step draws a latent of its own. A
    row is named by its *sample* (picture, view, autoencoder, size), never by its place in an epoch.
    Processes encode a share each, picture by picture, that the rows do not depend on who made them;
    nodes that see no common folder fill one each.

    Args:
        directory: Shared; a folder for each autoencoder and text encoder. 8 · C · h · w bytes a
            view: 131 KB at 512 pixels of Stable Diffusion 1.5.
        enabled: `auto`: what can be kept is, and what cannot is told with the reason; `true`: a
            reason against it is an error; `false`: everything is computed in each step.
    """

    def __init__(
        self, directory: str = "data/cache/latents", enabled: Literal["auto"] | bool = "auto"
    ) -> None:
        self.directory = directory
        self.enabled = enabled

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fills the cache, and gives it to the data sets. By then all is on its device.

        Raises:
            ConfigError: If it is asked for and cannot be.
        """
        if self.enabled is False:
            return
        module: Any = pl_module
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        datasets: list[PromptedDataset] = [datamodule.train, datamodule.val]
        latents, words = self._reasons(module, datasets)
        for what, reason in (("latents", latents), ("prompt embeddings", words)):
            if reason and self.enabled is True:
                raise ConfigError(f"CacheLatents.enabled: {what} cannot be kept: {reason}")
            if reason:
                rank_zero_info(f"CacheLatents: {what} are computed in every step: {reason}")
        if not latents:
            self._keep_latents(trainer, module, datasets)
        if not words:
            self._keep_words(trainer, module, datasets)
        if not latents and not words:
            module.encoders.release()

    def _reasons(
        self, module: Any, datasets: Sequence[PromptedDataset]
    ) -> tuple[str | None, str | None]:
        """Why latents, and why prompt embeddings, cannot be kept."""
        latents = words = None
        if datasets[0].palms.views is None:
            latents = "each step shows a new view of its picture. Set data.augmented_views"
        if module.encoders.trains_text:
            words = "the text encoder is trained (model.lora.text_encoder, model.train=full)"
        return latents, words

    def _keep_latents(
        self, trainer: L.Trainer, module: Any, datasets: Sequence[PromptedDataset]
    ) -> None:
        folder = Path(self.directory) / f"latents-{module.encoders.images_digest()}"
        shards = TensorShards(folder, "CacheLatents.directory")
        items = {d.palms.key(item): (d, item) for d in datasets for item in d.all_views()}

        def encode(key: str) -> dict[str, Tensor]:
            dataset, item = items[key]
            image = dataset.palms[item]["image"][None]
            encoded: dict[str, Tensor] = module.encoders.images(image, module.device)
            return encoded

        _fill(trainer, shards, list(items), encode, "latents")
        for dataset in datasets:
            dataset.latents = shards

    def _keep_words(
        self, trainer: L.Trainer, module: Any, datasets: Sequence[PromptedDataset]
    ) -> None:
        folder = Path(self.directory) / f"words-{module.encoders.prompts_digest()}"
        shards = TensorShards(folder, "CacheLatents.directory")
        prompts = sorted({prompt for dataset in datasets for prompt in dataset.all_prompts()})

        def encode(prompt: str) -> dict[str, Tensor]:
            encoded: dict[str, Tensor] = module.encoders.prompts([prompt], module.device)
            return encoded

        _fill(trainer, shards, prompts, encode, "prompts")
        for dataset in datasets:
            dataset.embeddings = shards


def _fill(
    trainer: L.Trainer,
    shards: TensorShards,
    keys: Sequence[str],
    encode: Callable[[str], dict[str, Tensor]],
    what: str,
) -> None:
    """Each process its share; what a node does not see of the others' it makes itself."""
    groups = (
        (trainer.global_rank, trainer.world_size),
        (trainer.local_rank, max(1, trainer.world_size // max(1, trainer.num_nodes))),
    )
    for rank, of in groups:
        shards.refresh()
        missing = shards.missing(keys)
        trainer.strategy.barrier(f"{what} counted")  # or a fast one's rows would not be missing
        mine = missing[rank::of]
        for start in range(0, len(mine), _SHARD):
            some = mine[start : start + _SHARD]
            bar = f"{start + len(some):,} of {len(mine):,} {what} encoded"
            rows = [encode(key) for key in progress_bar(some, bar, len(some))]
            if start == 0:
                shards.check_room(rows[0], len(mine))
            shards.add(some, {name: torch.cat([row[name] for row in rows]) for name in rows[0]})
        trainer.strategy.barrier(f"{what} encoded")
    shards.refresh()
