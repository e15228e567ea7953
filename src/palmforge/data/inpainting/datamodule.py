"""The DataModule of exemplar inpainting: hands → holes and exemplars → loaders."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from palmforge.data.atomic import check_writable
from palmforge.data.deidentification.crops import Around
from palmforge.data.embedded import SYNTHETIC
from palmforge.data.hands.datamodule import PeopleDataModule
from palmforge.data.hands.dataset import HandPictures
from palmforge.data.hands.records import MANIFEST, Hands, read_hands
from palmforge.data.inpainting.dataset import HoleDataset, HoleSettings
from palmforge.data.inpainting.photographs import find_hands
from palmforge.data.layouts import Layout
from palmforge.data.loaders import training_loader
from palmforge.data.records import PalmRecord
from palmforge.data.sampler import IdentityBatchSampler
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import ConfigError, DataError

_VAL, _TEST = 0x7A1, 0x7E57  # their samples do not follow the run's seed: runs are compared by them


class InpaintingDataModule(PeopleDataModule):
    """Squares around hands, masks on them, and exemplars of what is masked (Yang et al. 2023).

    Batches are dicts: `image [N, 3, S, S]` uint8 RGB, `mask [N, 1, S, S]` bool (True: hidden),
    `exemplar [N, 3, s, s]` uint8, `index`, `seed` `[N]`. People are disjoint between train,
    validation and test. An epoch shows each palm once, in one of its pictures.

    Args:
        root: A directory written by `train.py data synthesize` (manifest.parquet: its own points
            are taken); or photographs of hands, in any known layout or none: `localizer` finds the
            points. `synthetic` is an embedded one, rendered at first use.
        layout: How photographs lie under `root` (`PalmDataModule`); `auto` takes any folder.
        domains: Only these; null for all.
        localizer: Of photographs: `default`, a path, `python:module:function`. What it finds is
            kept.
        image_size: Side of the pictures in pixels.
        exemplar_size: Side of the exemplars, before the encoder's own preparation.
        margins: Around a hand, on each side, as a share of its length: from, to.
        around: What a picture shows: `hand`, or `palm` and what is next to it, for a small model.
        free_form: Share of masks that are boxes and polygons anywhere on the hand; the others are
            like palms.
        mirror: Show half of the hands as the other hand.
        fractions: Of people, for train, validation and test.
        split_seed: Who goes where.
        max_side: Larger photographs are kept reduced to so many pixels.
        cache_dir: Where, and the points.
        batch_size: Pictures in the global batch (over all GPUs), each of another palm.
        eval_batch_size: Pictures a step and a process in validation and test.
        max_eval_images: Validation and test take so many, evenly spaced.
        num_workers: DataLoader processes.
        seed: Of all samples. Linked to `seed_everything`.
        synthetic: The embedded data set, for `root=synthetic`; whole hands.
        synthetic_dir: Where it is rendered to.
    """

    def __init__(
        self,
        root: str = SYNTHETIC,
        layout: Layout = "auto",
        domains: list[str] | None = None,
        localizer: str = "default",
        image_size: int = 512,
        exemplar_size: int = 128,
        margins: tuple[float, float] = (0.05, 0.3),
        around: Around = "hand",
        free_form: float = 0.3,
        mirror: bool = True,
        fractions: tuple[float, float, float] = (0.9, 0.05, 0.05),
        split_seed: int = 0,
        max_side: int = 1280,
        cache_dir: str = "data/cache",
        batch_size: int = 8,
        eval_batch_size: int = 8,
        max_eval_images: int = 64,
        num_workers: int = 2,
        seed: int = 0,
        synthetic: SyntheticPalms = SyntheticPalms(),  # noqa: B008  (frozen)
        synthetic_dir: str = "data/synthetic",
    ) -> None:
        super().__init__()
        if not 0 <= free_form <= 1:
            raise ConfigError(f"data.free_form: {free_form} is not in [0, 1]")
        if not 0 <= margins[0] <= margins[1] <= 2:
            raise ConfigError(f"data.margins: {margins} are not two shares in [0, 2], in order")
        if min(image_size, exemplar_size) < 16:
            raise ConfigError(
                f"data.image_size, data.exemplar_size: {image_size} and {exemplar_size} pixels; "
                "at least 16 are needed"
            )
        if synthetic.what != "hands":
            raise ConfigError("data.synthetic.what: rois show no hand; it must be hands")
        self.root = root
        self.layout = layout
        self.domains = domains
        self.localizer = localizer
        self.image_size = image_size
        self.settings = HoleSettings(
            image_size, exemplar_size, (margins[0], margins[1]), free_form=free_form, mirror=mirror,
            around=around,
        )  # fmt: skip
        self.fractions = fractions
        self.split_seed = split_seed
        self.max_side = max_side
        self.cache_dir = cache_dir
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.max_eval_images = max_eval_images
        self.num_workers = num_workers
        self.seed = seed
        self.synthetic = synthetic
        self.synthetic_dir = synthetic_dir

    @cached_property
    def hands(self) -> Hands:
        """What `root` holds, with points; what cannot be used is among the problems."""
        if not (Path(self.folder).expanduser() / MANIFEST).is_file():
            return find_hands(
                self.folder, self.layout, self.domains, self.localizer, self.cache_dir,
                self.num_workers,
            )  # fmt: skip
        hands = read_hands(self.folder, self.layout, self.domains)
        for record in hands.scan.records:
            if not os.path.isfile(record.path):
                hands.scan.problems[record.path] = "left out: no such file"
        missing = hands.scan.problems
        hands.scan.records = [r for r in hands.scan.records if r.path not in missing]
        return hands

    def prepare_data(self) -> None:
        """Renders, or looks for hands; and finds out what cannot work. One process a node."""
        check_writable(Path(self.cache_dir).expanduser(), "data.cache_dir")
        self._sampler(self._dataset(self.split.train, self.seed))

    def setup(self, stage: str) -> None:
        """Says what was selected, and what was left out."""
        if "train" in self.__dict__:
            return
        if stage == "predict":
            raise ConfigError("InpaintingDataModule: for training; Deidentifier predicts")
        self.train = self._dataset(self.split.train, self.seed)
        self.val = self._dataset(self.split.val, _VAL)
        self.test = self._dataset(self.split.test, _TEST)
        rank_zero_info(f"{self.scan.root}:\n{self.split}")
        if self.problems:
            path, reason = next(iter(self.problems.items()))
            rank_zero_warn(
                f"{len(self.problems)} paths of {self.scan.root} are left out (problems.csv); "
                f"first {path}: {reason}"
            )

    def train_dataloader(self) -> DataLoader:
        """The same batches for any number of processes and workers."""
        sampler = self._sampler(self.train)
        return training_loader(self.train, sampler, self.num_workers, self.trainer)

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Seeds stay on the CPU, where they are read: to look into a GPU's memory is to wait."""
        others = {name: value for name, value in batch.items() if name != "seed"}
        moved = super().transfer_batch_to_device(others, device, dataloader_idx)
        return {**moved, "seed": batch["seed"]}

    def _dataset(self, records: list[PalmRecord], seed: int) -> HoleDataset:
        if not records:
            raise DataError(f"{self.scan.root}: no hand is left of this part of the people")
        pictures = HandPictures(self.hands.points, self.cache_dir, self.max_side)
        return HoleDataset(records, pictures, self.settings, seed)

    def _sampler(self, dataset: HoleDataset) -> IdentityBatchSampler:
        return IdentityBatchSampler(
            dataset.labels,
            self.batch_size,
            images_per_identity=1,
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer is not None else 0,
            world_size=self.trainer.world_size if self.trainer is not None else 1,
            least_identities=1,
            setting="data.batch_size",
        )
