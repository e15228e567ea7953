"""The DataModule of generators: palms with prompts to train on, and a plan of what to generate."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import lightning as L
import torch
from torch.utils.data import DataLoader, Dataset

from palmforge.data.augmentation import Preset
from palmforge.data.datamodule import PalmDataModule
from palmforge.data.dataset import PalmDataset
from palmforge.data.embedded import SYNTHETIC
from palmforge.data.generation.plan import GenerationPlan
from palmforge.data.generation.prompted import PromptedDataset
from palmforge.data.generation.prompts import (
    DEFAULT_TEMPLATES,
    draw_prompts,
    prompts_of,
    read_prompts,
)
from palmforge.data.layouts import Layout
from palmforge.data.loaders import evaluation_loader, training_loader
from palmforge.data.roi_cache import RoiSettings
from palmforge.data.sampler import IdentityBatchSampler
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import ConfigError

_DRAWN = 4096  # prompts of the grammar, gone through again and again: a set can grow


class GenerationDataModule(L.LightningDataModule):
    """Palms of any layout with prompts, in batches of so many identities, one picture of each.

    Batches are dicts: `prompt` (strings), `index`, `seed` `[N]`, and `image [N, 3, S, S]` uint8 RGB
    or what the cache has of it (`CacheLatents`). Identities that train, validate and test are
    disjoint. An epoch shows each identity once.

    `predict` needs no pictures: `plan` says what is generated.

    Args:
        root: The data set, as `PalmDataModule` reads it.
        layout: See there.
        domains: See there.
        protocol: See there; `open_set` keeps identities for validation and test.
        fractions: Of subjects, for train, validation and test.
        split_seed: Who goes where.
        image_size: Side of the pictures, in pixels.
        roi: How ROIs are cut; `source: whole` for pictures that are to be generated as they are.
        localizer: See `PalmDataModule`.
        cache_dir: Where cut ROIs are kept.
        augmentation: `none`, `mild` or `strong`.
        geometric_augmentation: Whether it may move the palm in the picture.
        augmented_views: So many different views of each picture, so that their latents can be kept;
            null: a new one each time, and nothing can be kept.
        templates: Of prompts (`palmforge.data.generation.prompts`).
        caption_dropout: Share of samples without words, for classifier-free guidance.
        batch_size: Pictures in the global batch (over all GPUs).
        eval_batch_size: Pictures a step and a process in validation and test; and how many are
            generated at once.
        prompts: For `predict`: a text file with a prompt a line, or a list; null: new ones of the
            grammar.
        num_identities: For `predict`: how many palms.
        out: For `predict`: where they are written; null: as `ImageWriter.directory` says.
        num_workers: DataLoader processes.
        seed: Of everything. Linked to `seed_everything`.
        synthetic: The embedded data set, for `root=synthetic`.
        synthetic_dir: Where it is rendered to.
    """

    def __init__(
        self,
        root: str = SYNTHETIC,
        layout: Layout = "auto",
        domains: list[str] | None = None,
        protocol: Literal["first_five", "open_set", "cross_domain"] = "open_set",
        fractions: tuple[float, float, float] = (0.9, 0.05, 0.05),
        split_seed: int = 0,
        image_size: int = 512,
        roi: RoiSettings = RoiSettings(size=512),  # noqa: B008  (frozen)
        localizer: str | None = None,
        cache_dir: str = "data/cache",
        augmentation: Preset = "none",
        geometric_augmentation: bool = True,
        augmented_views: int | None = 1,
        templates: list[str] = list(DEFAULT_TEMPLATES),  # noqa: B006  (never changed)
        caption_dropout: float = 0.1,
        batch_size: int = 8,
        eval_batch_size: int = 8,
        prompts: str | list[str] | None = None,
        num_identities: int = 100,
        out: str | None = None,
        num_workers: int = 2,
        seed: int = 0,
        synthetic: SyntheticPalms = SyntheticPalms(what="rois", size=128),  # noqa: B008  (frozen)
        synthetic_dir: str = "data/synthetic",
    ) -> None:
        super().__init__()
        if not 0 <= caption_dropout <= 1:
            raise ConfigError(f"data.caption_dropout must be in [0, 1], got {caption_dropout}")
        self.palms = PalmDataModule(
            root=root, layout=layout, domains=domains, protocol=protocol, fractions=fractions,
            split_seed=split_seed, image_size=image_size, roi=roi, localizer=localizer,
            cache_dir=cache_dir, augmentation=augmentation,
            geometric_augmentation=geometric_augmentation, augmented_views=augmented_views,
            identities_per_batch=batch_size, images_per_identity=1,
            eval_batch_size=eval_batch_size, num_workers=num_workers, seed=seed,
            synthetic=synthetic, synthetic_dir=synthetic_dir,
        )  # fmt: skip
        self.templates = templates
        self.caption_dropout = caption_dropout
        self.prompts = prompts
        self.num_identities = num_identities
        self.out = out
        self.plan: GenerationPlan | None = None

    @property
    def scan(self) -> Any:
        """What `root` holds."""
        return self.palms.scan

    @property
    def split(self) -> Any:
        """What the protocol selected."""
        return self.palms.split

    @property
    def protocol(self) -> str:
        """Its name."""
        return self.palms.protocol

    @property
    def problems(self) -> dict[str, str]:
        """Path → reason, for what is left out."""
        return self.palms.problems

    def prepare_data(self) -> None:
        """Cuts the ROIs that are not cached yet; nothing for `predict`."""
        if self._predicting:
            return
        if self.trainer is not None and self.trainer.state.fn == "fit":
            # Raises for settings that do not fit, before an hour is spent on ROIs.
            self._sampler([self.palms.labels[r.identity] for r in self.split.train])
        self._cut_rois()

    def _cut_rois(self) -> None:
        self.palms.cache.fill(self.scan.records, num_threads=max(1, self.palms.num_workers))

    def _sampler(self, labels: list[int]) -> IdentityBatchSampler:
        return IdentityBatchSampler(
            labels,
            self.palms.identities_per_batch,
            images_per_identity=1,
            seed=self.palms.seed,
            rank=self.trainer.global_rank if self.trainer is not None else 0,
            world_size=self.trainer.world_size if self.trainer is not None else 1,
            least_identities=1,
            setting="data.batch_size",
        )

    def setup(self, stage: str) -> None:
        """Pictures and prompts; or the plan."""
        self.palms.trainer = self.trainer
        if stage == "predict":
            seed, size = self.palms.seed, self.palms.eval_batch_size
            self.plan = GenerationPlan(self._prompts(), self.num_identities, size, seed)
            return
        self.palms.setup(stage)

    def train_dataloader(self) -> DataLoader:
        """The same batches for any number of processes and workers."""
        sampler = self._sampler(self.train.palms.labels)
        return training_loader(self.train, sampler, self.palms.num_workers, self.trainer)

    def val_dataloader(self) -> DataLoader:
        """Validation pictures, with fixed seeds."""
        return self._eval_loader(self.val)

    def test_dataloader(self) -> DataLoader:
        """Test pictures, with fixed seeds."""
        return self._eval_loader(self.test)

    def predict_dataloader(self) -> DataLoader:
        """Whole batches of the plan."""
        assert self.plan is not None
        return DataLoader(self.plan, batch_size=None)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Seeds stay on the CPU, where they are read: to look into a GPU's memory is to wait."""
        if "seed" not in batch:
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        others = {name: value for name, value in batch.items() if name != "seed"}
        moved = super().transfer_batch_to_device(others, device, dataloader_idx)
        return {**moved, "seed": batch["seed"]}

    @cached_property
    def train(self) -> PromptedDataset:
        """Training pictures, of which some go without words."""
        return self._prompted(self.palms.train, self.caption_dropout)

    @cached_property
    def val(self) -> PromptedDataset:
        """Validation pictures."""
        return self._prompted(self.palms.val, 0.0)

    @cached_property
    def test(self) -> PromptedDataset:
        """Test pictures."""
        return self._prompted(self.palms.test, 0.0)

    @property
    def _predicting(self) -> bool:
        return self.trainer is not None and self.trainer.state.fn == "predict"

    def _prompts(self) -> list[str]:
        if self.prompts is not None:
            return read_prompts(self.prompts)
        return draw_prompts(_DRAWN, self.templates, self.palms.seed)

    def _prompted(self, palms: PalmDataset, caption_dropout: float) -> PromptedDataset:
        prompts = prompts_of(palms.records, self.scan.root, self.templates, self.palms.seed)
        return PromptedDataset(palms, prompts, caption_dropout)

    def _eval_loader(self, dataset: Dataset) -> DataLoader:
        size, workers = self.palms.eval_batch_size, self.palms.num_workers
        return evaluation_loader(dataset, size, workers, self.trainer)
