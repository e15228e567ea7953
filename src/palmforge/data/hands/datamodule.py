"""The DataModule of the palm locator: hands with key points → views → loaders."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import lightning as L
from filelock import FileLock
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Subset

from palmforge.data import protocols
from palmforge.data.atomic import check_writable
from palmforge.data.dataset import limit_threads
from palmforge.data.hands.dataset import HandDataset, HandPictures, Views
from palmforge.data.hands.records import Hands, read_hands
from palmforge.data.layouts import Scan
from palmforge.data.protocols import Split
from palmforge.data.records import PalmRecord
from palmforge.data.sampler import IdentityBatchSampler, ResumableLoader
from palmforge.data.synthetic import SyntheticPalms

SYNTHETIC = "synthetic"


class HandDataModule(L.LightningDataModule):
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

    protocol = "open_set"

    def __init__(
        self,
        root: str = SYNTHETIC,
        layout: Literal["auto", "xjtu_up", "folder"] = "auto",
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

    @cached_property
    def hands(self) -> Hands:
        """What `root` holds."""
        root = self._render_synthetic() if self.root == SYNTHETIC else self.root
        return read_hands(root, self.layout, self.domains)

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
        return ResumableLoader(
            self.train,
            batch_size=self.identities_per_batch * self.images_per_identity // world,
            sampler=sampler,
            drop_last=True,
            **self._loader_settings(),
        )

    def val_dataloader(self) -> DataLoader:
        """Views of people not trained on."""
        return self._eval_loader(self.val)

    def test_dataloader(self) -> DataLoader:
        """Views of people neither trained nor chosen on."""
        return self._eval_loader(self.test)

    def _eval_loader(self, dataset: HandDataset) -> DataLoader:
        step = max(1, -(-len(dataset) // self.max_eval_images))
        chosen = Subset(dataset, range(0, len(dataset), step))
        return DataLoader(chosen, batch_size=self.eval_batch_size, **self._loader_settings())

    def _loader_settings(self) -> dict:
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "worker_init_fn": limit_threads,
            "pin_memory": self.trainer is not None and self.trainer.accelerator is not None
            and "CUDA" in type(self.trainer.accelerator).__name__,
        }  # fmt: skip

    def _render_synthetic(self) -> str:
        palms = self.synthetic
        name = f"{palms.num_identities}x{palms.images_per_identity}-{palms.size}px-seed{palms.seed}"
        root = Path(self.synthetic_dir) / name
        check_writable(root.parent, "data.synthetic_dir")
        with FileLock(f"{root}.lock"):  # whoever comes first renders, the others wait
            palms.write(str(root), num_workers=max(1, self.num_workers))
        return str(root)
