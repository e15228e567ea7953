"""The DataModule of the palm locator: hands with key points → views → loaders."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Dataset, Subset

from palmforge.data import protocols
from palmforge.data.atomic import check_writable
from palmforge.data.embedded import SYNTHETIC, rendered
from palmforge.data.hands.dataset import HandDataset, HandPictures, Views
from palmforge.data.hands.records import Hands, read_hands
from palmforge.data.layouts import Layout, Scan
from palmforge.data.loaders import evaluation_loader, training_loader
from palmforge.data.protocols import Split
from palmforge.data.records import PalmRecord
from palmforge.data.sampler import IdentityBatchSampler
from palmforge.data.synthetic import SyntheticPalms


class PeopleDataModule(L.LightningDataModule):
    """Hands with points; people are disjoint between train, validation and test.

    What is made of a picture is a subclass's: it sets `train`, `val` and `test`, and keeps its
    settings as they are called below.
    """

    protocol = "open_set"

    root: str
    layout: Layout
    domains: list[str] | None
    fractions: tuple[float, float, float]
    split_seed: int
    eval_batch_size: int
    max_eval_images: int
    num_workers: int
    synthetic: SyntheticPalms
    synthetic_dir: str
    val: Dataset[Any]
    test: Dataset[Any]

    @cached_property
    def folder(self) -> str:
        """`root`; that of the embedded data set, which is rendered if it is not there yet."""
        if self.root != SYNTHETIC:
            return self.root
        return rendered(self.synthetic, self.synthetic_dir, self.num_workers)

    @cached_property
    def hands(self) -> Hands:
        """What `root` holds."""
        return read_hands(self.folder, self.layout, self.domains)

    @property
    def scan(self) -> Scan:
        """The records of `root`."""
        return self.hands.scan

    @property
    def problems(self) -> dict[str, str]:
        """Path → what is wrong with it."""
        return self.hands.scan.problems

    @cached_property
    def split(self) -> Split:
        """People for train, validation and test."""
        return protocols.open_set(self.scan.records, self.fractions, self.split_seed)

    def val_dataloader(self) -> DataLoader:
        """Pictures of people not trained on; the same each time."""
        return self._eval_loader(self.val)

    def test_dataloader(self) -> DataLoader:
        """Pictures of people neither trained nor chosen on."""
        return self._eval_loader(self.test)

    def _eval_loader(self, dataset: Any) -> DataLoader:
        step = max(1, -(-len(dataset) // self.max_eval_images))
        chosen = Subset(dataset, range(0, len(dataset), step))
        return evaluation_loader(chosen, self.eval_batch_size, self.num_workers, self.trainer)


class HandDataModule(PeopleDataModule):
    """Random views of whole hands, for the palm detector or the landmark network.

    Batches are dicts; see `palmforge.data.hands.dataset.HandDataset`. People are disjoint between
    train, validation and test.

    Args:
        root: The data set: a directory written by `train.py data synthesize` (manifest.parquet,
            21 points as well), or any photographs with the 14 key points (`PalmDataModule`).
            `synthetic` is a small embedded one, rendered at first use: enough to try it.
        layout: How files lie under `root` where there is no manifest.
        domains: Only these domains (presets); null for all.
        views: What is made of a picture: `detector` or `landmarks`.
        image_size: Side of a view in pixels, a multiple of 32.
        fractions: Of people, for train, validation and test.
        split_seed: Who goes where.
        max_side: Larger photographs are kept reduced to this many pixels.
        cache_dir: Where.
        identities_per_batch: Palms in the global batch (over all GPUs).
        images_per_identity: Pictures of each of them.
        eval_batch_size: Views a step and a process in validation and test.
        max_eval_images: Validation and test take as many, evenly spaced; their views are the same
            each time.
        num_workers: DataLoader processes.
        seed: Of views. Linked to `seed_everything`.
        synthetic: The embedded data set, for `root=synthetic`.
        synthetic_dir: Where it is rendered to.
    """

    def __init__(
        self,
        root: str = SYNTHETIC,
        layout: Layout = "auto",
        domains: list[str] | None = None,
        views: Views = "landmarks",
        image_size: int = 160,
        fractions: tuple[float, float, float] = (0.9, 0.05, 0.05),
        split_seed: int = 0,
        max_side: int = 640,
        cache_dir: str = "data/cache",
        identities_per_batch: int = 64,
        images_per_identity: int = 1,
        eval_batch_size: int = 64,
        max_eval_images: int = 512,
        num_workers: int = 1,
        seed: int = 0,
        synthetic: SyntheticPalms = SyntheticPalms(),  # noqa: B008  (frozen)
        synthetic_dir: str = "data/synthetic",
    ) -> None:
        super().__init__()
        self.root = root
        self.layout = layout
        self.domains = domains
        self.views = views
        self.image_size = image_size
        self.fractions = fractions
        self.split_seed = split_seed
        self.max_side = max_side
        self.cache_dir = cache_dir
        self.identities_per_batch = identities_per_batch
        self.images_per_identity = images_per_identity
        self.eval_batch_size = eval_batch_size
        self.max_eval_images = max_eval_images
        self.num_workers = num_workers
        self.seed = seed
        self.synthetic = synthetic
        self.synthetic_dir = synthetic_dir
        self.class_names = ["L", "R"]

    def prepare_data(self) -> None:
        """Finds out early what cannot work; one process a node."""
        check_writable(Path(self.cache_dir).expanduser(), "data.cache_dir")
        assert self.split

    def setup(self, stage: str) -> None:
        """Says what was selected."""
        if "train" in self.__dict__:
            return
        pictures = HandPictures(self.hands.points, self.cache_dir, self.max_side)

        def dataset(records: list[PalmRecord], seed: int) -> HandDataset:
            return HandDataset(records, pictures, self.views, self.image_size, seed)

        self.train = dataset(self.split.train, self.seed)
        # Other runs are compared by these views, so they do not follow the run's seed.
        self.val = dataset(self.split.val, 0x7A1)
        self.test = dataset(self.split.test, 0x7E57)
        rank_zero_info(f"{self.scan.root}:\n{self.split}")

    def train_dataloader(self) -> DataLoader:
        """P × K batches; the same ones for any number of processes and workers."""
        world, rank = (1, 0)
        if self.trainer is not None:
            world, rank = self.trainer.world_size, self.trainer.global_rank
        sampler = IdentityBatchSampler(
            self.train.labels,
            self.identities_per_batch,
            self.images_per_identity,
            self.seed,
            rank,
            world,
        )
        return training_loader(self.train, sampler, self.num_workers, self.trainer)
